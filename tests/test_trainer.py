"""transformers' Trainer against our own loop, and what guards it from its own surprises."""

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from conftest import tiny_config
from wikigpt.blocks.prepare import prepare
from wikigpt.blocks.sampler import indices_of_step
from wikigpt.blocks.shards import TokenBlocks
from wikigpt.config import load_config, with_vocabulary
from wikigpt.errors import UserError
from wikigpt.files import read_json
from wikigpt.model.gpt import GPT
from wikigpt.plots import plot_runs
from wikigpt.training import events, train
from wikigpt.training.gpt_trainer import training_arguments
from wikigpt.training.hardware import Hardware
from wikigpt.training.logging import read_metrics
from wikigpt.training.micro_batches import BlockSampler, micro_batches
from wikigpt.training.run_folder import load_run
from wikigpt.training.trainer_checkpoint import MARK, mark_whole, newest_whole

# The library's own hints of what will be removed are mistakes of ours.
pytestmark = pytest.mark.filterwarnings("error::FutureWarning", "error::DeprecationWarning")


def run(config, say=lambda _: None, **settings):
    return list(train(config, say=say, **settings))


def of(kind, stream):
    return [event for event in stream if isinstance(event, kind)]


def checkpoints(config):
    return sorted(f.name for f in (config.run_path / "checkpoints").iterdir())


def last_weights(config):
    folder = config.run_path / "checkpoints" / f"checkpoint-{config.training.max_steps}"
    return load_file(folder / "model.safetensors")


@pytest.fixture
def trainer(small_corpus, tmp_path):
    return tiny_config(small_corpus, tmp_path, engine="trainer")


@pytest.fixture(scope="module")
def pair(small_corpus, tmp_path_factory):
    """The same 200 steps by both engines, over several epochs with a padded last block."""
    folder = tmp_path_factory.mktemp("pair")
    corpus = folder / "short.jsonl"
    corpus.write_bytes(b"".join(small_corpus.read_bytes().splitlines(keepends=True)[:60]))
    configs, streams = [], []
    for engine in ("own", "trainer"):
        config = tiny_config(
            corpus, folder, name=engine, engine=engine, max_steps=200, eval_interval=100,
            grad_accumulation_steps=2, n_layer=2, learning_rate=3e-3, warmup_steps=10,
        )  # fmt: skip
        configs.append(config)
        streams.append(run(config))
    blocks = prepare(configs[0]).train
    assert 2 * len(blocks) < 200 * 8 and blocks.counts.tokens % blocks.block_size
    return configs, streams


def test_the_losses_are_those_of_the_own_loop_at_every_step(pair):
    _, (own, other) = pair
    for name, tolerance in (("loss", 1e-4), ("grad_norm", 1e-3), ("learning_rate", 1e-12)):
        expected = [getattr(step, name) for step in of(events.Step, own)]
        assert len(expected) == 200
        assert [getattr(step, name) for step in of(events.Step, other)] == pytest.approx(
            expected, rel=tolerance
        ), name
    assert [s.tokens for s in of(events.Step, own)] == [s.tokens for s in of(events.Step, other)]
    assert own[-1].best.bits_per_byte == pytest.approx(other[-1].best.bits_per_byte, rel=1e-4)


def test_the_last_weights_are_those_of_the_own_loop(pair):
    (own, other), _ = pair
    ours, theirs = (load_run(config.run_path)[0] for config in (own, other))
    for name, weight in ours.named_parameters():
        difference = (weight - theirs.get_parameter(name)).abs()
        if name.endswith("query_key_value.bias"):
            # A bias on all keys cancels in the softmax: its gradient is rounding, which AdamW
            # scales up to steps of full size.
            difference = difference.view(3, -1)[[0, 2]]
        assert difference.max() < 1e-4, name


def test_the_events_and_the_records_are_the_same(pair):
    configs, (own, other) = pair
    kinds = [[type(event).__name__ for event in stream] for stream in (own, other)]
    assert kinds[0] == kinds[1]
    records = [read_metrics(config.run_path) for config in configs]
    assert [list(r) for r in records[0]] == [list(r) for r in records[1]]
    figure = plot_runs([config.run_path for config in configs])
    curves = [line.get_xydata()[:, 1].tolist() for line in figure.axes[0].lines]
    assert curves[0] == pytest.approx(curves[1], rel=1e-4) and len(curves[0]) == 2


