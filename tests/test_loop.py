"""The training loop against a plain one, its arithmetic, and what it does when things go wrong."""

import math
import os
import shutil
import signal
import threading
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from conftest import tiny_config
from wikigpt.blocks.prepare import prepare
from wikigpt.blocks.sampler import batch_indices
from wikigpt.config import load_config, with_vocabulary
from wikigpt.errors import UserError
from wikigpt.model import GPT
from wikigpt.model.generate import complete
from wikigpt.model.twin import to_transformers
from wikigpt.training import (
    checkpoint,
    compiling,
    events,
    hardware,
    loop,
    preflight,
    progress,
    train,
    trainer,
)  # fmt: skip
from wikigpt.training.hardware import detect
from wikigpt.training.logging import read_metrics
from wikigpt.training.run_folder import load_run

either_engine = pytest.mark.parametrize("engine", ["own", "trainer"])


def run(config, **settings):
    return list(train(config, say=lambda _: None, **settings))


def of(kind, stream):
    return [event for event in stream if isinstance(event, kind)]


def weights(config, which="last"):
    return load_file(config.run_path / "checkpoints" / which / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_the_events_come_in_order(tiny):
    stream = run(tiny)
    kinds = [type(event).__name__ for event in stream]
    evaluation = ["Step"] * 4 + ["Evaluation", "Sample", "Checkpoint"]
    assert kinds == ["Preflight", *evaluation * 3, "Finished"]
    steps = of(events.Step, stream)
    assert [s.step for s in steps] == list(range(1, 13))
    assert [s.tokens for s in steps] == [4 * 32 * i for i in range(1, 13)]
    assert stream[-1].best == min(of(events.Evaluation, stream), key=lambda e: e.bits_per_byte)


@either_engine
def test_the_last_step_is_evaluated_and_saved_wherever_it_falls(small_corpus, tmp_path, engine):
    config = tiny_config(small_corpus, tmp_path, engine=engine, max_steps=14)
    stream = run(config)
    assert [e.step for e in of(events.Evaluation, stream)] == [4, 8, 12, 14]
    assert [c.step for c in of(events.Checkpoint, stream)] == [4, 8, 12, 14]


def test_samples_are_written_as_the_config_says(small_corpus, tmp_path):
    how = {"temperature": 0.5, "top_k": 3, "no_repeat_ngram_size": 1}
    config = tiny_config(small_corpus, tmp_path, prompts=["a"], max_new_tokens=20, **how)
    sample = of(events.Sample, run(config))[-1]
    model = checkpoint.load_model(config.run_path / "checkpoints" / "last")
    tokenizer = prepare(config, lambda _: None).tokenizer
    assert sample.text == "".join(complete(model, tokenizer, "a", 20, seed=1337, **how))
    assert sample.text != "".join(complete(model, tokenizer, "a", 20, seed=1337, temperature=0.5))


def test_preflight_says_what_happens(tiny):
    stream = run(tiny)
    flight, first = stream[0], stream[1]
    assert flight.first_loss == pytest.approx(flight.log_vocab_size, abs=0.25)
    assert flight.first_loss == pytest.approx(first.loss, rel=1e-5)
    assert flight.tokens_per_parameter == pytest.approx(12 * 128 / flight.parameters)
    assert flight.precision == "fp32" and flight.why_precision == "asked for"


def test_the_expected_time_counts_the_optimizer(tiny, monkeypatch):
    class Slow(torch.optim.SGD):
        def step(self, closure=None):
            time.sleep(0.5)

    monkeypatch.setattr(preflight, "make_optimizer", lambda model, *_: Slow(model.parameters()))
    flight = next(train(tiny, say=lambda _: None))
    assert flight.expected_seconds > 12 * 0.5


def test_the_expected_time_is_that_of_one_of_several_processes(tiny, monkeypatch):
    config = replace(tiny, training=replace(tiny.training, grad_accumulation_steps=8))
    data = prepare(config, say=lambda _: None)
    model = GPT(with_vocabulary(config.model, data.tokenizer.vocab_size))
    asked = []

    def choose(model, settings, measure, passes, *_):
        asked.append(passes)
        measure(model)
        return compiling.Forward(model, False, "", 1000.0)

    monkeypatch.setattr(preflight, "choose_forward", choose)
    for n in (1, 4):
        monkeypatch.setenv("WORLD_SIZE", str(n))
        flight, _ = preflight.preflight(config, data, detect(config.training), model, 2)
        assert flight.seconds_per_step == pytest.approx(8000 / n, abs=10)
        # A forward pass is a third of the 1,000 seconds, and every process evaluates all.
        batches = data.validation.counts.tokens / (4 * 32)
        assert flight.evaluation_seconds == pytest.approx(batches * 1000 / 3)
    assert asked == [10 * 8, 10 * 2]


@either_engine
def test_time_and_speed_by_hand_across_a_resume(small_corpus, tmp_path, engine):
    config = tiny_config(small_corpus, tmp_path, engine=engine, grad_accumulation_steps=3)
    stream = []
    for event in train(config, say=lambda _: None):
        stream.append(event)
        if isinstance(event, events.Step) and event.step == 5:
            break
    rest = run(config)
    flops = load_run(config.run_path)[0].flops_per_token
    seconds = tokens = 0
    for part in (stream, rest):
        for step in of(events.Step, part):
            assert step.seconds > seconds and step.tokens - tokens == 3 * 4 * 32
            assert step.tokens_per_second * (step.seconds - seconds) == pytest.approx(3 * 4 * 32)
            assert step.mfu == pytest.approx(step.tokens_per_second * flops / part[0].peak_flops)
            seconds, tokens = step.seconds, step.tokens
    assert step.step == 12 and rest[-1].seconds == seconds

    flight = rest[0]
    assert (flight.done_steps, flight.tokens_per_step) == (5, 3 * 4 * 32)
    # Seven steps are left, and the evaluations at 8 and at 12.
    assert flight.expected_seconds == pytest.approx(
        7 * flight.seconds_per_step + 2 * flight.evaluation_seconds
    )
    # At 8, at 12, and at the last, wherever that falls.
    other = replace(flight, max_steps=14, eval_interval=4, done_steps=7)
    assert other.expected_seconds == pytest.approx(
        7 * flight.seconds_per_step + 3 * flight.evaluation_seconds
    )
    assert flight.epochs == pytest.approx(12 * 3 * 4 * 32 / prepare(config).train.counts.tokens)


@either_engine
def test_what_auto_chose_in_the_first_part_holds_for_the_rest(
    small_corpus, tmp_path, monkeypatch, engine
):
    speeds = {torch.float32: 1e9, torch.bfloat16: 2e9}
    monkeypatch.setattr(hardware, "matmul_flops", lambda _, dtypes: [speeds[d] for d in dtypes])
    config = tiny_config(small_corpus, tmp_path, engine=engine, precision="auto")
    for event in train(config, say=lambda _: None):
        if isinstance(event, events.Step) and event.step == 6:
            break
    speeds[torch.bfloat16] = 1e8
    flight = run(config)[0]
    assert flight.precision == "bf16"
    assert flight.why_precision == "as in the first part of this run"


def test_it_is_the_plain_loop_on_the_industrial_model(small_corpus, tmp_path):
    """Against ten plain lines with transformers' model and torch's AdamW, on the same batches."""
    # AdamW heeds the size of gradients only where they come near its epsilon, 1e-8.
    config = tiny_config(small_corpus, tmp_path, seed=7, grad_clip=1e-5, beta2=0.95)
    data = prepare(config, say=lambda _: None)
    torch.manual_seed(7)
    ours = GPT(with_vocabulary(config.model, data.tokenizer.vocab_size))
    model = to_transformers(ours).train()
    decay = [p for n, p in model.named_parameters() if "ln" not in n and "bias" not in n]
    rest = [p for n, p in model.named_parameters() if "ln" in n or "bias" in n]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0}],
        betas=(0.9, 0.95), foreach=False,
    )  # fmt: skip
    expected = []
    for k in range(12):
        indices = batch_indices(k, n_blocks=len(data.train), batch_size=4, seed=7)
        ids_BT, targets_BT = data.train.batch(indices)
        logits = model(ids_BT).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets_BT.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1e-5)
        rate = 0.005 * (k + 1) if k < 2 else 0.01 * (0.55 + 0.45 * math.cos(math.pi * (k - 2) / 9))
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
        expected.append(loss.item())
    steps = of(events.Step, run(config))
    assert [step.loss for step in steps] == pytest.approx(expected, rel=1e-4)
    assert min(step.grad_norm for step in steps) > 0.1, "all are clipped"


