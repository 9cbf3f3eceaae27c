import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import tiny_config, write_jsonl, write_shards
from wikigpt.blocks.prepare import prepare
from wikigpt.blocks.shards import IGNORE, TokenBlocks
from wikigpt.corpus.reading import read_articles, split_of
from wikigpt.errors import UserError
from wikigpt.tokenizers import CharTokenizer

unicode_text = st.text(st.characters(exclude_categories=["Cs"]))
TOKENIZER = CharTokenizer.train(["abcé "])


def write(folder, *parts, tokenizer=TOKENIZER):
    """The texts of each part, in the training split; the last has a document for validation."""
    documents = [[("train", text) for text in texts] for texts in parts]
    return write_shards(folder, tokenizer, *documents, [("validation", "a")])


@given(st.lists(st.lists(unicode_text)), st.integers(1, 9))
def test_every_token_is_a_target_exactly_once(tmp_path_factory, parts, block_size):
    folder = tmp_path_factory.mktemp("shards")
    write(folder, *parts)
    texts = [text for part in parts for text in part]
    blocks = TokenBlocks(folder, "train", TOKENIZER, block_size)
    # By hand: documents joined with end-of-text, in order.
    stream = [0]
    for text in texts:
        stream += [*TOKENIZER.encode(text), 0]
    inputs, targets = [], []
    for ids_BT, targets_BT in blocks.batches(2):
        kept = targets_BT != IGNORE
        inputs += ids_BT[kept].tolist()
        targets += targets_BT[kept].tolist()
    assert targets == stream[1:]
    assert inputs == stream[:-1]
    assert blocks.counts.tokens == len(stream) - 1
    assert blocks.counts.documents == len(texts)
    assert blocks.counts.bytes == sum(len(text.encode()) for text in texts)
    assert blocks.counts.characters == sum(map(len, texts))


def test_shards_of_another_tokenizer_are_an_error(tmp_path):
    write(tmp_path, ["abc"])
    with pytest.raises(UserError, match="written with another tokenizer"):
        TokenBlocks(tmp_path, "train", CharTokenizer.train(["abcd"]), 8)


def test_missing_and_damaged_shards_are_errors(tmp_path):
    with pytest.raises(UserError, match="no token shards"):
        TokenBlocks(tmp_path, "train", TOKENIZER, 8)
    write(tmp_path, ["abc"], ["abc" * 100])
    shard = tmp_path / "00001.train.bin"
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(UserError, match=r"00001\.train\.bin is missing or damaged"):
        TokenBlocks(tmp_path, "train", TOKENIZER, 8)


@pytest.mark.parametrize(("size", "dtype"), [(2**16, "uint16"), (2**16 + 1, "uint32")])
def test_a_vocabulary_beyond_two_bytes_gets_four(tmp_path, size, dtype):
    characters = [chr(0x10000 + i) for i in range(size - 257)]
    large = CharTokenizer(characters)
    manifest = write(tmp_path, [characters[-1]], tokenizer=large)
    assert manifest["splits"]["train"]["dtype"] == dtype
    ids_BT, targets_BT = TokenBlocks(tmp_path, "train", large, 4).batch([0])
    assert targets_BT[0, 0] == large.vocab_size - 1 == size - 1
    assert ids_BT.dtype == targets_BT.dtype and np.all(ids_BT[0, 2:].numpy() == 0)


def test_prepare_keeps_every_article_on_its_side(tiny, small_corpus):
    data = prepare(tiny, say=lambda _: None)
    articles = list(read_articles([small_corpus]))
    for split, blocks in (("train", data.train), ("validation", data.validation)):
        expected = [a.text for a in articles if split_of(a.id, 0.05) == split]
        decoded = data.tokenizer.decode(blocks.tokens(0, 10**9))
        assert decoded.split("<|endoftext|>")[1:-1] == expected