def test_tensorboard_has_the_same_tags(pair):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tags = []
    for config in pair[0]:
        board = EventAccumulator(str(config.run_path))
        board.Reload()
        tags.append({kind: board.Tags()[kind] for kind in ("scalars", "tensors")})
    assert tags[0] == tags[1] and len(tags[0]["scalars"]) == 9


def test_every_target_counts_and_counts_once(trainer):
    """The loss of a step is the mean over all its targets, padding left out."""
    data = prepare(trainer)
    torch.manual_seed(trainer.seed)
    model = GPT(with_vocabulary(trainer.model, data.tokenizer.vocab_size))
    _, loss = model(*data.train.batch(indices_of_step(trainer, len(data.train), 0)))
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9)
    first = of(events.Step, run(trainer))[0]
    # Blocks of 32 tokens: the known bias would be a factor of 31/32 in both.
    assert first.loss == pytest.approx(loss.item(), rel=1e-5)
    assert first.grad_norm == pytest.approx(norm.item(), rel=1e-4)


def test_a_batch_is_a_function_of_its_number(trainer):
    at = lambda start: list(BlockSampler(trainer, 50, start))  # noqa: E731
    assert len(BlockSampler(trainer, 50, 7)) == len(at(0)) == 12
    assert at(7) == at(0)[7:]
    far = tiny_config("x", trainer.run_path, max_steps=10**9)
    expected = indices_of_step(far, 50, 10**8).tolist()
    assert next(iter(BlockSampler(far, 50, 10**8))) == expected


@pytest.mark.parametrize("blocks", ["shards", "streaming"])
def test_the_micro_batches_of_two_ranks_are_those_of_one(small_corpus, tmp_path, blocks):
    settings = {"micro_batch_size": 2, "grad_accumulation_steps": 4, "max_steps": 3}
    config = tiny_config(small_corpus, tmp_path, engine="trainer", blocks=blocks, **settings)

    def rows_of_steps(*rank_and_world_size):
        batches = micro_batches(config, prepare(config), 0, None, *rank_and_world_size)
        return torch.cat([batch["input_ids"] for batch in batches]).view(3, -1, 32)

    two = torch.cat([rows_of_steps(0, 2), rows_of_steps(1, 2)], dim=1)
    assert torch.equal(two, rows_of_steps(0, 1))


def test_a_resume_reads_nothing_that_was_read(trainer, monkeypatch):
    read = []
    real = TokenBlocks.batch
    monkeypatch.setattr(TokenBlocks, "batch", lambda self, i: read.append(list(i)) or real(self, i))
    for event in train(trainer, say=lambda _: None):
        if isinstance(event, events.Step) and event.step == 9:
            break
    read.clear()
    rest = run(trainer)
    assert [step.step for step in of(events.Step, rest)] == [10, 11, 12]
    expected = [
        indices_of_step(trainer, len(prepare(trainer).train), k).tolist() for k in range(12)
    ]
    assert [batch for batch in read if batch in expected[:9]] == []
    assert read[-expected_tail(trainer) - 3 :][:3] == expected[9:]


