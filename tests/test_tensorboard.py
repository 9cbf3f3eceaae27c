"""The real TensorBoard, started on a run folder and read over HTTP."""

import json
import re
import subprocess
import sys
import time
import urllib.request

import pytest

from wikigpt.training import events, train
from wikigpt.training.logging import read_metrics


@pytest.fixture
def board(tiny):
    """A run that was interrupted once, and a TensorBoard on it: (folder of the run, fetch)."""
    for event in train(tiny, say=lambda _: None):
        if isinstance(event, events.Step) and event.step == 6:
            break
    for _ in train(tiny, say=lambda _: None):
        pass
    runs = tiny.run_path.parent
    process = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", "--logdir", str(runs), "--port", "0",
         "--host", "127.0.0.1", "--load_fast", "false"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    address = None
    while address is None:
        line = process.stderr.readline()
        assert line, "TensorBoard ended early"
        found = re.search(r"http://127\.0\.0\.1:\d+/", line)
        address = found and found.group()

    def fetch(path: str):
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            address + path, timeout=10
        ) as answer:
            return json.loads(answer.read())

    yield tiny.run_path, fetch
    process.kill()
    process.wait()
    process.stderr.close()


def test_it_shows_every_curve_once_and_quality_first(board):
    folder, fetch = board
    deadline = time.monotonic() + 30
    while not (tags := fetch("data/plugin/scalars/tags").get("tiny")):
        assert time.monotonic() < deadline, "the run never appeared"
        time.sleep(0.2)
    assert sorted(tags) == [
        "bits_per_byte/train",
        "bits_per_byte/validation",
        "loss/train_nats_per_token",
        "loss/validation_nats_per_char",
        "loss/validation_nats_per_token",
        "optimizer/grad_norm",
        "optimizer/learning_rate",
        "speed/mfu",
        "speed/tokens_per_second",
    ]
    records = read_metrics(folder)
    for tag, kind, key in (
        ("loss/train_nats_per_token", "step", "loss"),
        ("bits_per_byte/validation", "evaluation", "bits_per_byte"),
    ):
        shown = fetch(f"data/plugin/scalars/scalars?run=tiny&tag={tag}")
        expected = [(r["step"], r[key]) for r in records if r["kind"] == kind]
        # Interrupted at step 6 and resumed, and yet each step is there once.
        assert [point[1] for point in shown] == [step for step, _ in expected]
        assert [point[2] for point in shown] == pytest.approx([v for _, v in expected], rel=1e-6)

    texts = fetch("data/plugin/text/text?run=tiny&tag=samples/text_summary")
    assert [text["step"] for text in texts] == [4, 8, 12]
    assert "<strong>La ville de</strong>" in texts[0]["text"]
    assert fetch("data/plugins_listing")["hparams"]["enabled"]
