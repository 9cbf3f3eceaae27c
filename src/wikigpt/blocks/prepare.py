"""Corpus + tokenizer -> token shards on disk, made once and found again.

The shards' folder is named by a hash of everything that decides their content, so changing the
corpus, the split or the tokenizer never meets stale tokens.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from wikigpt.blocks.shards import TokenBlocks, write_shards
from wikigpt.config import Config, relative
from wikigpt.corpus.choose import part_of
from wikigpt.corpus.cleaning import CleaningReport
from wikigpt.corpus.download import raw_files
from wikigpt.corpus.reading import Reading, Rejects, find_duplicates, read_articles, split_of
from wikigpt.errors import UserError
from wikigpt.files import read_json
from wikigpt.tokenizers import CharTokenizer, load_tokenizer

# Part of the folder's name: raise it whenever the same input would give other tokens.
FORMAT = 2


@dataclass(frozen=True)
class Prepared:
    folder: Path
    tokenizer: CharTokenizer
    train: TokenBlocks
    validation: TokenBlocks
    manifest: dict[str, Any]


def prepare(config: Config, say: Callable[[str], None] = print) -> Prepared:
    """Download the corpus, train the tokenizer, write the shards: whatever is not there yet.

    The tokenizer sees the training split only.

    Raises:
        UserError: the corpus is missing, empty or bad, or its validation split is empty.
    """
    sources = raw_files(config)
    options = {"corpus": asdict(config.corpus), "tokenizer": asdict(config.tokenizer)}
    options["corpus"].pop("files")
    decides = json.dumps([FORMAT, options, sorted(sources.values())], sort_keys=True)
    name = f"{config.corpus.source}-{config.corpus.language}-{config.tokenizer.kind}"
    folder = config.data_path / "shards" / f"{name}-{_short_hash(decides)}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Whoever comes second waits, and finds the shards made.
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not (folder / "manifest.json").is_file():
            say(f"Tokenising the corpus into {relative(folder)}")
            _write(config, sources, folder, say)
    tokenizer = load_tokenizer(folder)
    train, validation = (
        TokenBlocks(folder, split, tokenizer, config.model.block_size)
        for split in ("train", "validation")
    )
    return Prepared(folder, tokenizer, train, validation, read_json(folder / "manifest.json"))


def _write(config: Config, sources: dict[Path, str], folder: Path, say: Callable) -> None:
    fraction = config.corpus.validation_fraction

    reading = _reading(config, sources)

    def documents(
        rejects: Rejects, report: CleaningReport | None = None
    ) -> Iterator[tuple[str, str]]:
        for article in read_articles(sources, rejects, reading, report):
            yield split_of(article.id, fraction), article.text

    if next(documents(Rejects()), None) is None:
        names = ", ".join(relative(path) for path in sources)
        short = config.corpus.min_characters
        condition = f" of at least {short} characters" if short else ""
        raise UserError(f"The corpus is empty: there is no article{condition} in {names}.")
    rejects, report = Rejects(), CleaningReport()
    tokenizer = CharTokenizer.train(
        (text for split, text in documents(rejects, report) if split == "train"),
        config.tokenizer.min_count,
        config.tokenizer.unseen,
    )
    about = {
        "source": config.corpus.source,
        "language": config.corpus.language,
        "source_files": {path.name: digest for path, digest in sources.items()},
        "validation_fraction": fraction,
        "records": rejects.records,
        "rejected_records": len(rejects.rejected),
        "cleaning": asdict(report),
    }
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        manifest = write_shards(partial, tokenizer, documents(Rejects()), about)
        if not manifest["splits"]["validation"]["documents"]:
            raise UserError(
                f"None of the {manifest['splits']['train']['documents']} articles fell into the "
                f"validation split ({fraction:.0%}); use more articles, or raise "
                "corpus.validation_fraction."
            )
        tokenizer.save(partial)
        if rejects.rejected:
            rejects.save(partial / "rejected.jsonl")
            say(
                f"{len(rejects.rejected)} of {rejects.records} records were bad and set aside; "
                f"{relative(folder / 'rejected.jsonl')} names file, line and reason of each."
            )
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _reading(config: Config, sources: dict[Path, str]) -> Reading:
    """What the config says about which articles to keep; finds duplicates if they are to go."""
    corpus = config.corpus
    part = part_of(sources, corpus.max_articles)
    reading = Reading(corpus.language, corpus.min_characters, part=part)
    if corpus.duplicates == "keep":
        return reading
    found = find_duplicates(sources, near=corpus.duplicates == "drop_near", reading=reading)
    return replace(reading, duplicates=found)


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]
