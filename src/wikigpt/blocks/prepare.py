"""Corpus + tokenizer -> token shards on disk, made once and found again.

The shards' folder is named by a hash of everything that decides their content, so changing the
corpus, the order of its files, the split or the tokenizer never meets stale tokens.

Three passes: find duplicates, if they are to go; train the tokenizer; tokenise, a part for each raw
file (parts.py) on all cores (workers.py). What each pass made stays in `<folder>.partial` until all
is there, so whoever is interrupted, by Ctrl-C or by a power cut, goes on with the next file.

With `blocks: streaming` the third pass writes the validation split and only counts the tokens of
the training split; streaming.py makes them again while they are trained on.
"""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tqdm import tqdm

from wikigpt.blocks.parts import ENOUGH_RECORDS, FORMAT, SPLITS, PartJob, finished_parts
from wikigpt.blocks.shards import Counts, TokenBlocks, merge_parts
from wikigpt.blocks.workers import write_parts
from wikigpt.config import Config, relative
from wikigpt.corpus.articles import Article
from wikigpt.corpus.choose import part_of
from wikigpt.corpus.dedup import Duplicates
from wikigpt.corpus.download import raw_files
from wikigpt.corpus.reading import Reading, Rejects, find_duplicates, read_articles, split_of
from wikigpt.errors import UserError
from wikigpt.files import one_at_a_time, read_json
from wikigpt.processes import usable_cores
from wikigpt.tokenizers import load_tokenizer, train_tokenizer

if TYPE_CHECKING:
    from wikigpt.blocks.streaming import StreamedBlocks


@dataclass(frozen=True)
class Prepared:
    folder: Path
    tokenizer: Any
    train: "TokenBlocks | StreamedBlocks"
    validation: TokenBlocks
    manifest: dict[str, Any]

    @property
    def train_counts(self) -> Counts:
        """What the training split holds, wherever its tokens are."""
        entry = self.manifest["splits"]["train"]
        return Counts(**{f.name: entry[f.name] for f in fields(Counts)})


def prepare(config: Config, say: Callable[[str], None] = print) -> Prepared:
    """Download the corpus, train the tokenizer, write the shards: whatever is not there yet.

    The tokenizer sees the training split only.

    Raises:
        UserError: the corpus is missing, empty or bad, or its validation split is empty.
    """
    sources = raw_files(config)
    folder = shards_folder(config, sources)
    with one_at_a_time(folder):
        if not (folder / "manifest.json").is_file():
            _make(config, sources, folder, say)
        reading = (
            _reading(config, sources, folder / "duplicates.json")
            if config.blocks == "streaming"
            else None
        )
    tokenizer = load_tokenizer(folder / "tokenizer")
    block_size = config.model.block_size
    if reading:
        train = _streamed(config, sources, reading, tokenizer)
    else:
        train = TokenBlocks(folder, "train", tokenizer, block_size)
    validation = TokenBlocks(folder, "validation", tokenizer, block_size)
    return Prepared(folder, tokenizer, train, validation, read_json(folder / "manifest.json"))


def split_texts(
    config: Config, split: Literal["train", "validation"], say: Callable[[str], None] = print
) -> Iterator[str]:
    """The texts of one split again, in the order of their tokens, read from the raw files.

    For whatever needs the text itself: compressors, n-grams, a search for copies.

    Raises:
        UserError: as `prepare`, which is called first if it never was.
    """
    sources = raw_files(config)
    folder = shards_folder(config, sources)
    if not (folder / "manifest.json").is_file():
        prepare(config, say)
    reading = _reading(config, sources, folder / "duplicates.json")
    # The corpus as a whole was judged when it was prepared.
    articles = read_articles(sources, Rejects(max_share=1.0), reading)
    fraction = config.corpus.validation_fraction
    return (article.text for article in articles if split_of(article.id, fraction) == split)


def _streamed(
    config: Config, sources: dict[Path, str], reading: Reading, tokenizer: Any
) -> "StreamedBlocks":
    """The training split, shuffled, as blocks that are made when they are asked for."""
    # Here, because `datasets` takes a second to import, and who trains from shards has no need.
    from wikigpt.blocks.streaming import StreamedBlocks
    from wikigpt.corpus.stream import Order, Source

    order = Order(
        seed=config.seed,
        split="train",
        validation_fraction=config.corpus.validation_fraction,
        max_bad_share=1.0,  # the passes before have judged the corpus as a whole
    )
    source = Source(config.corpus.source, list(sources), reading=reading)
    return StreamedBlocks([source], order, tokenizer, config.model.block_size)


def shards_folder(config: Config, sources: dict[Path, str]) -> Path:
    """Where the shards of an experiment are, or will be once they are all there."""
    options = {"corpus": asdict(config.corpus), "tokenizer": asdict(config.tokenizer)}
    options["corpus"].pop("files")
    # In their order, which is the order of the tokens.
    files = [(path.name, digest) for path, digest in sources.items()]
    made = [FORMAT, options, files] + (["streaming"] if config.blocks == "streaming" else [])
    decides = json.dumps(made, sort_keys=True)
    name = f"{config.corpus.source}-{config.corpus.language}-{config.tokenizer.kind}"
    return config.data_path / "shards" / f"{name}-{_short_hash(decides)}"