def test_accumulation_changes_nothing(small_corpus, tmp_path):
    """8 x 1 == 4 x 2 == 1 x 8, across the padded end of an epoch too; and the loss is the mean."""
    losses, ends = [], []
    corpus = tmp_path / "short.jsonl"
    corpus.write_bytes(b"".join(small_corpus.read_bytes().splitlines(keepends=True)[:60]))
    for size, steps in ((8, 1), (4, 2), (1, 8)):
        config = tiny_config(
            corpus, tmp_path, name=f"a{size}", micro_batch_size=size,
            grad_accumulation_steps=steps, block_size=128, max_steps=25, eval_interval=25,
        )  # fmt: skip
        stream = run(config)
        losses.append([s.loss for s in of(events.Step, stream)])
        ends.append(stream[-1].best.bits_per_byte)
    blocks = -(-prepare(config).train.counts.tokens // 128)
    assert blocks < 25 * 8, "the run must meet the padded last block"
    for other in (1, 2):
        assert losses[other] == pytest.approx(losses[0], rel=1e-4)
        assert ends[other] == pytest.approx(ends[0], rel=1e-4)


def test_the_logged_loss_is_the_mean_over_all_micro_batches(small_corpus, tmp_path):
    config = tiny_config(small_corpus, tmp_path, micro_batch_size=2, grad_accumulation_steps=3)
    first = of(events.Step, run(config))[0]
    data = prepare(config)
    torch.manual_seed(config.seed)
    model = GPT(with_vocabulary(config.model, data.tokenizer.vocab_size))
    indices = batch_indices(0, n_blocks=len(data.train), batch_size=6, seed=config.seed)
    _, loss = model(*data.train.batch(indices))
    assert first.loss == pytest.approx(loss.item(), rel=1e-6)
    assert first.tokens == 6 * 32


MODERN = {
    "arch": "modern", "activation": "relu2", "optimizer": "muon", "schedule": "wsd",
    "decay_fraction": 0.5,
}  # fmt: skip


@pytest.mark.parametrize("changes", [{"dropout": 0.1}, MODERN], ids=["gpt2", "modern"])
def test_a_run_resumed_in_pieces_ends_with_the_same_bits(small_corpus, tmp_path, changes):
    whole = tiny_config(small_corpus, tmp_path, name="whole", **changes)
    stream = run(whole)
    pieces = tiny_config(small_corpus, tmp_path, name="pieces", **changes)
    for stop_at in (1, 4, 7, 11):
        for event in train(pieces, say=lambda _: None):
            if isinstance(event, events.Step) and event.step == stop_at:
                break  # closes the generator, which saves
    rest = run(pieces)
    assert [s.step for s in of(events.Step, rest)] == [12]
    assert same(weights(whole), weights(pieces)) and same(
        weights(whole, "best"), weights(pieces, "best")
    )
    timeless = lambda records: [  # noqa: E731
        {k: v for k, v in r.items() if k not in ("seconds", "tokens_per_second", "mfu")}
        for r in records
    ]
    assert timeless(read_metrics(whole.run_path)) == timeless(read_metrics(pieces.run_path))
    assert (whole.run_path / "samples.txt").read_text(encoding="utf-8") == (
        pieces.run_path / "samples.txt"
    ).read_text(encoding="utf-8")
    assert rest[-1].best.bits_per_byte == stream[-1].best.bits_per_byte
    # A finished run has nothing more to do, and says what it reached.
    assert [type(e) for e in run(pieces)] == [events.Finished]


def test_a_checkpoint_from_before_groups_had_a_share_goes_on(small_corpus, tmp_path):
    whole, old = (tiny_config(small_corpus, tmp_path, name=name) for name in ("whole", "old"))
    run(whole)
    for event in train(old, say=lambda _: None):
        if isinstance(event, events.Step) and event.step == 6:
            break
    path = old.run_path / "checkpoints" / "last" / "state.pt"
    state = torch.load(path, weights_only=True)
    for group in state["optimizer"]["param_groups"]:
        del group["share"]
    torch.save(state, path)
    (path.parent / "sha256.json").unlink()  # there was none yet, either
    run(old)
    assert same(weights(whole), weights(old))


def test_each_group_has_its_own_rate_and_all_follow_one_schedule(small_corpus, tmp_path):
    config = tiny_config(
        small_corpus, tmp_path, **MODERN, warmup_steps=0, learning_rate=0.02,
        embedding_learning_rate=0.2, vector_learning_rate=0.01, final_learning_rate_fraction=0.5,
    )  # fmt: skip
    steps = of(events.Step, run(config))
    assert (steps[0].learning_rate, steps[-1].learning_rate) == pytest.approx((0.02, 0.01))
    state = checkpoint.load_state(config.run_path / "checkpoints" / "last")
    groups = [g for one in state["optimizer"]["optimizers"] for g in one["param_groups"]]
    # Half of each peak; the last norm's begins at 40 / 16 of the others'.
    assert [g["lr"] for g in groups] == pytest.approx([0.01, 0.1, 0.005, 0.005 * 40 / 16])


def test_an_exception_in_the_readers_code_saves_too(tiny):
    def reader():
        for event in train(tiny, say=lambda _: None):
            if isinstance(event, events.Step) and event.step == 6:
                raise RuntimeError("a mistake in a plot")

    with pytest.raises(RuntimeError):
        reader()
    assert checkpoint.load_state(tiny.run_path / "checkpoints" / "last")["progress"]["step"] == 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_ctrl_c_and_sigterm_save_and_stop(tiny, number):
    before = signal.getsignal(number)
    stream = []
    for event in train(tiny, say=lambda _: None):
        stream.append(event)
        if isinstance(event, events.Step) and event.step == 6:
            os.kill(os.getpid(), number)
    assert isinstance(stream[-1], events.Stopped) and stream[-1].step == 6
    assert signal.getsignal(number) is before
    assert of(events.Step, run(tiny))[0].step == 7


@either_engine
def test_a_stop_before_the_first_step_is_heard(small_corpus, tmp_path, monkeypatch, engine):
    config = tiny_config(small_corpus, tmp_path, engine=engine)
    expected = run(config)[-1].best
    module = {"own": loop, "trainer": trainer}[engine]

    def detect_and_stop(settings):
        os.kill(os.getpid(), signal.SIGINT)
        return detect(settings)

    monkeypatch.setattr(module, "detect", detect_and_stop)
    stopped = run(config, fresh=True)
    assert stopped[-1] == events.Stopped(0, "Ctrl-C") and not of(events.Step, stopped)
    monkeypatch.undo()
    rest = run(config)
    assert len(of(events.Step, rest)) == 12
    assert rest[-1].best.bits_per_byte == expected.bits_per_byte


@either_engine
def test_a_stop_during_the_last_evaluation_is_heard(small_corpus, tmp_path, monkeypatch, engine):
    """Or a loop over several runs would go on to the next."""
    config = tiny_config(small_corpus, tmp_path, engine=engine)
    module = {"own": loop, "trainer": trainer}[engine]

    def write_and_stop(config, data, model, step):
        if step == 12:
            os.kill(os.getpid(), signal.SIGINT)
        return progress.write_sample(config, data, model, step)

    monkeypatch.setattr(module, "write_sample", write_and_stop)
    stream = run(config)
    assert stream[-1] == events.Stopped(12, "Ctrl-C")
    assert of(events.Evaluation, stream)[-1].step == 12
    monkeypatch.undo()
    last = of(events.Evaluation, stream)[-1]
    assert [type(event) for event in run(config)] == [events.Finished]
    assert run(config)[-1].best.bits_per_byte == last.bits_per_byte


@either_engine
def test_a_cell_that_is_run_again_trains_what_has_changed(small_corpus, tmp_path, engine):
    config = tiny_config(small_corpus, tmp_path, engine=engine)
    for event in train(config, fresh="changed", say=lambda _: None):
        if getattr(event, "step", 0) == 6:
            break
    assert len(of(events.Step, run(config, fresh="changed"))) == 6, "it went on"
    assert not of(events.Step, run(config, fresh="changed")), "it was finished"
    other = tiny_config(small_corpus, tmp_path, engine=engine, learning_rate=1e-4)
    assert len(of(events.Step, run(other, fresh="changed"))) == 12
    assert load_run(config.run_path)[2].training.learning_rate == 1e-4


def handlers():
    return signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)


