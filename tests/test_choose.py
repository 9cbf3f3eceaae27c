"""Names from elsewhere: which files are a language's, which are safe, which part is even."""

import gzip
import hashlib
import itertools
import string
import zipfile
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import write_jsonl
from fake_kaggle import zip_of
from wikigpt.corpus.archive import is_corpus_name, is_safe, members
from wikigpt.corpus.choose import Part, evenly, files_by_language, files_of, part_of
from wikigpt.corpus.whole import what_is_wrong
from wikigpt.errors import UserError


def test_every_published_layout_is_recognised():
    names = [
        "frwiki_namespace_0/frwiki_namespace_0_10.jsonl",
        "frwiki_namespace_0/frwiki_namespace_0_9.jsonl",
        "enwiki/data/enwiki_namespace_0_00008.parquet",
        "20240916.es/eswiki_namespace_0.zip",
        "20231101.be-tarask/train-00000-of-00001.parquet",
        "dewiki_namespace_0/dewiki_namespace_0_1.jsonl.gz",
        "frwiki_namespace_14/frwiki_namespace_14_1.jsonl",
        "frwikisource_namespace_0/frwikisource_namespace_0_1.jsonl",
        "frwiktionary_namespace_0_1.jsonl",
        "README.md",
    ]
    assert files_by_language(names) == {
        "be-tarask": [names[4]],
        "de": [names[5]],
        "en": [names[2]],
        "es": [names[3]],
        "fr": [names[1], names[0]],  # 9 before 10
    }


def test_of_two_dumps_the_newer_is_taken_and_nothing_twice():
    plain = [f"{day}.fr/train-{n:05d}-of-00002.parquet" for day in (20220301, 20231101)
             for n in range(2)]  # fmt: skip
    assert files_of("FR", plain, "x/y") == plain[2:]
    both = ["frwiki_namespace_0/frwiki_namespace_0_0.jsonl"] + [
        f"frwiki/data/frwiki_namespace_0_{n:05d}.parquet" for n in range(3)
    ]
    assert files_of("fr", both, "x/y") == both[1:]


def test_a_dataset_of_something_else_is_told():
    with pytest.raises(UserError, match="no files named like a Wikipedia dump"):
        files_of("fr", ["train.csv"], "x/y")


def test_a_part_is_spread_from_the_first_to_the_last():
    files = [str(n) for n in range(17)]
    assert evenly(files, 0) == evenly(files, 17) == evenly(files, 99) == files
    assert evenly(files, 1) == ["8"]
    assert evenly(files, 2) == ["0", "16"]
    assert evenly(files, 3) == ["0", "8", "16"]
    assert evenly(files, 5) == ["0", "4", "8", "12", "16"]


@given(st.integers(2, 60), st.integers(2, 60))
def test_the_steps_differ_by_one_at_most(total, count):
    chosen = [int(name) for name in evenly([str(n) for n in range(total)], count)]
    assert len(chosen) == min(count, total)
    assert (chosen[0], chosen[-1]) == (0, total - 1)
    steps = {b - a for a, b in itertools.pairwise(chosen)}
    assert min(steps) >= 1 and max(steps) - min(steps) <= 1


@given(st.text(st.sampled_from("./\\:a_é" + string.whitespace), max_size=12))
def test_a_safe_name_never_leaves_its_folder(tmp_path_factory, name):
    folder = tmp_path_factory.getbasetemp()
    if is_safe(name):
        assert (folder / name).resolve().is_relative_to(folder.resolve())
        assert (folder / name).resolve() != folder.resolve()
        assert "\\" not in name and ":" not in name


def test_junk_and_other_kinds_are_passed_over(tmp_path):
    names = ["__MACOSX/a.jsonl", "b/._a.jsonl", "a.exe"]
    path = tmp_path / "a.zip"
    path.write_bytes(zip_of({name: b"x" for name in [*names, "b/a.jsonl", "a.txt"]}))
    with zipfile.ZipFile(path) as archive:
        assert members(archive) == ["b/a.jsonl", "a.txt"]
    assert is_corpus_name("a.JSONL.gz") and is_corpus_name("a.parquet.zst")
    assert not is_corpus_name("a.jsonl.rar") and not is_corpus_name("jsonl")


