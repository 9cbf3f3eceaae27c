"""Logits with a cache are those without, however a text is cut, whatever is beside it."""

import pytest
import torch

from wikigpt.errors import UserError
from wikigpt.model import GPT, GPTConfig
from wikigpt.model.kv_cache import KVCache

SHAPE = {"n_layer": 3, "n_head": 6, "n_embd": 48, "block_size": 20, "vocab_size": 50}
SHAPES = [
    {"arch": "gpt2"}, {"arch": "modern"}, {"arch": "modern", "n_kv_head": 2, "head_dim": 10},
]  # fmt: skip


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def model(request) -> GPT:
    torch.manual_seed(1)
    model = GPT(GPTConfig(**(SHAPE | request.param)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval().requires_grad_(False)


def cache_for(model: GPT, n_sequences: int, size: int = 20) -> KVCache:
    return KVCache.empty(model.config, n_sequences, size, model.token_embedding.weight)


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("cuts", [[20], [1] * 20, [7, 1, 1, 11], [1, 19], [19, 1]], ids=str)
def test_any_way_of_cutting_a_text(model, cuts):
    ids_BT = torch.randint(0, 50, (2, 20))
    whole, cache, end = model(ids_BT), cache_for(model, 2), 0
    for T in cuts:
        logits_B1V = model(ids_BT[:, end : end + T], cache=cache)
        end += T
        assert logits_B1V.shape == (2, 1, 50)
        close(logits_B1V[:, 0], whole[:, end - 1])
    assert cache.lengths == [20, 20]


def test_sequences_of_different_lengths_and_those_that_leave(model):
    texts = [torch.randint(0, 50, (n,)) for n in (3, 11, 1, 7)]
    cache = cache_for(model, 4)
    for b, text in enumerate(texts):
        alone = cache.row(b)
        model(text[None], cache=alone)
        cache.lengths[b] = alone.lengths[0]
    new_B1 = torch.randint(0, 50, (4, 1))
    logits_B1V = model(new_B1, cache=cache)
    for b, text in enumerate(texts):
        texts[b] = torch.cat([text, new_B1[b]])
        close(logits_B1V[b, 0], model(texts[b][None])[0, -1])
    cache = cache.keep([1, 2])
    assert cache.lengths == [12, 2]
    logits_B1V = model(new_B1[:2], cache=cache)
    for row, b in enumerate((1, 2)):
        close(logits_B1V[row, 0], model(torch.cat([texts[b], new_B1[row]])[None])[0, -1])


def test_a_row_filled_anew_forgets_and_leaves_the_others_alone(model):
    cache = cache_for(model, 2)
    ids_BT = torch.randint(0, 50, (2, 12))
    model(ids_BT, cache=cache)
    alone = cache.row(0)
    model(ids_BT[:1, 8:], cache=alone)
    cache.lengths[0] = 4
    new_B1 = torch.randint(0, 50, (2, 1))
    logits_B1V = model(new_B1, cache=cache)
    close(logits_B1V[0, 0], model(torch.cat([ids_BT[:1, 8:], new_B1[:1]], dim=1))[0, -1])
    close(logits_B1V[1, 0], model(torch.cat([ids_BT[1:], new_B1[1:]], dim=1))[0, -1])


def test_in_bf16_too(model):
    ids_BT = torch.randint(0, 50, (1, 9))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cache = cache_for(model, 1)
        model(ids_BT[:, :8], cache=cache)
        rough, whole = model(ids_BT[:, 8:], cache=cache)[:, 0], model(ids_BT)[:, -1]
    scale = whole.abs().max().item()
    torch.testing.assert_close(rough, whole, atol=0.03 * scale, rtol=0)


def test_a_full_cache_is_told(model):
    cache = cache_for(model, 1)
    model(torch.zeros(1, 20, dtype=torch.long), cache=cache)
    with pytest.raises(UserError, match="21 tokens is longer than the model's 20"):
        model(torch.zeros(1, 1, dtype=torch.long), cache=cache)