def test_runs_that_overlap_give_the_signals_back(small_corpus, tmp_path):
    """Whichever ends first; and one that is closed in another thread holds nothing up."""
    a, b, c = (
        train(tiny_config(small_corpus, tmp_path, name=n), say=lambda _: None) for n in "abc"
    )
    # A job in the background of a shell is born with SIGINT ignored.
    outside = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = handlers()
    try:
        next(a), next(b)
        a.close()
        os.kill(os.getpid(), signal.SIGINT)
        assert list(b)[-1] == events.Stopped(0, "Ctrl-C")
        assert handlers() == before
        next(c)
        thread = threading.Thread(target=c.close)
        thread.start()
        thread.join()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert handlers() == before
    finally:
        signal.signal(signal.SIGINT, outside)


@either_engine
def test_the_readers_random_numbers_and_the_runs_are_two(small_corpus, tmp_path, engine):
    settings = {"engine": engine, "dropout": 0.2}
    alone, watched = (
        tiny_config(small_corpus, tmp_path, name=n, **settings) for n in ("alone", "watched")
    )
    run(alone)
    torch.manual_seed(5)
    expected, drawn = torch.rand(40).tolist(), []
    torch.manual_seed(5)
    for event in train(watched, say=lambda _: None):
        drawn.append(torch.rand(1).item())
        if isinstance(event, events.Step) and event.step == 6:
            break
    for _ in train(watched, say=lambda _: None):
        drawn.append(torch.rand(1).item())
    assert drawn == expected[: len(drawn)]
    assert same(weights(alone, "best"), weights(watched, "best"))
    assert of_steps(alone) == of_steps(watched)


