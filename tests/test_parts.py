"""One raw file -> one part; many parts at once; what is left when they are interrupted."""

import os
import pickle
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import tiny_config, write_jsonl, write_shards
from wikigpt.blocks import prepare as prepare_module
from wikigpt.blocks.parts import PartJob, finished, write_part
from wikigpt.blocks.prepare import prepare
from wikigpt.blocks.shards import TokenBlocks, merge_parts
from wikigpt.blocks.workers import write_parts
from wikigpt.config import Config, save_config
from wikigpt.corpus.choose import Part
from wikigpt.corpus.cleaning import CleaningReport
from wikigpt.corpus.reading import Reading, Rejects, find_duplicates, read_articles, split_of
from wikigpt.errors import UserError
from wikigpt.files import read_json, sha256
from wikigpt.tokenizers import CharTokenizer

FRACTION = 0.2


def articles(numbers) -> list[dict]:
    dice = random.Random(7)
    words = ["le", "la", "ville", "été", "rivière", "fondée", "en", "siècle", "château", "œuvre"]
    return [
        {"name": f"Article {i}", "abstract": " ".join(dice.choices(words, k=12)) + f" n° {i}."}
        for i in numbers
    ]


def make_jobs(folder: Path, sources: list[Path], **changes) -> list[PartJob]:
    tokenizer = CharTokenizer("abcdefghijklmnopqrstuvwxyz é.")
    tokenizer.save(folder / "tokenizer")
    return [
        replace(
            PartJob(
                path, sha256(path), number, folder / "parts", folder / "tokenizer",
                Reading(), FRACTION,
            ),
            **changes,
        )
        for number, path in enumerate(sources)
    ]  # fmt: skip


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def reference(sources: list[Path], tokenizer, fraction: float) -> dict[str, list[int]]:
    """The stream of each split, in one pass with nothing but `encode`."""
    streams = {"train": [0], "validation": [0]}
    for article in read_articles(sources):
        streams[split_of(article.id, fraction)] += [*tokenizer.encode(article.text), 0]
    return streams