WHOLE = b'{"a": 1}\n{"b": 2}\n'


@pytest.mark.parametrize(
    ("name", "data", "wrong"),
    [
        ("a.jsonl", WHOLE, None),
        ("a.jsonl", WHOLE.rstrip(), None),  # a missing last line break is no damage
        ("a.jsonl", b'{"a": "' + b"x" * 3_000_000 + b'"}\n', None),
        ("a.jsonl", b"", "empty"),
        ("a.jsonl", WHOLE[:-4], "last line"),
        ("a.jsonl", b"\0" + WHOLE, "first line"),
        ("a.jsonl", b"[1]\n", "first line"),
        ("a.jsonl", b"[" * 100_000, "first line"),
        ("a.parquet", b"PAR1....PAR1", None),
        ("a.parquet", b"PAR1....PAR", "Parquet"),
        ("a.parquet", b"PA", "Parquet"),
        ("a.jsonl.gz", gzip.compress(WHOLE, mtime=0), None),
        ("a.jsonl.gz", gzip.compress(WHOLE, mtime=0)[:-9], "archive is damaged"),
        ("a.jsonl.gz", WHOLE, "archive is damaged"),
        ("a.zip", zip_of({"a.jsonl": WHOLE}), None),
        ("a.zip", zip_of({"a.jsonl": WHOLE})[:-5], "archive is damaged"),
        ("a.zip", zip_of({"a.exe": WHOLE}), "holds no"),
        ("a.txt", b"x", None),
    ],
)
def test_what_a_format_can_prove(tmp_path, name, data, wrong):
    path = tmp_path / "file"
    path.write_bytes(data)
    found = what_is_wrong(path, name)
    assert found is None if wrong is None else wrong in found


def test_a_digest_that_is_right_says_enough(tmp_path):
    """A bad record is for the stream to set aside; the file is as its server has it."""
    path = tmp_path / "file"
    path.write_bytes(b"\n" + WHOLE + b"{cut")
    digest = "md5", hashlib.md5(path.read_bytes()).hexdigest()
    assert what_is_wrong(path, "a.jsonl", digest) is None
    assert "first line" in what_is_wrong(path, "a.jsonl")


def test_a_flipped_bit_in_a_zip_is_seen(tmp_path):
    path = tmp_path / "file"
    data = bytearray(zip_of({"a.jsonl": WHOLE * 50}))
    data[60] ^= 1
    path.write_bytes(data)
    assert what_is_wrong(path, "a.zip") == "the archive is damaged"


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(1, 60))
def test_a_part_is_exact_and_even_in_every_stretch(sizes, count):
    total = sum(sizes)
    starts = dict(zip(map(str, range(len(sizes))), itertools.accumulate([0, *sizes])))  # noqa: B905
    part = Part(count, total, starts)
    taken = [
        list(itertools.islice(part.of(Path(name)), size))
        for name, size in zip(starts, sizes, strict=True)
    ]
    flat = list(itertools.chain(*taken))
    assert sum(flat) == min(count, total)
    # Of any stretch of the corpus its share is taken, to within one record.
    share = Fraction(min(count, total), total or 1)
    for start, end in itertools.combinations(range(total + 1), 2):
        assert abs(sum(flat[start:end]) - share * (end - start)) < 1


def test_a_part_of_files_by_hand(tmp_path):
    first = write_jsonl(tmp_path / "a.jsonl", [{"id": i} for i in range(7)])
    second = write_jsonl(tmp_path / "b.jsonl", [{"id": i} for i in range(3)])
    part = part_of([first, second], 3)
    assert part == Part(3, 10, {str(first): 0, str(second): 7})
    # 3 of 10: g * 3 / 10 passes 1 at g = 3 (9/10 -> 12/10), 2 at g = 6, 3 at g = 9.
    assert list(itertools.islice(part.of(first), 7)) == [False] * 3 + [True] + [False] * 2 + [True]
    assert list(itertools.islice(part.of(second), 3)) == [False, False, True]
    assert part_of([first], 0) is None
    with pytest.raises(UserError, match=r"records of .*c\.jsonl were not counted"):
        part.of(tmp_path / "c.jsonl")
    with pytest.raises(UserError, match="There is no corpus file"):
        part_of([tmp_path / "c.jsonl"], 3)
