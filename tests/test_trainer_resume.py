"""Law 4 for Trainer: kill -9 at any moment, resume, end with the same bits."""

import random
import signal
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file

from conftest import tiny_config
from test_resume import lines_of, wait_for_progress
from wikigpt.blocks.prepare import prepare
from wikigpt.config import save_config
from wikigpt.training import events, train
from wikigpt.training.logging import read_metrics
from wikigpt.training.trainer_checkpoint import MARK


def make_config(small_corpus, folder, name, **changes):
    """Dropout, accumulation, and a corpus so short that the run crosses from pass to pass."""
    corpus = folder / "short.jsonl"
    corpus.write_bytes(b"".join(small_corpus.read_bytes().splitlines(keepends=True)[:30]))
    settings = {
        "engine": "trainer", "dropout": 0.1, "grad_accumulation_steps": 2, "max_steps": 60,
        "eval_interval": 10, "validation_fraction": 0.1,
    }  # fmt: skip
    config = tiny_config(corpus, folder, name=name, **(settings | changes))
    save_config(config, folder / f"{name}.yaml")
    return config


def start(folder, config):
    # With this process's number of threads: the sums inside a matrix product depend on it.
    return subprocess.Popen(
        [sys.executable, "-m", "wikigpt", "pretrain", str(folder / f"{config.name}.yaml")],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8",
    )  # fmt: skip


def final(config):
    folder = config.run_path / "checkpoints" / f"checkpoint-{config.training.max_steps}"
    best = config.run_path / "checkpoints" / "best"
    return [(f / "model.safetensors").read_bytes() for f in (folder, best)]


def timeless(config):
    free = ("seconds", "tokens_per_second", "mfu")
    return [
        {k: v for k, v in record.items() if k not in free}
        for record in read_metrics(config.run_path)
    ]


@pytest.mark.parametrize(
    ("blocks", "workers"), [("shards", 0), ("shards", 2), ("streaming", 0), ("streaming", 1)]
)
def test_a_run_resumed_in_pieces_ends_with_the_same_bits(small_corpus, tmp_path, blocks, workers):
    whole = make_config(small_corpus, tmp_path, "whole", blocks=blocks)
    list(train(whole, say=lambda _: None))
    pieces = make_config(small_corpus, tmp_path, "pieces", blocks=blocks, data_workers=workers)
    assert prepare(whole).train_counts.tokens < 45 * 8 * 32, "the run must cross from pass to pass"
    for stop_at in (1, 27, 59):
        for event in train(pieces, say=lambda _: None):
            if isinstance(event, events.Step) and event.step == stop_at:
                break
    list(train(pieces, say=lambda _: None))
    assert final(whole) == final(pieces)
    assert timeless(whole) == timeless(pieces) and len(timeless(whole)) == 60 + 2 * 6


@pytest.mark.parametrize(("blocks", "workers", "kills"), [("shards", 2, 2), ("streaming", 1, 1)])
def test_killed_again_and_again_it_ends_with_the_same_bits(
    small_corpus, tmp_path, blocks, workers, kills
):
    settings = {"max_steps": 90, "blocks": blocks, "data_workers": workers}
    whole = make_config(small_corpus, tmp_path, "whole", **settings)
    list(train(whole, say=lambda _: None))
    killed = make_config(small_corpus, tmp_path, "killed", **settings)
    dice, deaths = random.Random(), 0
    for _ in range(kills):
        process = start(tmp_path, killed)
        # Some lines on, then anywhere: in a step, in an evaluation, in a save, even the first.
        wait_for_progress(process, killed, more=dice.randint(8, 24))
        time.sleep(dice.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        deaths += process.wait() == -signal.SIGKILL
        process.stdout.close()
    assert deaths == kills and lines_of(killed)
    saved = list((killed.run_path / "checkpoints").glob(f"checkpoint-*/{MARK}"))
    process = start(tmp_path, killed)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    assert ("going on from step" in output) == bool(saved), output

    assert final(whole) == final(killed)
    assert timeless(whole) == timeless(killed)
    assert load_file(killed.run_path / "checkpoints" / "checkpoint-90" / "model.safetensors")