@pytest.fixture
def sources(tmp_path) -> list[Path]:
    """Four files; one is empty, two of the others have the same name."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    paths = [tmp_path / "a" / "dump.jsonl", tmp_path / "void.jsonl", tmp_path / "b" / "dump.jsonl",
             tmp_path / "last.jsonl"]  # fmt: skip
    for path, numbers in zip(paths, (range(70), (), range(70, 100), range(100, 190)), strict=True):
        write_jsonl(path, articles(numbers))
    with paths[2].open("ab") as file:
        file.write(b'{"name": "\xff"}\n')
    return paths


def test_a_part_holds_the_tokens_of_its_file_and_says_so(tmp_path, sources):
    (job, *_) = make_jobs(tmp_path, sources)
    note = write_part(pickle.loads(pickle.dumps(job)))
    assert note == read_json(job.folder / "00000.json") == finished(job, note_print(job))
    tokenizer = CharTokenizer.load(job.tokenizer)
    streams = reference([job.source], tokenizer, FRACTION)
    report = CleaningReport()
    texts = {"train": [], "validation": []}
    for article in read_articles([job.source], report=report):
        texts[split_of(article.id, FRACTION)].append(article.text)
    assert all(texts.values())
    for split, entry in note["splits"].items():
        path = job.folder / entry["file"]["name"]
        assert np.fromfile(path, "<u2").tolist() == streams[split][1:]
        assert entry["file"] == {
            "name": f"00000.{split}.bin", "bytes": path.stat().st_size, "sha256": sha256(path),
        }  # fmt: skip
        assert entry["documents"] == len(texts[split])
        assert entry["tokens"] == len(streams[split]) - 1
        assert entry["bytes"] == sum(len(text.encode()) for text in texts[split])
        assert entry["characters"] == sum(map(len, texts[split]))
    assert note["source"] == {"name": "dump.jsonl", "sha256": sha256(job.source)}
    assert CleaningReport.from_dict(note["cleaning"]) == report


def note_print(job: PartJob) -> str:
    return CharTokenizer.load(job.tokenizer).fingerprint


def test_a_part_is_made_once_and_again_when_what_it_is_made_of_changes(tmp_path, sources):
    job = make_jobs(tmp_path, sources)[0]
    path = job.folder / "00000.train.bin"

    def made_again(changed: PartJob) -> bool:
        before = path.stat().st_ino, path.stat().st_mtime_ns
        note = write_part(changed)
        assert finished(changed, note_print(changed)) == note
        return before != (path.stat().st_ino, path.stat().st_mtime_ns)

    write_part(job)
    assert not made_again(job)
    assert made_again(replace(job, sha256="0" * 64))
    assert made_again(replace(job, validation_fraction=0.3))
    assert made_again(replace(job, reading=Reading(min_characters=5)))
    duplicates = find_duplicates([job.source])
    assert made_again(replace(job, reading=Reading(duplicates=duplicates)))
    # What is repeated in other files is no matter.
    duplicates.files["other.jsonl"] = {"exact duplicate": [1], "near duplicate": []}
    assert not made_again(replace(job, reading=Reading(duplicates=duplicates)))
    CharTokenizer("abc").save(tmp_path / "other")
    assert made_again(replace(job, tokenizer=tmp_path / "other"))
    assert made_again(job)
    path.write_bytes(path.read_bytes()[:-2])
    assert made_again(job)
    (job.folder / "00000.json").write_text("{", encoding="utf-8")
    assert made_again(job)


def test_rejected_records_of_a_former_source_do_not_stay(tmp_path, sources):
    bad, good = make_jobs(tmp_path, [sources[2], sources[3]])
    assert write_part(replace(bad, number=0))["rejected_records"] == 1
    assert (bad.folder / "00000.rejected.jsonl").is_file()
    assert write_part(replace(good, number=0))["rejected_records"] == 0
    assert not (bad.folder / "00000.rejected.jsonl").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_parts_laid_end_to_end_are_one_pass_over_all_files(tmp_path, sources, workers):
    jobs = make_jobs(tmp_path, sources)
    notes = write_parts(jobs, workers)
    tokenizer, folder = CharTokenizer.load(tmp_path / "tokenizer"), jobs[0].folder
    manifest = merge_parts(folder, notes, tokenizer, {})
    rejects, report = Rejects(), CleaningReport()
    texts = {"train": [], "validation": []}
    for article in read_articles(sources, rejects, report=report):
        texts[split_of(article.id, FRACTION)].append(article.text)
    for split, stream in reference(sources, tokenizer, FRACTION).items():
        blocks = TokenBlocks(folder, split, tokenizer, 16)
        assert blocks.tokens(0, 10**9).tolist() == stream
        assert vars(blocks.counts) == {
            "documents": len(texts[split]),
            "tokens": len(stream) - 1,
            "bytes": sum(len(text.encode()) for text in texts[split]),
            "characters": sum(map(len, texts[split])),
        }
    assert (manifest["records"], manifest["rejected_records"]) == (191, 1)
    assert CleaningReport.from_dict(manifest["cleaning"]) == report
    rejects.save(tmp_path / "expected.jsonl")
    assert (folder / "rejected.jsonl").read_bytes() == (tmp_path / "expected.jsonl").read_bytes()
    # Two files of the same name are two.
    assert manifest["source_files"] == [
        {"name": path.name, "sha256": sha256(path)} for path in sources
    ]


@settings(max_examples=40)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.data())
def test_any_window_of_the_stream_across_many_files(tmp_path_factory, sizes, data):
    folder, tokenizer = tmp_path_factory.mktemp("shards"), CharTokenizer("abc")
    parts = [[("train", "abc"[: size - 1])] if size else [] for size in sizes]
    write_shards(folder, tokenizer, *parts)
    stream = [0]
    for size in sizes:
        stream += [*tokenizer.encode("abc"[: size - 1]), 0] if size else []
    blocks = TokenBlocks(folder, "train", tokenizer, 4)
    start = data.draw(st.integers(0, len(stream) + 2))
    stop = data.draw(st.integers(start, len(stream) + 3))
    assert blocks.tokens(start, stop).tolist() == stream[start:stop]


def test_hundreds_of_files_hold_few_descriptors(tmp_path):
    tokenizer = CharTokenizer("ab")
    write_shards(tmp_path, tokenizer, *[[("train", "ab")]] * 200)
    blocks = TokenBlocks(tmp_path, "train", tokenizer, 4)
    process = psutil.Process()
    before = process.num_fds() if hasattr(process, "num_fds") else 0
    assert blocks.tokens(0, 10**9).tolist() == [0, *[257, 258, 0] * 200]
    if before:
        assert process.num_fds() - before <= 64


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_file_in_the_middle_is_one_sentence_and_finished_parts_stay(
    tmp_path, sources, workers
):
    jobs = make_jobs(tmp_path, [*sources[:3], write_jsonl(tmp_path / "x.jsonl", [{}] * 1500)])
    write_parts(jobs[:2], 1)
    before = files_of(jobs[0].folder)
    with pytest.raises(UserError, match=r"^1000 of 1000 records are bad.* x\.jsonl, line 1: no ti"):
        write_parts(jobs, workers)
    assert before.items() <= files_of(jobs[0].folder).items()
    assert not (jobs[0].folder / "00003.json").exists()


def test_a_small_file_may_be_bad_if_all_files_together_are_not(tmp_path, sources):
    jobs = make_jobs(tmp_path, [*sources, write_jsonl(tmp_path / "x.jsonl", [{}] * 8)])
    tokenizer = CharTokenizer.load(tmp_path / "tokenizer")
    merge_parts(jobs[0].folder, write_parts(jobs, 1), tokenizer, {})
    write_jsonl(tmp_path / "x.jsonl", [{}] * 80)
    jobs = make_jobs(tmp_path, [job.source for job in jobs])
    with pytest.raises(UserError, match=r"81 of 271 records are bad"):
        merge_parts(jobs[0].folder, write_parts(jobs, 1), tokenizer, {})


def test_memory_does_not_grow_with_the_file(tmp_path):
    record = {"abstract": "La rivière coule vers la mer. " * 100}
    peaks = []
    for n in (1000, 5000):
        path = write_jsonl(tmp_path / f"{n}.jsonl", [record | {"name": f"A{i}"} for i in range(n)])
        (job,) = make_jobs(tmp_path / str(n), [path])
        tracemalloc.start()
        write_part(job)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2**18, "the file grew by 12 MB"


def test_a_worker_does_without_torch():
    code = "import sys, wikigpt.blocks.workers as w; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# Real processes. The last file is so long that a signal always comes before its end.
N_ARTICLES = [500] * 5 + [15_000]
N_FILES = len(N_ARTICLES)
DRIVER = """
import signal, sys
from wikigpt.blocks import prepare
from wikigpt.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits none
prepare.usable_cores = lambda: int(sys.argv[1])
sys.exit(main(["prepare", sys.argv[2]]))
"""


@pytest.fixture(scope="module")
def long_sources(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("long")
    return [
        write_jsonl(folder / f"{f}.jsonl", articles(range(f * 1000, f * 1000 + n)))
        for f, n in enumerate(N_ARTICLES)
    ]


@pytest.fixture(scope="module")
def never_interrupted(long_sources, tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare_module, "usable_cores", lambda: 1)
        return files_of(prepare(config_of(long_sources, folder), say=lambda _: None).folder)


def config_of(sources: list[Path], folder: Path) -> Config:
    config = tiny_config(sources[0], folder, files=[str(path) for path in sources])
    save_config(config, folder / "config.yaml")
    return config


def start(folder: Path, workers: int) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(workers), str(folder / "config.yaml")],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8",
        start_new_session=True,
    )  # fmt: skip


def wait_until(process: subprocess.Popen, condition) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "no progress"
        time.sleep(0.002)


def notes_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("data/shards/*.partial/?????.json"))


def gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=60)[1]


def test_killed_again_and_again_it_ends_with_the_same_bytes(
    tmp_path, long_sources, never_interrupted
):
    config_of(long_sources, tmp_path)
    made = {}
    for at_least, workers in ((1, 1), (4, 2)):
        process = start(tmp_path, workers)
        wait_until(process, lambda n=at_least: len(notes_in(tmp_path)) >= n)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= (2 if workers == 2 else 0)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        assert gone(children), "workers must not outlive their parent"
        made |= {path.name: path.stat().st_mtime_ns for path in notes_in(tmp_path)}
        assert at_least <= len(made) < N_FILES
    process = start(tmp_path, 2)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert f"the tokenizer is trained, {len(made)} of {N_FILES} files are tokenised." in output
    (folder,) = tmp_path.glob("data/shards/files-*")
    assert files_of(folder) == never_interrupted
    assert {name: (folder / name).stat().st_mtime_ns for name in made} == made


@pytest.mark.parametrize("when", ["starting", "working"])
def test_ctrl_c_leaves_finished_parts_and_no_process(tmp_path, long_sources, when):
    # On a busy machine all may be done before the signal arrives: then that was no try.
    for attempt in range(10):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        config_of(long_sources, folder)
        process = start(folder, 2)
        parent = psutil.Process(process.pid)
        if when == "starting":
            wait_until(process, parent.children)
        else:
            wait_until(process, lambda folder=folder: notes_in(folder))
        children = parent.children(recursive=True)
        # As a terminal does: to every process of the group.
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=60)
        if process.returncode != 0:
            break
    assert process.returncode == 130, output
    assert "Stopped." in output and "Traceback" not in output
    assert gone(children)
    (partial,) = folder.glob("data/shards/*.partial")
    assert (partial / "tokenizer").is_dir() and not list(partial.glob(".*.partial"))
    notes = notes_in(folder)
    assert len(notes) < N_FILES and (notes or when == "starting")


def test_a_worker_that_is_killed_is_told_in_one_sentence(tmp_path, long_sources):
    config_of(long_sources, tmp_path)
    process = start(tmp_path, 2)
    parent = psutil.Process(process.pid)
    wait_until(process, lambda: notes_in(tmp_path))
    next(c for c in parent.children() if "spawn_main" in " ".join(c.cmdline())).kill()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2, output
    assert "error: A process that was tokenising died" in output and "Traceback" not in output
    assert notes_in(tmp_path)


def test_a_changed_source_or_order_makes_other_shards(tmp_path, sources, monkeypatch):
    monkeypatch.setattr(prepare_module, "usable_cores", lambda: 1)
    whole = prepare(config_of(sources, tmp_path), say=lambda _: None)
    turned = prepare(config_of(sources[::-1], tmp_path), say=lambda _: None)
    assert whole.folder != turned.folder
    assert vars(whole.train.counts) == vars(turned.train.counts)
    assert whole.train.tokens(0, 10**6).tolist() != turned.train.tokens(0, 10**6).tolist()
    write_jsonl(sources[3], articles(range(100, 191)))
    assert prepare(config_of(sources, tmp_path), say=lambda _: None).folder != whole.folder


def test_duplicates_are_looked_for_once(tmp_path, sources, monkeypatch):
    write_jsonl(sources[1], articles(range(70)))  # the first file's texts in another
    config = config_of(sources, tmp_path)
    config = replace(config, corpus=replace(config.corpus, duplicates="drop_exact"))

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prepare_module, "write_parts", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(config, say=lambda _: None)
    monkeypatch.setattr(prepare_module, "find_duplicates", None)
    monkeypatch.setattr(prepare_module, "usable_cores", lambda: 1)
    told = []
    data = prepare(config, say=told.append)
    assert "Going on with" in told[0] and "0 of 4 files" in told[0]
    assert data.manifest["cleaning"]["dropped"]["exact duplicate"]["documents"] == 70
    assert data.train.counts.documents + data.validation.counts.documents == 190


def test_a_part_of_the_articles_is_shared_out_evenly_over_the_files(tmp_path):
    sources = [
        write_jsonl(tmp_path / f"{first}.jsonl", articles(range(first, last)))
        for first, last in ((0, 90), (90, 100), (100, 120))
    ]
    config = tiny_config(
        sources[0], tmp_path, files=list(map(str, sources)), max_articles=24, min_count=1,
        validation_fraction=0.3,
    )  # fmt: skip
    folder = prepare(config).folder
    notes = [read_json(path) for path in sorted(folder.glob("0*.json"))]
    made = [sum(split["documents"] for split in note["splits"].values()) for note in notes]
    assert made == [18, 2, 4]


def test_the_place_of_the_files_does_not_matter_to_a_part(tmp_path, sources):
    moved = tmp_path / "moved"
    moved.mkdir()
    elsewhere = [source.rename(moved / source.name) for source in sources]
    here = Part(5, 100, {str(source): 10 * i for i, source in enumerate(sources)})
    there = replace(here, first={str(path): 10 * i for i, path in enumerate(elsewhere)})
    job, other = (
        PartJob(path, "0", 1, tmp_path, tmp_path, Reading("fr", part=part), 0.1)
        for path, part in ((sources[1], here), (elsewhere[1], there))
    )
    assert job.key("t") == other.key("t")
    assert job.key("t") != replace(job, reading=Reading("fr")).key("t")
