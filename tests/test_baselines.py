import bz2
import sys

import numpy as np
import pytest

from conftest import tiny_config, write_jsonl
from wikigpt.blocks.prepare import prepare, split_texts
from wikigpt.errors import UserError
from wikigpt.evaluation import baselines
from wikigpt.evaluation.baselines import Floor, compressors, floors, floors_table, ngrams


def by_name(validation: bytes, training: bytes = b"") -> dict[str, float]:
    """The first word of a row's name, with "+" where it was primed -> bits per byte."""
    return {
        row.name.split()[0].strip(",") + ("+" if "after" in row.name else ""): row.bits_per_byte
        for row in compressors(validation, training)
    }


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (2, 20_000), np.uint8)


def test_noise_costs_eight_bits_a_byte_with_and_without_other_noise(noise):
    rows = by_name(noise[0].tobytes(), noise[1].tobytes())
    assert set(rows) == {"uniform", "bz2", "zstd", "xz", "PPMd", "zstd+", "xz+", "PPMd+"}
    assert rows.pop("uniform") == 8
    assert all(7.99 < bits < 8.4 for bits in rows.values()), rows


def test_what_training_held_costs_nothing(noise):
    text = noise[0].tobytes()
    rows = by_name(text, noise[1].tobytes() + text)
    # xz pays for each match of at most 273 bytes; PPMd for each byte that might be another.
    assert max(rows["xz+"], rows["zstd+"], rows["PPMd+"]) < 0.5
    assert min(rows["xz"], rows["zstd"], rows["PPMd"]) > 7.99


def test_the_denominator_is_bytes_not_characters():
    text = "é" * 5000 + "ж" * 5000
    assert by_name(text.encode())["bz2"] == 8 * len(bz2.compress(text.encode(), 9)) / 20_000


def test_ppmd_can_be_decoded(leads):
    import pyppmd

    text = leads.read_bytes()[:50_000]
    encoder = pyppmd.Ppmd7Encoder(baselines.PPMD_ORDER, 2**24)
    packed = encoder.encode(text) + encoder.flush()
    assert pyppmd.Ppmd7Decoder(baselines.PPMD_ORDER, 2**24).decode(packed, len(text)) == text
    assert by_name(text)["PPMd"] == 8 * len(packed) / len(text)


def test_without_training_text_nothing_is_primed():
    assert not any(name.endswith("+") for name in by_name(b"un deux trois"))


def test_without_pyppmd_its_rows_are_left_out_and_that_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyppmd", None)
    said = []
    rows = compressors(b"un deux", b"trois", said.append)
    assert not any("PPMd" in row.name for row in rows) and len(rows) == 6
    assert len(said) == 1 and "pip install" in said[0]


def test_a_ppmd_that_forgets_is_told(monkeypatch):
    monkeypatch.setattr(baselines, "PPMD_MEMORY", 2**20)
    said = []
    compressors(b"un deux", b"x" * 40_000, said.append)
    assert len(said) == 1 and "memory is full" in said[0]


def test_no_text_is_an_error():
    with pytest.raises(UserError, match="no validation text"):
        compressors(b"", b"abc")
    with pytest.raises(UserError, match="no validation text"):
        ngrams([""], ["abc"])


def test_the_table_runs_from_worst_to_best_and_takes_models():
    table = floors_table([Floor("ours", 2.0), Floor("uniform bytes", 8.0), Floor("xz", 2.5)])
    assert table.splitlines()[1:] == [
        "    8.000  100.0%  uniform bytes",
        "    2.500   31.2%  xz",
        "    2.000   25.0%  ours",
    ]


def test_the_texts_of_a_split_are_those_of_its_tokens(small_corpus, tmp_path):
    lines = small_corpus.read_bytes().splitlines(keepends=True)
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    files[0].write_bytes(b"".join(lines[:150]))
    files[1].write_bytes(b"".join(lines[100:]))  # 50 articles twice
    config = tiny_config(
        files[0], tmp_path, files=list(map(str, files)), duplicates="drop_exact",
        max_articles=300, validation_fraction=0.2,
    )  # fmt: skip
    texts = {split: list(split_texts(config, split, str)) for split in ("train", "validation")}
    data = prepare(config)
    for split, counts in (("train", data.train_counts), ("validation", data.validation.counts)):
        assert len(texts[split]) == counts.documents
        assert sum(len(text.encode()) for text in texts[split]) == counts.bytes
    end = data.tokenizer.end_of_text_id
    stream = data.validation.tokens(0, 10**9).tolist()
    expected = [end]
    for text in texts["validation"]:
        expected += [*data.tokenizer.encode(text), end]
    assert stream == expected


def test_floors_are_of_the_whole_validation_split(small_corpus, tmp_path):
    config = tiny_config(small_corpus, tmp_path)
    data = prepare(config)
    rows = floors(config)
    validation = data.tokenizer.decode(data.validation.tokens(0, 10**9).tolist())
    validation = validation.replace("<|endoftext|>", "").encode()
    assert len(validation) == data.validation.counts.bytes
    packed = next(row for row in rows if row.name.startswith("bz2"))
    assert packed.bits_per_byte == 8 * len(bz2.compress(validation, 9)) / len(validation)
    # Whoever looks further back is better, and all of them know something.
    by_order = [row.bits_per_byte for row in rows if "-grams" in row.name]
    assert 8 > by_order[0] > by_order[1] > by_order[2] > 1
    assert any(f"after {data.train_counts.bytes:,} bytes" in row.name for row in rows)


def test_a_bad_record_does_not_stop_the_texts(small_corpus, tmp_path):
    lines = small_corpus.read_text(encoding="utf-8").splitlines()
    path = write_jsonl(tmp_path / "bad.jsonl", [])
    path.write_text("\n".join([*lines, '{"title": ', "[]"]), encoding="utf-8")
    config = tiny_config(path, tmp_path)
    n_texts = sum(len(list(split_texts(config, s, str))) for s in ("train", "validation"))
    assert n_texts == len(lines)
