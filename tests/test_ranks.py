"""Two processes under the real torchrun are one process with the same global batch."""

import subprocess
import sys

import pytest

from conftest import tiny_config
from wikigpt.config import save_config
from wikigpt.errors import UserError
from wikigpt.training import ranks, train
from wikigpt.training.logging import read_metrics
from wikigpt.training.run_folder import load_run


def torchrun(folder, config):
    path = folder / f"{config.name}.yaml"
    save_config(config, path)
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "-m", "wikigpt", "pretrain", str(path)],
        capture_output=True, text=True, encoding="utf-8", timeout=300,
    )  # fmt: skip


def curve(config, kind, key):
    return [r[key] for r in read_metrics(config.run_path) if r["kind"] == kind]


@pytest.mark.parametrize(("engine", "blocks"), [("own", "streaming"), ("trainer", "shards")])
def test_two_are_one(small_corpus, tmp_path, engine, blocks):
    corpus = tmp_path / "short.jsonl"  # so short that the padded last block is met
    corpus.write_bytes(b"".join(small_corpus.read_bytes().splitlines(keepends=True)[:12]))
    settings = {
        "engine": engine, "blocks": blocks, "grad_accumulation_steps": 4, "max_steps": 15,
        "eval_interval": 5, "validation_fraction": 0.2, "min_count": 5,
    }  # fmt: skip
    one = tiny_config(corpus, tmp_path, name="one", **settings)
    list(train(one, say=lambda _: None))
    two = tiny_config(corpus, tmp_path, name="two", **settings)
    done = torchrun(tmp_path, two)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Trained 15 steps") == 1, "one of them speaks"
    for kind, key in (("step", "loss"), ("step", "grad_norm"), ("evaluation", "bits_per_byte")):
        expected = curve(one, kind, key)
        assert len(expected) == (15 if kind == "step" else 3)
        assert curve(two, kind, key) == pytest.approx(expected, rel=1e-4), key
    assert curve(two, "step", "tokens") == curve(one, "step", "tokens")
    assert load_run(two.run_path)[0]


def test_what_can_not_be_shared_is_told(tiny, monkeypatch):
    monkeypatch.setattr(ranks, "world_size", lambda: 2)
    with pytest.raises(UserError, match="2 processes can't share grad_accumulation_steps=1"):
        list(train(tiny, say=lambda _: None))
