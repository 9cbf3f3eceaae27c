"""Two processes, under the real torchrun or from a notebook's cell, are one process with the same
global batch."""

import multiprocessing
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace

import pytest
import torch

from conftest import ROOT, tiny_config
from test_resume import few_articles, lines_of
from wikigpt.cli import main
from wikigpt.config import save_config
from wikigpt.errors import UserError
from wikigpt.training import ranks, train
from wikigpt.training.logging import read_metrics
from wikigpt.training.run_folder import load_run
from wikigpt.training.signals import StopRequest


def torchrun(folder, config):
    path = folder / f"{config.name}.yaml"
    save_config(config, path)
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "-m", "wikigpt", "pretrain", str(path)],
        capture_output=True, text=True, encoding="utf-8", timeout=300,
    )  # fmt: skip


def free_port():
    with socket.socket() as free:  # tests run side by side
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def curve(config, kind, key):
    return [r[key] for r in read_metrics(config.run_path) if r["kind"] == kind]


@pytest.mark.parametrize(
    ("engine", "blocks"), [("own", "shards"), ("own", "streaming"), ("trainer", "shards")]
)
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
    port = free_port()
    cell = cell.replace("num_processes=2", f"num_processes=2, use_port='{port}'")
    assert "two.yaml" in cell and str(port) in cell
    done = subprocess.run(
        [sys.executable, "-c", cell],
        capture_output=True, text=True, encoding="utf-8", timeout=300,
    )  # fmt: skip
    assert done.returncode == 0 and "error:" not in done.stderr, done.stderr
    assert curve(two, "step", "loss") == pytest.approx(curve(one, "step", "loss"), rel=1e-4)
    assert len(curve(two, "step", "loss")) == 12


