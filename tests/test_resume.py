"""Law 4: kill -9 at any moment, resume, end with the same bits."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from conftest import needs_compiler, tiny_config
from wikigpt.blocks.prepare import prepare
from wikigpt.config import Config, save_config
from wikigpt.training.checkpoint import load_state
from wikigpt.training.logging import read_metrics

# A real thread count: the sums inside a matrix product depend on it.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "2"}


def make_config(corpus: Path, folder: Path, name: str, **changes) -> Config:
    settings = {
        "n_layer": 2, "n_embd": 32, "block_size": 64, "dropout": 0.1, "max_steps": 90,
        "eval_interval": 15, "grad_accumulation_steps": 2,
    }  # fmt: skip
    config = tiny_config(corpus, folder, name=name, **(settings | changes))
    save_config(config, folder / f"{name}.yaml")
    return config


def start(folder: Path, config: Config) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "wikigpt", "pretrain", str(folder / f"{config.name}.yaml")],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        encoding="utf-8",
    )  # fmt: skip


def lines_of(config: Config) -> int:
    path = config.run_path / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for_progress(process: subprocess.Popen, config: Config, more: int) -> None:
    before, deadline = lines_of(config), time.monotonic() + 300
    while lines_of(config) < before + more and process.poll() is None:
        assert time.monotonic() < deadline, "no progress"
        time.sleep(0.005)


def final_weights(config: Config, which: str) -> bytes:
    return (config.run_path / "checkpoints" / which / "model.safetensors").read_bytes()


def few_articles(corpus: Path, folder: Path) -> Path:
    """So few that the steps of a test go through them more than once."""
    path = folder / "few.jsonl"
    path.write_bytes(b"".join(corpus.read_bytes().splitlines(keepends=True)[:100]))
    return path


STREAMING = {"blocks": "streaming"}
MODERN = {
    "arch": "modern", "n_kv_head": 1, "dropout": 0, "optimizer": "muon", "learning_rate": 0.02,
    "schedule": "wsd", "decay_fraction": 0.5,
}  # fmt: skip
FASTEST = MODERN | {"precision": "bf16", "compile": True, "max_steps": 45}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="gpt2, AdamW"),
        pytest.param(STREAMING, id="streaming"),
        pytest.param(MODERN, id="modern, Muon"),
        pytest.param(FASTEST, id="modern, Muon, bf16, compiled", marks=needs_compiler),
    ],
)
def test_killed_again_and_again_it_ends_with_the_same_bits(small_corpus, tmp_path, changes):
    corpus = few_articles(small_corpus, tmp_path) if changes is STREAMING else small_corpus
    whole = make_config(corpus, tmp_path, "whole", **changes)
    prepare(whole, say=lambda _: None)
    process = start(tmp_path, whole)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output

    killed = make_config(corpus, tmp_path, "killed", **changes)
    # A compiled one takes a while to start each time.
    dice, deaths, kills = random.Random(), 0, 1 if changes is FASTEST else 2 if changes else 3
    for left in reversed(range(kills)):
        process = start(tmp_path, killed)
        # Some lines on, then anywhere: in a step, in an evaluation, in a save; but the last time
        # after the first checkpoint, which follows 16 lines.
        wait_for_progress(process, killed, more=dice.randint(8 if left else 18, 30))
        time.sleep(dice.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        deaths += process.wait() == -signal.SIGKILL
        process.stdout.close()
    assert deaths == kills
    process = start(tmp_path, killed)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert "going on from step" in output

    for which in ("last", "best"):
        assert final_weights(whole, which) == final_weights(killed, which)
    assert load_file(killed.run_path / "checkpoints" / "last" / "model.safetensors")
    records = [read_metrics(config.run_path) for config in (whole, killed)]
    losses = [[(r["step"], r["loss"]) for r in one if r["kind"] == "step"] for one in records]
    assert losses[0] == losses[1] and len(losses[0]) == whole.training.max_steps
    scores = [[r["bits_per_byte"] for r in one if r["kind"] == "evaluation"] for one in records]
    assert scores[0] == scores[1] and len(scores[0]) == whole.training.max_steps // 15
    assert sorted(f.name for f in (killed.run_path / "checkpoints").iterdir()) == ["best", "last"]
    if changes is STREAMING:
        ends = [load_state(c.run_path / "checkpoints" / "last")["blocks"] for c in (whole, killed)]
        assert ends[0] == ends[1] and ends[0]["epoch"] > 0
        assert not list(tmp_path.glob("data/shards/*/*train*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_polite_signal_saves_the_step_it_arrives_at(small_corpus, tmp_path, number):
    # Without an end or an evaluation that a late signal could land on.
    endless = {"max_steps": 10**6, "eval_interval": 10**6}
    config = make_config(small_corpus, tmp_path, "polite", **endless)
    process = start(tmp_path, config)
    wait_for_progress(process, config, more=3)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "saved at step" in output and "Traceback" not in output
    step = int(output.split("saved at step ")[1].split(".")[0])
    assert step == read_metrics(config.run_path)[-1]["step"] >= 3
    assert load_state(config.run_path / "checkpoints" / "last")["progress"]["step"] == step