def expected_tail(config):
    """Reads of the one evaluation at the end, which come after the last step."""
    data = prepare(config)
    return -(-len(data.validation) // config.training.micro_batch_size)


def test_the_arguments_say_what_is_done(trainer, tmp_path):
    arguments = training_arguments(
        trainer, Hardware(torch.device("cpu"), "fp32", "", 1.0), tmp_path
    )
    assert arguments.report_to == [] and not arguments.logging_nan_inf_filter
    assert arguments.ignore_data_skip and arguments.save_total_limit == 2
    assert (arguments.max_steps, arguments.eval_steps, arguments.save_steps) == (12, 4, 4)
    assert (arguments.adam_beta1, arguments.adam_beta2, arguments.max_grad_norm) == (0.9, 0.99, 1.0)
    assert arguments.use_cpu and not arguments.bf16


def test_no_token_of_the_hub_is_written(trainer, monkeypatch):
    secret = "hf_" + "x" * 34
    monkeypatch.setenv("HF_TOKEN", secret)
    run(trainer)
    files = [f for f in trainer.run_path.rglob("*") if f.is_file()]
    assert any(f.name == "training_args.bin" for f in files)
    assert not [f for f in files if secret.encode() in f.read_bytes()]


STATE = ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"]


@pytest.fixture(scope="module")
def stopped(small_corpus, tmp_path_factory):
    """A run that was left at step 10, with the checkpoints 8 and 10."""
    config = tiny_config(small_corpus, tmp_path_factory.mktemp("stopped"), engine="trainer")
    for event in train(config, say=lambda _: None):
        if isinstance(event, events.Step) and event.step == 10:
            break
    assert checkpoints(config) == ["best", "checkpoint-10", "checkpoint-8"]
    return config


@pytest.fixture
def left(stopped, tmp_path):
    """A copy of it to damage."""
    shutil.copytree(stopped.run_path, tmp_path / "runs" / "tiny")
    return tiny_config(
        stopped.corpus.files[0], tmp_path, engine="trainer", data_dir=stopped.data_dir
    )


@pytest.mark.parametrize("name", STATE)
def test_a_checkpoint_that_lost_a_file_is_not_gone_on_from(left, name):
    said = []
    (left.run_path / "checkpoints" / "checkpoint-10" / name).unlink()
    assert of(events.Step, run(left, said.append))[0].step == 9
    assert [s for s in said if "checkpoint-10" in s] == [
        f"{left.run_path}/checkpoints/checkpoint-10 has lost its {name}; it is set aside as "
        "incomplete-10. Going on from checkpoint-8."
    ]
    assert checkpoints(left) == ["best", "checkpoint-12", "checkpoint-8", "incomplete-10"]


def test_a_checkpoint_that_was_cut_short_is_not_gone_on_from(left):
    newest = left.run_path / "checkpoints" / "checkpoint-10"
    os.truncate(newest / "optimizer.pt", 1000)
    said = []
    assert of(events.Step, run(left, said.append))[0].step == 9
    assert "has a damaged optimizer.pt" in said[-1]


@settings(max_examples=60)
@given(data=st.data())
def test_one_flipped_bit_is_noticed_in_every_file(stopped, data):
    """And the checkpoint before it is gone on from, with one sentence that says why."""
    whole = stopped.run_path / "checkpoints" / "checkpoint-10"
    files = sorted(f.relative_to(whole) for f in whole.rglob("*") if f.is_file())
    assert {*STATE, "config.json", "training_args.bin", MARK} <= {f.as_posix() for f in files}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "checkpoints"
        shutil.copytree(whole.parent, copy)
        assert newest_whole(copy, pytest.fail)[0].name == "checkpoint-10"
        damaged = copy / "checkpoint-10" / data.draw(st.sampled_from(files))
        content = bytearray(damaged.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        damaged.write_bytes(content)
        said = []
        assert newest_whole(copy, said.append)[0].name == "checkpoint-8"
        assert len(said) == 1 and f"damaged {damaged.name}; it is set aside" in said[0]
        # With no other to go back to, it does not quietly begin again.
        (copy / "incomplete-10").rename(copy / "checkpoint-10")
        shutil.rmtree(copy / "checkpoint-8")
        with pytest.raises(
            UserError, match=f"is whole: checkpoint-10 has a damaged {damaged.name}"
        ):
            newest_whole(copy, pytest.fail)


def test_a_checkpoint_that_was_never_finished_is_not_gone_on_from(left):
    (left.run_path / "checkpoints" / "checkpoint-10" / "whole.json").unlink()
    said = []
    assert of(events.Step, run(left, said.append))[0].step == 9
    assert "was never finished" in said[-1]


def test_without_a_whole_checkpoint_it_does_not_quietly_begin_again(left):
    for step in (8, 10):
        (left.run_path / "checkpoints" / f"checkpoint-{step}" / "optimizer.pt").unlink()
    with pytest.raises(UserError, match=r"is whole: checkpoint-10 has lost its optimizer\.pt"):
        run(left)
    assert len(read_metrics(left.run_path)) == 10 + 2 * 2
    assert of(events.Step, run(left, fresh=True))[0].step == 1


def test_the_random_state_of_two_processes_is_not_gone_on_from_by_one(left):
    newest = left.run_path / "checkpoints" / "checkpoint-10"
    mark_whole(newest, read_json(newest / MARK)["state"] | {"processes": 2})
    with pytest.raises(UserError, match=r"processes was 2 .* and is 1 now"):
        run(left)


def test_a_first_checkpoint_cut_short_costs_its_steps_only(left):
    shutil.rmtree(left.run_path / "checkpoints" / "checkpoint-8")
    (left.run_path / "checkpoints" / "checkpoint-10" / "whole.json").unlink()
    said = []
    assert of(events.Step, run(left, said.append))[0].step == 1
    assert "begins again" in said[-1]


def test_a_finished_run_has_nothing_more_to_do(pair):
    configs, _ = pair
    assert [type(e) for e in run(configs[1])] == [events.Finished]


def test_an_exception_in_the_readers_code_saves_too(trainer):
    def reader():
        for event in train(trainer, say=lambda _: None):
            if isinstance(event, events.Step) and event.step == 6:
                raise RuntimeError("a mistake in a plot")

    with pytest.raises(RuntimeError):
        reader()
    assert of(events.Step, run(trainer))[0].step == 7


def test_leaving_before_the_first_step_leaves_nothing(trainer):
    for event in train(trainer, say=lambda _: None):
        assert isinstance(event, events.Preflight)
        break
    assert not (trainer.run_path / "checkpoints").exists() or not checkpoints(trainer)
    assert of(events.Step, run(trainer))[0].step == 1


def test_ctrl_c_saves_and_stops(trainer):
    stream = []
    for event in train(trainer, say=lambda _: None):
        stream.append(event)
        if isinstance(event, events.Step) and event.step == 6:
            os.kill(os.getpid(), signal.SIGINT)
    assert isinstance(stream[-1], events.Stopped) and stream[-1].step == 6
    assert isinstance(stream[-2], events.Checkpoint)
    assert of(events.Step, run(trainer))[0].step == 7


def test_a_second_ctrl_c_insists(trainer):
    with pytest.raises(KeyboardInterrupt):
        for event in train(trainer, say=lambda _: None):
            if isinstance(event, events.Step) and event.step == 2:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)


def test_a_loss_that_is_no_number_stops_the_run(trainer, monkeypatch):
    from wikigpt.training import gpt_trainer as module

    real = module.learning_rate_at
    monkeypatch.setattr(module, "learning_rate_at", lambda s, c: 1e30 if s >= 5 else real(s, c))
    with pytest.raises(UserError, match=r"at step 7, .*checkpoint-4 holds the last good state"):
        run(trainer)
    monkeypatch.undo()
    assert of(events.Step, run(trainer))[0].step == 5


def test_a_full_accelerator_is_told(trainer, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr("wikigpt.training.trainer.evaluate_run", full)
    with pytest.raises(UserError, match="The accelerator's memory is full; lower micro_batch_size"):
        run(trainer)


def test_workers_are_for_trainer_only(small_corpus, tmp_path):
    with pytest.raises(UserError, match="data_workers needs engine: trainer"):
        tiny_config(small_corpus, tmp_path, data_workers=2)


def test_fsdp_is_for_trainer_on_gpus(small_corpus, tmp_path):
    """Whether it trains, only GPUs can tell."""
    with pytest.raises(UserError, match="fsdp needs engine: trainer"):
        tiny_config(small_corpus, tmp_path, fsdp=True)
    config = tiny_config(small_corpus, tmp_path, engine="trainer", fsdp=True)
    arguments = training_arguments(config, Hardware(torch.device("cpu"), "fp32", "", 1.0), tmp_path)
    assert arguments.fsdp is True and arguments.fsdp_plugin_args["fsdp_version"] == 2
    with pytest.raises(UserError, match="shares a model out among several GPUs"):
        run(config)


def test_muon_is_for_the_own_loop_only(small_corpus, tmp_path):
    with pytest.raises(UserError, match="engine: trainer has optimizer adamw only"):
        tiny_config(small_corpus, tmp_path, engine="trainer", optimizer="muon")


def test_the_modern_architecture_has_the_same_losses_too(small_corpus, tmp_path):
    streams = [
        run(tiny_config(small_corpus, tmp_path, name=engine, engine=engine, arch="modern"))
        for engine in ("own", "trainer")
    ]
    own, other = ([step.loss for step in of(events.Step, stream)] for stream in streams)
    assert len(own) == 12 and other == pytest.approx(own, rel=1e-4)
    assert load_run(tmp_path / "runs" / "trainer")[0].config.arch == "modern"


def test_another_engine_is_another_experiment(trainer, small_corpus, tmp_path):
    run(trainer)
    with pytest.raises(UserError, match=r"training\.engine: trainer -> own"):
        run(tiny_config(small_corpus, tmp_path))


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("tiny", 1.3e6, 1.5e6), ("mini", 10e6, 15e6), ("small", 124e6, 125e6)],
)
def test_the_configs_are_of_the_size_they_say(name, least, most):
    config = load_config(f"configs/gpt2-{name}.yaml")
    assert (config.name, config.training.engine) == (f"gpt2-{name}", "trainer")
    with torch.device("meta"):
        model = GPT(with_vocabulary(config.model, config.tokenizer.vocab_size))
    assert least < model.n_parameters < most