def one_of_two(rank, port, path, said):
    """What torchrun starts twice."""
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    with said.open("w", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        sys.exit(main(["pretrain", str(path)]))


@pytest.fixture(scope="module")
def start_two():
    """Starts the two processes of a config; forked from one that has imported all, they are there
    at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["wikigpt.training.trainer", "wikigpt.cli"])

    def start(config):
        path = config.run_path.with_suffix(".yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        save_config(config, path)
        port = free_port()
        two = [
            context.Process(
                target=one_of_two, args=(rank, port, path, path.with_suffix(f".{rank}.txt"))
            )
            for rank in range(2)
        ]
        for process in two:
            process.start()
        return two

    return start


def ends(config, two):
    """Their exit codes, when they have ended, and what the first has said."""
    for process in two:
        process.join(300)
    said = config.run_path.with_suffix(".0.txt").read_text(encoding="utf-8")
    return [process.exitcode for process in two], said


def wait_for_lines(config, two, lines):
    """Until metrics.jsonl has got so many more lines, or both have ended."""
    before, deadline = lines_of(config), time.monotonic() + 300
    while lines_of(config) < before + lines and any(process.is_alive() for process in two):
        assert time.monotonic() < deadline, "no progress"
        time.sleep(0.002)


def killed(config, two, lines):
    """Killed, both at once, some time after metrics.jsonl has got so many more lines."""
    wait_for_lines(config, two, lines)
    time.sleep(random.uniform(0, 0.05))
    for process in two:
        process.kill()
    return ends(config, two)[0]


def final_files(config):
    last = {"own": "last", "trainer": f"checkpoint-{config.training.max_steps}"}
    folders = (last[config.training.engine], "best")
    path = config.run_path / "checkpoints"
    return [(path / folder / "model.safetensors").read_bytes() for folder in folders]


FORKSERVER = pytest.mark.skipif(
    "forkserver" not in multiprocessing.get_all_start_methods(), reason="Unix has it"
)
DEAD = [-signal.SIGKILL] * 2 if hasattr(signal, "SIGKILL") else None


@FORKSERVER
@pytest.mark.parametrize(
    ("engine", "blocks"), [("own", "shards"), ("own", "streaming"), ("trainer", "shards"),
                           ("trainer", "streaming")],
)  # fmt: skip
def test_two_that_are_killed_and_resumed_end_with_the_same_bits(
    small_corpus, tmp_path, start_two, engine, blocks
):
    settings = {
        "engine": engine, "blocks": blocks, "dropout": 0.1, "grad_accumulation_steps": 4,
        "micro_batch_size": 2, "max_steps": 80, "eval_interval": 10, "n_layer": 2,
        "min_count": 5, "validation_fraction": 0.1,
    }  # fmt: skip
    corpus = few_articles(small_corpus, tmp_path)
    whole, pieces = (
        tiny_config(corpus, tmp_path, name=name, **settings) for name in ("whole", "pieces")
    )
    codes, said = ends(whole, start_two(whole))
    assert codes == [0, 0], said
    for lines in (random.randint(12, 25), random.randint(1, 25)):
        assert killed(pieces, start_two(pieces), lines) == DEAD
    codes, said = ends(pieces, start_two(pieces))
    assert codes == [0, 0] and "going on from step" in said, said
    assert final_files(whole) == final_files(pieces)
    for kind, key in (("step", "loss"), ("step", "grad_norm"), ("evaluation", "bits_per_byte")):
        expected = curve(whole, kind, key)
        assert curve(pieces, kind, key) == expected, key
        assert len(expected) == (80 if kind == "step" else 8)


@FORKSERVER
@pytest.mark.parametrize("engine", ["own", "trainer"])
def test_a_signal_to_one_of_two_stops_both_at_the_same_step(
    small_corpus, tmp_path, start_two, engine
):
    """Or the other would wait for gradients that never come."""
    settings = {
        "engine": engine, "dropout": 0.1, "grad_accumulation_steps": 4, "micro_batch_size": 2,
        "max_steps": 60, "eval_interval": 60,
    }  # fmt: skip
    whole, pieces = (
        tiny_config(small_corpus, tmp_path, name=name, **settings) for name in ("whole", "pieces")
    )
    codes, said = ends(whole, start_two(whole))
    assert codes == [0, 0], said
    two = start_two(pieces)
    wait_for_lines(pieces, two, 12)
    os.kill(two[1].pid, signal.SIGTERM)
    codes, said = ends(pieces, two)
    assert codes == [130, 130], said
    saved = re.search(r"SIGTERM: saved at step (\d+)", said)
    assert saved and 0 < int(saved[1]) < 60, said
    codes, said = ends(pieces, start_two(pieces))
    assert codes == [0, 0] and f"going on from step {saved[1]}" in said, said
    assert final_files(whole) == final_files(pieces)


def test_a_signal_that_comes_while_the_others_are_asked_is_heard_at_the_next_step(monkeypatch):
    """A process waits for the others most of its time, so most signals come just there."""

    def signalled_meanwhile(value):
        signal.raise_signal(signal.SIGTERM)
        return value

    with StopRequest() as stop:
        assert not stop.heard()
        with monkeypatch.context() as patch:
            patch.setattr(ranks, "from_any", signalled_meanwhile)
            assert not stop.heard(), "the others were told that nobody was asked"
        assert stop.heard() and stop.reason == "SIGTERM"


@FORKSERVER
def test_two_that_were_killed_are_resumed_by_one_with_the_same_losses(
    small_corpus, tmp_path, start_two
):
    settings = {"blocks": "streaming", "grad_accumulation_steps": 4, "max_steps": 60}
    whole, pieces = (
        tiny_config(small_corpus, tmp_path, name=name, **settings) for name in ("whole", "pieces")
    )
    list(train(whole, say=lambda _: None))
    assert killed(pieces, start_two(pieces), 12) == DEAD
    rest = list(train(pieces, say=lambda _: None))
    assert rest[0].done_steps >= 4, "of the two"
    assert curve(pieces, "step", "loss") == pytest.approx(curve(whole, "step", "loss"), rel=1e-4)
    assert len(curve(pieces, "step", "loss")) == 60


@FORKSERVER
def test_what_one_began_by_the_trainer_is_refused_by_two(small_corpus, tmp_path, start_two):
    """Each process has random generators of its own, and Trainer wants its own back."""
    config = tiny_config(small_corpus, tmp_path, engine="trainer", grad_accumulation_steps=2)
    for event in train(config, say=lambda _: None):
        if getattr(event, "step", 0) == 6:
            break
    codes, said = ends(config, start_two(config))
    assert codes == [2, 2]
    assert re.fullmatch(
        r"error: The number of processes was 1 when .*/checkpoint-6 was saved with the random "
        r"state of each, and is 2 now; go on with as many as before\.\n", said
    ), said  # fmt: skip


@FORKSERVER
def test_what_the_first_can_not_do_ends_them_both(small_corpus, tmp_path, start_two):
    settings = {"engine": "trainer", "grad_accumulation_steps": 2}
    list(train(tiny_config(small_corpus, tmp_path, **settings), say=lambda _: None))
    changed = tiny_config(small_corpus, tmp_path, **settings, seed=7)
    codes, said = ends(changed, start_two(changed))
    assert codes == [2, 2]
    assert said.startswith("error: ") and "other settings (seed: 1337 -> 7)" in said
    assert said.count("\n") == 1


SHARED_OUT = """
import os
import torch, torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from wikigpt.config import GPTConfig
from wikigpt.model.gpt import GPT
from wikigpt.model.twin import to_transformers
from wikigpt.training.gpt_trainer import gathered

def share_and_gather():
    mesh = dist.init_device_mesh("cpu", (2,))
    torch.manual_seed(1)
    shape = GPTConfig(n_layer=1, n_head=2, n_embd=16, block_size=8, vocab_size=50)
    twin = to_transformers(GPT(shape))
    before = {name: weight.clone() for name, weight in twin.state_dict().items()}
    assert gathered(twin) is twin
    for block in twin.transformer.h:
        fully_shard(block, mesh=mesh)
    fully_shard(twin, mesh=mesh)
    assert twin.transformer.wte.weight.to_local().numel() < before["transformer.wte.weight"].numel()
    after = gathered(twin).state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())

