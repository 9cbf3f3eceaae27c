"""When a run is compiled, and that it trains the same model then."""

from functools import partial

import pytest
import torch
from safetensors.torch import load_file

from conftest import needs_compiler, tiny_config
from wikigpt.config import GPTConfig, TrainingConfig, load_config
from wikigpt.errors import UserError
from wikigpt.model import GPT
from wikigpt.training import checkpoint, compiling, events, train
from wikigpt.training.compiling import choose_forward


def compiled_stand_in(block, **_):
    return block


def choose(monkeypatch, plain, compiled, passes, before=None, precision="bf16", **settings):
    """The choice where a pass takes `plain` seconds, or `compiled` seconds after compilation."""
    compile_it = compiled if callable(compiled) else compiled_stand_in
    monkeypatch.setattr(torch, "compile", compile_it)
    model = GPT(GPTConfig(n_layer=1, n_head=1, n_embd=4, block_size=4, vocab_size=5))
    measure = lambda *those: [plain if each is model else compiled for each in those]  # noqa: E731
    config = TrainingConfig(**settings)
    choice = choose_forward(model, config, measure, passes, before, precision)
    assert (choice.call is model) is not choice.compiled
    return choice


def test_a_short_run_is_not_compiled(monkeypatch):
    # 100 s of passes, of which 15 % can be hoped for: less than the compilation's 28.
    choice = choose(monkeypatch, 0.1, 0.01, passes=1000)
    assert not choice.compiled and choice.seconds == 0.1
    assert choice.why == "a run of about 100 s would not earn the compilation back"


def test_a_failed_compiled_pass_leaves_no_gradients(small_corpus, tmp_path, monkeypatch):
    def half_way(model):
        def forward(ids, targets):
            model(ids, targets)[1].backward()
            raise RuntimeError("no compiler")

        return forward

    plain, failed = (
        tiny_config(small_corpus, tmp_path, name=name, compile=compile, max_steps=1)
        for name, compile in (("plain", False), ("failed", "auto"))
    )
    list(train(plain, say=lambda _: None))
    monkeypatch.setattr(compiling, "SECONDS", 0)
    monkeypatch.setattr(compiling, "compile_parts", half_way)
    stream = list(train(failed, say=lambda _: None))
    assert stream[0].why_compiled == "torch.compile fails here: no compiler"
    weights = [load_file(c.run_path / "checkpoints" / "last" / "model.safetensors")
               for c in (plain, failed)]  # fmt: skip
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_without_bf16_less_can_be_hoped_for(monkeypatch):
    """200 s of passes: 15 % of them are worth a compilation, 5 % are not."""
    choice = choose(monkeypatch, 0.1, 0.01, passes=2000, precision="bf16")
    assert choice.compiled
    choice = choose(monkeypatch, 0.1, 0.01, passes=2000, precision="fp32")
    assert choice.why == "a run of about 200 s would not earn the compilation back"


def test_a_long_run_is_compiled_where_that_is_faster(monkeypatch):
    choice = choose(monkeypatch, 0.1, 0.05, passes=6000)
    assert choice.compiled and choice.seconds == 0.05
    assert choice.why.startswith("a pass runs at 2.00x the speed, after")


def test_a_long_run_stays_as_it_is_where_compiled_code_is_no_faster(monkeypatch):
    choice = choose(monkeypatch, 0.1, 0.099, passes=6000)
    assert not choice.compiled and "1.01x" in choice.why


@pytest.mark.parametrize("busy", ["before", "after"])
def test_a_machine_that_is_busy_for_a_while_decides_nothing(monkeypatch, busy):
    """Twice as slow before the compilation, or after it; compiled is 1.25x as fast either way."""
    monkeypatch.setattr(torch, "compile", compiled_stand_in)
    model = GPT(GPTConfig(n_layer=1, n_head=1, n_embd=4, block_size=4, vocab_size=5))
    calls = []

    def measure(*forwards):
        calls.append(forwards)
        load = 2 if (len(calls) == 1) == (busy == "before") else 1
        return [load * (0.1 if forward is model else 0.08) for forward in forwards]

    choice = choose_forward(model, TrainingConfig(), measure, 6000, None, "bf16")
    assert choice.compiled and choice.why.startswith("a pass runs at 1.25x the speed")


