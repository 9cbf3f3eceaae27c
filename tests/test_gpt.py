import math

import pytest
import torch

from wikigpt.errors import UserError
from wikigpt.model import GPT, GPTConfig


def small(**changes) -> GPT:
    torch.manual_seed(0)
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 16, "vocab_size": 50}
    return GPT(GPTConfig(**(shape | changes)))


def test_the_first_loss_is_that_of_knowing_nothing():
    model = small(vocab_size=400)
    ids_BT = torch.randint(0, 400, (64, 16))
    logits_BTV, loss = model(ids_BT, torch.randint(0, 400, (64, 16)))
    assert logits_BTV.shape == (64, 16, 400)
    # Random logits of variance s² cost s²/2 more than equal ones: 0.02² * 768 / 2 = 0.15.
    assert loss.item() == pytest.approx(math.log(400) + 0.15, abs=0.05)


def test_the_number_of_parameters_by_hand():
    C, V, T, L = 128, 360, 256, 2
    attention = C * 3 * C + 3 * C + C * C + C
    mlp = C * 4 * C + 4 * C + 4 * C * C + C
    block = attention + mlp + 2 * 2 * C
    assert small(n_embd=C, vocab_size=V, block_size=T, n_layer=L).n_parameters == (
        V * C + T * C + L * block + 2 * C
    )


def test_no_token_sees_the_future():
    model = small().eval()
    ids_BT = torch.randint(0, 50, (1, 16))
    changed = ids_BT.clone()
    changed[0, 9:] = (changed[0, 9:] + 1) % 50
    before, after = model(ids_BT), model(changed)
    assert torch.equal(before[:, :9], after[:, :9])
    assert not torch.allclose(before[:, 9:], after[:, 9:])


def test_attention_is_the_formula():
    """The fused kernel against softmax(q kᵀ / √D) v, written out."""
    attention = small().blocks[0].attention
    x_BTC = torch.randn(3, 7, 32)
    q, k, v = (
        part.view(3, 7, 2, 16).transpose(1, 2)
        for part in attention.query_key_value(x_BTC).chunk(3, dim=-1)
    )
    future = torch.ones(7, 7, dtype=torch.bool).triu(1)
    weights = (q @ k.transpose(-1, -2) / 16**0.5).masked_fill(future, -torch.inf).softmax(-1)
    expected = attention.output((weights @ v).transpose(1, 2).reshape(3, 7, 32))
    torch.testing.assert_close(attention(x_BTC), expected, atol=1e-6, rtol=1e-5)


def test_a_padded_target_costs_nothing():
    model = small()
    ids_BT, targets_BT = torch.randint(0, 50, (2, 16)), torch.randint(0, 50, (2, 16))
    targets_BT[1] = -100
    _, loss = model(ids_BT, targets_BT)
    _, alone = model(ids_BT[:1], targets_BT[:1])
    assert loss.item() == pytest.approx(alone.item(), rel=1e-6)


def test_one_batch_can_be_learnt_by_heart():
    model = small()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    ids_BT, targets_BT = torch.randint(0, 50, (4, 16)), torch.randint(0, 50, (4, 16))
    for _ in range(300):
        _, loss = model(ids_BT, targets_BT)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.01


def test_a_context_longer_than_the_models_is_told():
    with pytest.raises(UserError, match="17 tokens is longer than the model's 16"):
        small()(torch.zeros(1, 17, dtype=torch.long))
    with pytest.raises(ValueError, match="vocab_size must be set"):
        small(vocab_size=0)