dist.init_process_group("gloo")
share_and_gather()  # what it made is gone before the processes part
dist.destroy_process_group()
# All is shown. On a busy machine torch's own threads now and then abort while Python shuts down.
os._exit(0)
"""


def test_what_fsdp_shares_out_is_gathered(tmp_path):
    (tmp_path / "shared.py").write_text(SHARED_OUT, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         str(tmp_path / "shared.py")],
        capture_output=True, text=True, encoding="utf-8", timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_each_thread_takes_the_gpu_of_its_process(tiny, monkeypatch):
    """CUDA remembers the device for each thread apart, and Trainer has a thread of its own."""
    taken = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setenv("LOCAL_RANK", "1")
    ranks.take_device(torch.device("cuda"))
    assert taken == []  # alone
    monkeypatch.setattr(ranks, "world_size", lambda: 2)
    ranks.take_device(torch.device("cpu"))
    ranks.take_device(torch.device("cuda"))
    assert taken == [1]
    monkeypatch.undo()

    threads = []
    monkeypatch.setattr(ranks, "take_device", lambda _: threads.append(threading.current_thread()))
    config = replace(tiny, training=replace(tiny.training, engine="trainer", max_steps=1))
    list(train(config, say=lambda _: None))
    assert [thread.name for thread in threads] == ["trainer"]


def test_what_can_not_be_shared_is_told(tiny, monkeypatch):
    monkeypatch.setattr(ranks, "world_size", lambda: 2)
    with pytest.raises(UserError, match="2 processes can't share grad_accumulation_steps=1"):
        list(train(tiny, say=lambda _: None))