def broken_compiler(block, **_):
    raise RuntimeError("no C++ compiler found\nand a hundred lines more")


def test_without_a_compiler_it_goes_on_and_says_why(monkeypatch):
    choice = choose(monkeypatch, 0.1, broken_compiler, passes=6000)
    assert not choice.compiled
    assert choice.why == "torch.compile fails here: no C++ compiler found"


@pytest.mark.parametrize("before", [None, True], ids=["asked for", "chosen by the first part"])
def test_where_it_must_be_and_can_not_a_sentence_says_what_to_do(monkeypatch, before):
    settings = {"compile": True} if before is None else {}
    with pytest.raises(UserError, match=r"no C.. compiler found.*compile=false"):
        choose(monkeypatch, 0.1, broken_compiler, passes=6000, before=before, **settings)


def test_a_resumed_run_keeps_what_its_first_part_chose(monkeypatch):
    assert not choose(monkeypatch, 0.1, 0.01, passes=10**6, before=False).compiled
    assert choose(monkeypatch, 0.1, 0.2, passes=1, before=True).compiled
    assert not choose(monkeypatch, 0.1, 0.01, passes=10**6, compile=False).compiled


def test_trainer_runs_are_not_compiled(monkeypatch):
    assert not choose(monkeypatch, 0.1, 0.01, passes=10**6, engine="trainer").compiled
    with pytest.raises(UserError, match="compile is for engine: own"):
        load_config(engine="trainer", compile=True)


@needs_compiler
def test_compiled_it_is_the_same_training(small_corpus, tmp_path):
    modern = {"arch": "modern", "optimizer": "muon"}
    losses, final = {}, {}
    for name, wish in (("plain", False), ("compiled", True)):
        config = tiny_config(small_corpus, tmp_path, name=name, compile=wish, **modern)
        stream = list(train(config, say=lambda _: None))
        assert stream[0].compiled is wish
        losses[name] = [event.loss for event in stream if isinstance(event, events.Step)]
        last = config.run_path / "checkpoints" / "last"
        assert checkpoint.load_state(last)["compiled"] is wish
        final[name] = load_file(last / "model.safetensors")
    assert losses["compiled"] == pytest.approx(losses["plain"], rel=1e-4)
    assert final["compiled"].keys() == final["plain"].keys()  # no `_orig_mod.` in any name


@pytest.fixture
def graphs(monkeypatch) -> list[torch.fx.GraphModule]:
    """What reaches the compiler; traced and guarded as always, but without its minutes."""
    found = []

    def keep(graph, _):
        found.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=keep))
    return found


def pass_over(forward):
    _, loss = forward(*torch.zeros(2, 1, 4, dtype=torch.int64))
    loss.backward()


def pass_over_each(*forwards):
    for forward in forwards:
        pass_over(forward)
    return [1.0] * len(forwards)


def compiled_by_wish(model):
    return choose_forward(model, TrainingConfig(compile=True), pass_over_each, 10, None, "fp32")


def test_the_ninth_model_of_a_notebook_is_compiled_too(graphs):
    """By itself torch gives up on a function that it has compiled eight times."""
    for models, width in enumerate(range(4, 4 + 2 * 10, 2), start=1):
        model = GPT(GPTConfig(n_layer=1, n_head=1, n_embd=width, block_size=4, vocab_size=5))
        assert compiled_by_wish(model).compiled
        assert len(graphs) == 2 * models  # a block, and the output layer with the loss


@pytest.mark.parametrize("arch", ["gpt2", "modern"])
def test_a_deep_model_takes_no_longer_to_compile(graphs, arch):
    shape = {"n_head": 2, "n_embd": 8, "block_size": 4, "vocab_size": 5}
    model = GPT(GPTConfig(arch=arch, n_layer=12, **shape))
    compiled = compiled_by_wish(model).call
    pass_over(compiled)
    assert len(graphs) == 2
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert not any(isinstance(block, torch._dynamo.OptimizedModule) for block in model.blocks)
