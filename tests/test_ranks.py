"""Two processes, under the real torchrun or from a notebook's cell, are one process with the same
global batch."""

import re
import socket
import subprocess
import sys

import pytest

from conftest import ROOT, tiny_config
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


@pytest.mark.skipif(sys.platform == "win32", reason="the launcher forks")
def test_two_from_a_notebook_are_one(small_corpus, tmp_path):
    """README's lines, as they stand there, for another config."""
    settings = {"engine": "trainer", "grad_accumulation_steps": 2}
    one, two = (tiny_config(small_corpus, tmp_path, name=n, **settings) for n in ("one", "two"))
    list(train(one, say=lambda _: None))
    save_config(two, tmp_path / "two.yaml")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    cell = re.search(r"```python\n(.*?notebook_launcher\(.*?)```", readme, re.S).group(1)
    cell = cell.replace("configs/gpt2-mini.yaml", (tmp_path / "two.yaml").as_posix())
    with socket.socket() as free:  # tests run side by side
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cell = cell.replace("num_processes=2", f"num_processes=2, use_port='{port}'")
    assert "two.yaml" in cell and str(port) in cell
    done = subprocess.run(
        [sys.executable, "-c", cell],
        capture_output=True, text=True, encoding="utf-8", timeout=300,
    )  # fmt: skip
    assert done.returncode == 0 and "error:" not in done.stderr, done.stderr
    assert curve(two, "step", "loss") == pytest.approx(curve(one, "step", "loss"), rel=1e-4)
    assert len(curve(two, "step", "loss")) == 12


SHARED_OUT = """
import torch, torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from wikigpt.config import GPTConfig
from wikigpt.model.gpt import GPT
from wikigpt.model.twin import to_transformers
from wikigpt.training.trainer import gathered
dist.init_process_group("gloo")
mesh = dist.init_device_mesh("cpu", (2,))
torch.manual_seed(1)
twin = to_transformers(GPT(GPTConfig(n_layer=1, n_head=2, n_embd=16, block_size=8, vocab_size=50)))
before = {name: weight.clone() for name, weight in twin.state_dict().items()}
assert gathered(twin) is twin
for block in twin.transformer.h:
    fully_shard(block, mesh=mesh)
fully_shard(twin, mesh=mesh)
assert twin.transformer.wte.weight.to_local().numel() < before["transformer.wte.weight"].numel()
after = gathered(twin).state_dict()
assert all(torch.equal(after[name], weight) for name, weight in before.items())
dist.destroy_process_group()
"""


def test_what_fsdp_shares_out_is_gathered(tmp_path):
    (tmp_path / "shared.py").write_text(SHARED_OUT, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         str(tmp_path / "shared.py")],
        capture_output=True, text=True, encoding="utf-8", timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_what_can_not_be_shared_is_told(tiny, monkeypatch):
    monkeypatch.setattr(ranks, "world_size", lambda: 2)
    with pytest.raises(UserError, match="2 processes can't share grad_accumulation_steps=1"):
        list(train(tiny, say=lambda _: None))
