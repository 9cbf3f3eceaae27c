from collections import Counter

import pytest
import torch

from wikigpt.errors import UserError
from wikigpt.model import GPT, GPTConfig
from wikigpt.model.generate import complete, generate, next_token
from wikigpt.tokenizers import CharTokenizer


@pytest.fixture(scope="module", params=["gpt2", "modern"])
def model(request) -> GPT:
    torch.manual_seed(3)
    shape = {"n_layer": 1, "n_head": 1, "n_embd": 16, "block_size": 8, "vocab_size": 300}
    model = GPT(GPTConfig(arch=request.param, **shape))
    with torch.no_grad():
        model.token_embedding.weight.mul_(6)  # opinionated, so that choices differ
    return model


def test_greedy_takes_the_likeliest_token_each_time(model):
    ids = [1, 2, 3]
    for new in generate(model, ids, 5, temperature=0):
        context = torch.tensor([ids])
        assert new == model(context)[0, -1].argmax().item()
        ids = [*ids, new]
    assert len(ids) == 8


def test_beyond_the_block_size_it_slides(model):
    ids = [1]
    for new in generate(model, [1], 20, temperature=0):
        assert new == model(torch.tensor([ids[-8:]]))[0, -1].argmax().item()
        ids.append(new)
    assert len(ids) == 21


def test_sampling_follows_the_softmax_at_that_temperature():
    logits_V = torch.tensor([2.0, 1.0, 0.0, -50.0])
    generator = torch.Generator().manual_seed(0)
    draws = Counter(next_token(logits_V, 2.0, None, generator) for _ in range(20_000))
    for i, p in enumerate((logits_V / 2).softmax(0).tolist()):
        assert draws[i] / 20_000 == pytest.approx(p, abs=0.02)


def test_top_k_leaves_the_k_likeliest():
    logits_V = torch.tensor([0.0, 3.0, 2.0, 1.0])
    generator = torch.Generator().manual_seed(0)
    assert {next_token(logits_V, 5.0, 2, generator) for _ in range(200)} == {1, 2}
    assert {next_token(logits_V, 5.0, 1, generator) for _ in range(50)} == {1}
    assert {next_token(logits_V, 5.0, 99, generator) for _ in range(500)} == {0, 1, 2, 3}


def test_a_seed_repeats_and_leaves_the_global_generator_alone(model):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = list(generate(model, [1], 30, seed=7))
    assert torch.equal(torch.get_rng_state(), before)
    assert list(generate(model, [1], 30, seed=7)) == first
    assert list(generate(model, [1], 30, seed=8)) != first


def test_it_stops_on_end_of_text_and_does_not_yield_it(model):
    free = list(generate(model, [1], 10, temperature=0))
    stop = free[4]
    assert list(generate(model, [1], 10, temperature=0, stop_id=stop)) == free[: free.index(stop)]


def test_the_model_is_left_in_the_mode_it_was_in(model):
    model.train()
    stream = generate(model, [1], 10)
    next(stream)
    stream.close()
    assert model.training
    model.eval()
    list(generate(model, [1], 2))
    assert not model.training


@pytest.mark.parametrize(
    ("ids", "settings", "says"),
    [([], {}, "nothing to continue"), ([1], {"temperature": -1}, "temperature is -1"),
     ([1], {"temperature": float("nan")}, "temperature is nan"),
     ([1], {"top_k": 0}, "top_k is 0")],
)  # fmt: skip
def test_wrong_settings_are_told(model, ids, settings, says):
    with pytest.raises(UserError, match=says):
        list(generate(model, ids, 3, **settings))


def test_pieces_of_a_completion_never_split_a_character(model):
    tokenizer = CharTokenizer(map(chr, range(1000, 1043)))  # 300 tokens: most are bytes
    assert tokenizer.vocab_size == 300
    for seed in range(20):
        pieces = list(complete(model, tokenizer, "é", 60, seed=seed))
        prompt_ids = [0, *tokenizer.encode("é")]
        ids = list(generate(model, prompt_ids, 60, stop_id=0, seed=seed))
        assert "".join(pieces) == tokenizer.decode(ids)