def of_steps(config):
    return [r["loss"] for r in read_metrics(config.run_path) if r["kind"] == "step"]


def test_what_fresh_can_not_be_is_told_before_anything_is_lost(tiny):
    run(tiny)
    for wrong in ("chnaged", "no", 2):
        with pytest.raises(UserError, match="it can be True, False or"):
            run(tiny, fresh=wrong)
    assert [type(e) for e in run(tiny)] == [events.Finished]


def test_a_folder_of_the_users_is_no_run(tiny):
    tiny.run_path.mkdir(parents=True)
    notes = tiny.run_path / "notes.txt"
    notes.write_text("mine", encoding="utf-8")
    for fresh in (False, True, "changed"):
        with pytest.raises(UserError, match="is not a run folder"):
            run(tiny, fresh=fresh)
    assert notes.read_text(encoding="utf-8") == "mine"


def test_a_warmup_that_never_ends_is_told(small_corpus, tmp_path):
    said = []
    for _ in train(tiny_config(small_corpus, tmp_path, warmup_steps=12), say=said.append):
        pass
    assert any("only rises; lower warmup_steps" in line for line in said)


def test_a_second_ctrl_c_insists(tiny):
    with pytest.raises(KeyboardInterrupt):
        for event in train(tiny, say=lambda _: None):
            if isinstance(event, events.Step) and event.step == 2:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)