def test_the_tokenizer_is_trained_on_the_training_split_only(tmp_path):
    text = {"train": "abc", "validation": "ж" * 10}
    records = [
        {"name": "A", "identifier": i, "abstract": text[split_of(f"frwiki:{i}", 0.2)]}
        for i in range(50)
    ]
    config = tiny_config(
        write_jsonl(tmp_path / "c.jsonl", records), tmp_path, min_count=1, validation_fraction=0.2
    )
    data = prepare(config, say=lambda _: None)
    assert data.validation.counts.characters >= 10
    assert data.tokenizer.characters == ["a", "b", "c"]


def test_prepare_is_done_once_and_again_when_something_changes(tiny, tmp_path):
    told = []
    first = prepare(tiny, say=told.append)
    assert prepare(tiny, say=told.append).folder == first.folder and len(told) == 1
    rarer = tiny_config(tiny.corpus.files[0], tmp_path, min_count=30)
    assert prepare(rarer, say=told.append).folder != first.folder
    articles = [{"name": f"Nouveau {i}", "abstract": "Un article."} for i in range(100)]
    other = tiny_config(write_jsonl(tmp_path / "other.jsonl", articles), tmp_path)
    assert prepare(other, say=told.append).folder != first.folder


def test_bad_records_are_counted_in_the_manifest_and_told(tmp_path):
    records = [{"name": f"Article {i}", "abstract": "Un texte."} for i in range(200)]
    corpus = write_jsonl(tmp_path / "c.jsonl", records)
    with corpus.open("ab") as file:
        file.write(b'{"name": "coup\n')
    told = []
    data = prepare(tiny_config(corpus, tmp_path), say=told.append)
    assert (data.manifest["records"], data.manifest["rejected_records"]) == (201, 1)
    assert "1 of 201 records were bad" in told[-1]
    rejected = json.loads((data.folder / "rejected.jsonl").read_text(encoding="utf-8"))
    assert (rejected["file"], rejected["line"]) == ("c.jsonl", 201)


def test_short_articles_and_duplicates_go_and_the_manifest_says_so(tmp_path):
    stub = "L’astéroïde {} fut découvert le {} mars 1981 par Edward Bowell à Anderson Mesa."
    texts = [stub.format("Ixion", i) for i in range(30)] + ["court"] * 5
    texts += [" ".join(chr(97 + (i * k) % 26) * (k % 7 + 1) for k in range(40)) for i in range(200)]
    records = [{"name": f"Article {i}", "abstract": text} for i, text in enumerate(texts)]
    corpus = write_jsonl(tmp_path / "c.jsonl", records)
    kept = {}
    for duplicates in ("keep", "drop_exact", "drop_near"):
        config = tiny_config(
            corpus, tmp_path, min_characters=20, duplicates=duplicates, validation_fraction=0.4
        )
        manifest = prepare(config, say=lambda _: None).manifest
        kept[duplicates] = sum(split["documents"] for split in manifest["splits"].values())
        assert manifest["cleaning"]["kept"]["documents"] == kept[duplicates]
        assert manifest["cleaning"]["dropped"]["too short"] == {"documents": 5, "bytes": 25}
        assert manifest["cleaning"]["found"]["documents"] == 235
    # The last 200 texts repeat after 26, as i * k % 26 does; the stubs differ in a figure.
    assert kept == {"keep": 230, "drop_exact": 30 + 26, "drop_near": 1 + 26}


@pytest.mark.parametrize(
    ("records", "says"),
    [
        ([], "The corpus is empty"),
        ([{"name": "A", "abstract": "texte"}] * 3, "None of the 3 articles fell into"),
        ([{"name": "A"}] * 3, "3 of 3 records are bad"),
        ([{"name": "A3", "abstract": "texte"}], "No article is left for training"),
    ],
)
def test_a_corpus_that_can_not_be_used_is_told_and_leaves_nothing(tmp_path, records, says):
    corpus = write_jsonl(tmp_path / "c.jsonl", records)
    with pytest.raises(UserError, match=says):
        prepare(tiny_config(corpus, tmp_path, min_count=1), say=lambda _: None)
    assert [path.suffix for path in tmp_path.glob("data/shards/*")] == [".lock"]
