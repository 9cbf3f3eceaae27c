"""What tests share: the real corpus, a small slice of it, and a config that trains in seconds."""

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings

# Set before torch is imported: on models this small a second thread costs more than it brings.
os.environ["OMP_NUM_THREADS"] = "1"

from wikigpt.blocks.parts import write_documents
from wikigpt.blocks.shards import write_manifest
from wikigpt.config import Config, load_config
from wikigpt.corpus.download import wikipedia_leads

ROOT = Path(__file__).parent.parent

# Timing never decides a test: on a busy machine Hypothesis's deadline fails a test that is right,
# and then spends five minutes shrinking it.
settings.register_profile("house", deadline=None)
settings.load_profile("house")


has_compiler = bool(shutil.which("g++") or shutil.which("clang++"))
needs_compiler = pytest.mark.skipif(not has_compiler, reason="needs a C++ compiler")


@pytest.fixture(scope="session")
def leads() -> Path:
    """The real French leads corpus, downloaded once into the repository's data folder."""
    return next(iter(wikipedia_leads("fr", ROOT / "data" / "raw" / "wikipedia-leads")))


@pytest.fixture(scope="session")
def small_corpus(leads: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 real articles, evenly from the whole corpus."""
    lines = leads.read_bytes().splitlines(keepends=True)
    path = tmp_path_factory.mktemp("corpus") / "small.jsonl"
    path.write_bytes(b"".join(lines[:: len(lines) // 400]))
    return path


@pytest.fixture
def tiny(small_corpus: Path, tmp_path: Path) -> Config:
    """A config whose whole run takes a second or two."""
    return tiny_config(small_corpus, tmp_path)


def tiny_config(corpus: Path, folder: Path, **overrides: object) -> Config:
    settings = {
        "name": "tiny", "data_dir": str(folder / "data"), "runs_dir": str(folder / "runs"),
        "source": "files", "files": [str(corpus)], "min_count": 20,
        "n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 32,
        "max_steps": 12, "micro_batch_size": 4, "learning_rate": 1e-2, "warmup_steps": 2,
        "eval_interval": 4, "max_new_tokens": 8, "device": "cpu", "precision": "fp32",
        "compile": False,  # or a busy moment would decide it
    }  # fmt: skip
    return load_config(**(settings | overrides))


def write_jsonl(path: Path, records: list[object]) -> Path:
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def write_shards(folder: Path, tokenizer: object, *parts: list[tuple[str, str]]) -> dict:
    """Token shards of (split, text) pairs, without raw files; returns the manifest."""
    written = [
        write_documents(folder, f"{number:05d}", tokenizer, documents)
        for number, documents in enumerate(parts)
    ]
    return write_manifest(folder, written, tokenizer, {})