def test_it_trains_in_a_thread_where_no_signal_can_be_caught(tiny):
    result = []
    thread = threading.Thread(target=lambda: result.extend(run(tiny)))
    thread.start()
    thread.join()
    assert isinstance(result[-1], events.Finished)


@pytest.mark.parametrize("where", ["detect", "make_optimizer", "preflight", "evaluate_run"])
def test_a_full_accelerator_is_told_wherever_it_is_met(tiny, monkeypatch, where):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(loop, where, full)
    with pytest.raises(UserError, match="The accelerator's memory is full; lower micro_batch_size"):
        run(tiny)


def test_a_nan_stops_before_it_reaches_the_weights(tiny, monkeypatch):
    real = loop.learning_rate_at
    monkeypatch.setattr(loop, "learning_rate_at", lambda s, c: 1e30 if s >= 5 else real(s, c))
    with pytest.raises(UserError) as error:
        run(tiny)
    message = str(error.value)
    assert "at step 7, in batch 6 (blocks " in message
    assert "checkpoints/last holds the last good state" in message
    assert all(torch.isfinite(w).all() for w in weights(tiny).values())
    monkeypatch.undo()
    assert of(events.Step, run(tiny))[0].step == 5


def test_a_nan_in_an_evaluation_is_neither_saved_nor_called_the_best(tiny, monkeypatch):
    real = progress.evaluate

    def evaluate(model, *arguments):
        loss = real(model, *arguments)
        last = checkpoint.find(tiny.run_path / "checkpoints" / "last")
        return type(loss)(math.nan, loss.tokens, loss.bytes, loss.characters) if last else loss

    monkeypatch.setattr(progress, "evaluate", evaluate)
    with pytest.raises(UserError, match="validation loss became nan at step 8"):
        run(tiny)
    monkeypatch.undo()
    assert of(events.Step, run(tiny))[0].step == 5


def test_without_last_it_goes_on_from_best(tiny):
    for event in train(tiny, say=lambda _: None):
        if isinstance(event, events.Step) and event.step == 10:
            break
    shutil.rmtree(tiny.run_path / "checkpoints" / "last")
    assert of(events.Step, run(tiny))[0].step == 9


def test_two_can_not_train_one_run(tiny):
    first = train(tiny, say=lambda _: None)
    next(first)
    with pytest.raises(UserError, match="being trained by another process"):
        run(tiny)
    first.close()
    assert isinstance(run(tiny)[-1], events.Finished)


