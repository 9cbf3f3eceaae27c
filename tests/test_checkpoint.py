import hashlib
import json
import subprocess
import sys
import textwrap

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wikigpt.errors import UserError
from wikigpt.model import GPT, GPTConfig
from wikigpt.training import checkpoint

resource = pytest.importorskip("resource", reason="limits on a file's size are a Unix thing")


def model(seed: int = 0) -> GPT:
    torch.manual_seed(seed)
    return GPT(GPTConfig(n_layer=1, n_head=1, n_embd=8, block_size=4, vocab_size=11))


def same(a: GPT, b: GPT) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_what_is_saved_is_loaded(tmp_path):
    state = {"step": 3, "random": torch.get_rng_state(), "nested": {"best": None}}
    checkpoint.save(tmp_path / "last", model(), state)
    assert same(checkpoint.load_model(tmp_path / "last"), model())
    loaded = checkpoint.load_state(tmp_path / "last")
    assert loaded["step"] == 3 and torch.equal(loaded["random"], state["random"])
    assert [f.name for f in tmp_path.iterdir()] == ["last"]


def test_what_a_gpu_wrote_is_read_without_one(tmp_path, monkeypatch):
    """As CUDA would have marked it; a machine that has none can't put it back there."""
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        checkpoint.save(tmp_path / "last", model(), {"momentum": torch.arange(3.0)})
    assert checkpoint.load_state(tmp_path / "last")["momentum"].tolist() == [0, 1, 2]


def die_while_saving(folder, function, call):
    """A real death: the process that saves step 2 ends itself inside that call of the function."""
    script = f"""
        import os, pathlib, shutil, torch
        from wikigpt.model import GPT, GPTConfig
        from wikigpt.training import checkpoint
        config = GPTConfig(n_layer=1, n_head=1, n_embd=8, block_size=4, vocab_size=11)
        torch.manual_seed(0)
        real, count = {function}, 0
        def dying(*arguments, **settings):
            global count
            count += 1
            if count == {call}:
                os._exit(9)
            return real(*arguments, **settings)
        {function} = dying
        checkpoint.save(pathlib.Path({str(folder)!r}), GPT(config), {{"step": 2}})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True)
    assert done.returncode == 9, done.stderr.decode()


RENAME, DELETE = "pathlib.Path.rename", "shutil.rmtree"


@pytest.mark.parametrize(
    ("deaths", "step"),
    [
        pytest.param([(RENAME, 1)], 1, id="before the old one steps aside"),
        pytest.param([(RENAME, 2)], 1, id="after it"),
        pytest.param([(RENAME, 2), (RENAME, 1)], 1, id="after it, and in the save after that"),
        pytest.param([(DELETE, 3)], 2, id="before the old one is deleted"),
    ],
)
def test_a_kill_between_the_renames_leaves_a_whole_checkpoint(tmp_path, deaths, step):
    checkpoint.save(tmp_path / "last", model(1), {"step": 1})
    for function, call in deaths:
        die_while_saving(tmp_path / "last", function, call)
    assert checkpoint.load_state(tmp_path / "last")["step"] == step
    assert same(checkpoint.load_model(tmp_path / "last"), model(0 if step == 2 else 1))
    # And the next save finds its way, whatever lies around.
    checkpoint.save(tmp_path / "last", model(5), {"step": 3})
    assert checkpoint.load_state(tmp_path / "last")["step"] == 3
    assert [f.name for f in tmp_path.iterdir()] == ["last"]


def test_a_full_disk_is_one_sentence_and_the_old_checkpoint_stays(tmp_path):
    """The operating system itself refuses to let the file grow."""
    folder = tmp_path / "last"
    checkpoint.save(folder, model(), {"step": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"disk is full.*before it is whole.*go on"):
            checkpoint.save(folder, model(1), {"step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpoint.load_state(folder)["step"] == 1
    assert same(checkpoint.load_model(folder), model(0))
    assert [f.name for f in tmp_path.iterdir()] == ["last"]


@pytest.mark.parametrize("file", ["model.safetensors", "model.json", "state.pt"])
@pytest.mark.parametrize("damage", ["truncate", "empty", "remove"])
def test_a_damaged_checkpoint_is_told(tmp_path, file, damage):
    folder = tmp_path / "last"
    checkpoint.save(folder, model(), {"step": 1})
    content = (folder / file).read_bytes()
    if damage == "remove":
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content[: len(content) // 2] if damage == "truncate" else b"")
    with pytest.raises(UserError, match=r"last is damaged .* start afresh"):
        checkpoint.load_state(folder)
        checkpoint.load_model(folder)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "last"
    checkpoint.save(folder, model(), {"step": 1, "optimizer": torch.arange(500.0)})
    return folder


@given(data=st.data())
def test_one_flipped_bit_is_told_in_every_file(saved, data):
    checkpoint.load_state(saved), checkpoint.load_model(saved)
    file = data.draw(st.sampled_from(sorted(saved.iterdir())))
    content = file.read_bytes()
    flipped = bytearray(content)
    flipped[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(flipped)
    try:
        with pytest.raises(UserError, match=r"last is damaged .* start afresh"):
            checkpoint.load_state(saved), checkpoint.load_model(saved)
    finally:
        file.write_bytes(content)


def test_the_checksums_are_those_of_anybody(saved):
    checksums = json.loads((saved / "sha256.json").read_text(encoding="utf-8"))
    others = {f for f in saved.iterdir() if f.name != "sha256.json"}
    assert checksums == {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in others}


def test_no_checkpoint_is_told(tmp_path):
    with pytest.raises(UserError, match="There is no checkpoint"):
        checkpoint.load_model(tmp_path / "last")


def test_a_state_that_runs_code_is_not_loaded(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "evil"), "w"))

    checkpoint.save(tmp_path / "last", model(), {})
    torch.save({"x": Evil()}, tmp_path / "last" / "state.pt")
    (tmp_path / "last" / "sha256.json").unlink()
    with pytest.raises(UserError, match="damaged"):
        checkpoint.load_state(tmp_path / "last")
    assert not (tmp_path / "evil").exists()