def plan(
    config: Config, sources: dict[Path, str], folder: Path, say: Callable[[str], None]
) -> list[PartJob]:
    """The passes before tokenising, if they were not made yet; then one job a raw file.

    Everything is made in a folder beside `folder`, that of the jobs.
    """
    partial = folder.with_name(folder.name + ".partial")
    _sweep(partial)
    trained = partial / "tokenizer"
    resumed = trained.is_dir()
    if not resumed:
        what = "corpus" if config.blocks == "shards" else "validation split"
        say(f"Tokenising the {what} into {relative(folder)}")
    reading = _reading(config, sources, partial / "duplicates.json")
    if not resumed:
        _train_tokenizer(config, sources, reading, trained)
    jobs = part_jobs(config, sources, reading, partial)
    if resumed:
        say(
            f"Going on with {relative(folder)}: the tokenizer is trained, "
            f"{len(finished_parts(jobs))} of {len(jobs)} files are tokenised."
        )
    return jobs


def _make(config: Config, sources: dict[Path, str], folder: Path, say: Callable) -> None:
    """Whatever is missing; `folder` gets its name when all is there."""
    jobs = plan(config, sources, folder, say)
    partial = jobs[0].folder
    notes = finished_parts(jobs)
    missing = [job for job in jobs if job.number not in notes]
    try:
        written = write_parts(missing, usable_cores())
    finally:
        _sweep(partial)
    notes |= {job.number: note for job, note in zip(missing, written, strict=True)}
    about = {
        "source": config.corpus.source,
        "language": config.corpus.language,
        "validation_fraction": config.corpus.validation_fraction,
    }
    tokenizer = load_tokenizer(jobs[0].tokenizer)
    manifest = merge_parts(partial, [notes[job.number] for job in jobs], tokenizer, about)
    if not manifest["splits"]["validation"]["documents"]:
        shutil.rmtree(partial, ignore_errors=True)  # of no use to any later call
        raise UserError(
            f"None of the {manifest['splits']['train']['documents']} articles fell into the "
            f"validation split ({config.corpus.validation_fraction:.0%}); use more articles, or "
            "raise corpus.validation_fraction."
        )
    partial.replace(folder)
    if manifest["rejected_records"]:
        say(
            f"{manifest['rejected_records']} of {manifest['records']} records were bad and set "
            f"aside; {relative(folder / 'rejected.jsonl')} names file, line and reason of each."
        )


def part_jobs(
    config: Config, sources: dict[Path, str], reading: Reading, folder: Path
) -> list[PartJob]:
    """One job a raw file, for whoever makes the parts; the tokenizer is in `folder`/tokenizer."""
    found = reading.duplicates
    return [
        PartJob(
            source=path,
            sha256=digest,
            number=number,
            folder=folder,
            tokenizer=folder / "tokenizer",
            # A job goes to another process, so it takes along only what concerns its file.
            reading=replace(reading, duplicates=found.subset([path])) if found else reading,
            validation_fraction=config.corpus.validation_fraction,
            kept=("validation",) if config.blocks == "streaming" else SPLITS,
        )
        for number, (path, digest) in enumerate(sources.items())
    ]


def _sweep(partial: Path) -> None:
    """Delete what killed processes left half-written."""
    for path in partial.glob(".*.partial"):
        # On Windows, one that is still open belongs to a process that is just ending.
        with contextlib.suppress(PermissionError):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _train_tokenizer(
    config: Config, sources: dict[Path, str], reading: Reading, folder: Path
) -> None:
    """Train on the training split, file after file, and save; `folder` appears when complete."""

    def articles() -> Iterator[Article]:
        rejects = Rejects()
        bar = tqdm(sources, "Reading for the tokenizer", unit="file", disable=len(sources) == 1)
        for path in bar:
            of_this_file = Rejects(at_least=ENOUGH_RECORDS)
            yield from read_articles([path], of_this_file, reading)
            rejects.records += of_this_file.records
            rejects.rejected += of_this_file.rejected
        rejects.check()

    found = articles()
    first = next(found, None)
    if first is None:
        names = ", ".join(relative(path) for path in sources)
        short = config.corpus.min_characters
        condition = f" of at least {short} characters" if short else ""
        raise UserError(f"The corpus is empty: there is no article{condition} in {names}.")
    fraction = config.corpus.validation_fraction
    of_training = (a for a in chain([first], found) if split_of(a.id, fraction) == "train")
    first = next(of_training, None)
    if first is None:
        raise UserError(
            f"No article is left for training: all fell into the validation split ({fraction:.0%});"
            " use more articles, or lower corpus.validation_fraction."
        )
    tokenizer = train_tokenizer(config.tokenizer, (a.text for a in chain([first], of_training)))
    aside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    tokenizer.save(aside)
    aside.replace(folder)


def _reading(config: Config, sources: dict[Path, str], saved: Path) -> Reading:
    """What the config says about which articles to keep; finds duplicates if they are to go.

    Args:
        saved: where the duplicates are kept, so that they are looked for once.
    """
    corpus = config.corpus
    part = part_of(sources, corpus.max_articles)
    reading = Reading(corpus.language, corpus.min_characters, part=part)
    if corpus.duplicates == "keep":
        return reading
    if saved.is_file() and set(read_json(saved)) == set(map(str, sources)):
        return replace(reading, duplicates=Duplicates.load(saved))
    found = find_duplicates(sources, near=corpus.duplicates == "drop_near", reading=reading)
    found.save(saved)
    return replace(reading, duplicates=found)


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]