def test_fresh_deletes_nothing_before_the_rest_is_in_order(tiny, small_corpus, tmp_path):
    run(tiny)
    wrong = tiny_config(small_corpus, tmp_path, device="mps")
    if torch.backends.mps.is_available():
        pytest.skip("this machine has the device that should be missing")
    with pytest.raises(UserError, match="no such device"):
        run(wrong, fresh=True)
    assert [type(e) for e in run(tiny)] == [events.Finished]


def test_checkpoints_of_nobody_are_not_gone_on_with(tiny):
    run(tiny)
    (tiny.run_path / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"checkpoints but no config\.yaml"):
        run(tiny)


@either_engine
def test_the_best_checkpoint_is_never_overwritten_by_a_worse_one(
    small_corpus, tmp_path, monkeypatch, engine
):
    config = tiny_config(small_corpus, tmp_path, max_steps=20, engine=engine)
    real, scores = progress.evaluate, iter([3.0, 2.0, 4.0, 2.5, 2.0])

    def scripted(*arguments):
        loss = real(*arguments)
        score = next(scores)
        return type(loss)(
            score * math.log(2) * loss.bytes, loss.tokens, loss.bytes, loss.characters
        )

    monkeypatch.setattr(progress, "evaluate", scripted)
    stream = run(config)
    assert [e.is_best for e in of(events.Evaluation, stream)] == [True, True, False, False, False]
    state = checkpoint.load_state(config.run_path / "checkpoints" / "best")
    assert state["progress"]["step"] == 8 == stream[-1].best.step
    assert same(load_run(config.run_path)[0].state_dict(), weights(config, "best"))


def test_a_kill_between_best_and_last_loses_neither(tiny, monkeypatch):
    """`best` must be on the disk before `last` says so."""
    real = checkpoint.save

    def killed(path, model, state):
        if path.name == "last" and state["progress"]["step"] == 8:
            raise RuntimeError("killed")
        real(path, model, state)

    monkeypatch.setattr(checkpoint, "save", killed)
    with pytest.raises(RuntimeError):
        run(tiny)
    monkeypatch.undo()
    state = lambda which: checkpoint.load_state(tiny.run_path / "checkpoints" / which)["progress"]  # noqa: E731
    assert (state("last")["step"], state("best")["step"]) == (4, 8)
    assert run(tiny)[-1].best.step == state("best")["step"]


def test_end_of_text_is_learnt(tiny):
    """It is among the targets, once a document."""
    data = prepare(tiny)
    ends = sum(int((targets == 0).sum()) for _, targets in data.train.batches(64))
    assert ends == data.train.counts.documents > 300


def test_another_experiment_under_the_same_name_is_refused(tiny, small_corpus, tmp_path):
    run(tiny)
    other = tiny_config(small_corpus, tmp_path, learning_rate=2e-2)
    with pytest.raises(UserError, match=r"training\.learning_rate: 0\.01 -> 0\.02.*--fresh"):
        run(other)
    assert of(events.Step, run(other, fresh=True))[0].step == 1


def test_a_run_folder_from_another_tokenizer_is_refused(tiny, small_corpus, tmp_path):
    run(tiny)
    other = tiny_config(small_corpus, tmp_path, name="other", min_count=40)
    run(other)
    shutil.rmtree(tiny.run_path / "tokenizer")
    shutil.copytree(other.run_path / "tokenizer", tiny.run_path / "tokenizer")
    with pytest.raises(UserError, match="trained with another tokenizer"):
        run(tiny)


def test_text_that_changed_under_a_run_is_noticed(small_corpus, tmp_path):
    corpus = tmp_path / "mine.jsonl"
    corpus.write_bytes(small_corpus.read_bytes())
    config = tiny_config(corpus, tmp_path)
    run(config)
    with corpus.open("a", encoding="utf-8") as file:
        file.write('{"name": "Nouveau", "abstract": "Un article de plus."}\n')
    with pytest.raises(UserError, match="has changed since"):
        run(config)


def test_fresh_deletes_nothing_but_runs(tiny):
    tiny.run_path.mkdir(parents=True)
    (tiny.run_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="not a run folder"):
        run(tiny, fresh=True)
    assert (tiny.run_path / "thesis.txt").exists()


def test_the_run_folder_knows_its_config(tiny):
    run(tiny)
    assert load_config(tiny.run_path / "config.yaml") == tiny
