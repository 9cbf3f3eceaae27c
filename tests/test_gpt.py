import hashlib
import math

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from wikigpt.config import load_config
from wikigpt.errors import UserError
from wikigpt.model import GPT, GPTConfig
from wikigpt.model.gpt import rotary_angles, rotate

both = pytest.mark.parametrize("arch", ["gpt2", "modern"])


def small(**changes) -> GPT:
    torch.manual_seed(0)
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 16, "vocab_size": 50}
    return GPT(GPTConfig(**(shape | changes)))


def test_a_seed_gives_the_weights_it_gave_when_readmes_figures_were_measured():
    """Same names, same order, same draws of the random generator."""
    digest = hashlib.sha256()
    for name, weight in small().state_dict().items():
        digest.update(name.encode() + str(tuple(weight.shape)).encode() + weight.numpy().tobytes())
    assert digest.hexdigest() == "aa8719ef7f2e3e3882640986b01a974ef84905f4432c52ba08efbdac4a9f9a35"


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


@pytest.mark.parametrize("n_embd", [128, 512])
def test_the_first_loss_of_modern_too_at_any_width(n_embd):
    model = small(arch="modern", vocab_size=400, n_embd=n_embd)
    ids_BT = torch.randint(0, 400, (64, 16))
    _, loss = model(ids_BT, torch.randint(0, 400, (64, 16)))
    assert loss.item() == pytest.approx(math.log(400), abs=0.05)


def test_the_number_of_parameters_of_modern_by_hand():
    C, V, L, H, K, D, M = 48, 360, 3, 6, 2, 10, 96
    attention = C * H * D + 2 * C * K * D + 2 * D + H * D * C
    block = attention + 3 * C * M + 2 * C
    model = small(
        arch="modern", n_embd=C, vocab_size=V, n_layer=L, n_head=H, n_kv_head=K, head_dim=D,
        intermediate_size=M,
    )  # fmt: skip
    assert model.n_parameters == V * C + L * block + C


def test_what_modern_fills_in():
    config = GPTConfig(arch="modern", n_head=2, n_embd=128)
    assert (config.n_kv_head, config.head_dim, config.activation) == (2, 64, "silu")
    assert config.intermediate_size == 352  # 8/3 of 128 is 341.3
    assert GPTConfig(arch="modern", n_head=2, n_embd=96).intermediate_size == 256  # 8/3, exactly


def test_rotary_positions_by_hand():
    """Pair p of the vector at position t is turned by t / theta^(p / P)."""
    cos_TP, sin_TP = rotary_angles(torch.arange(3), head_dim=4, theta=100.0)
    x_BHTD = torch.tensor([1.0, 1.0, 0.0, 0.0]).expand(1, 1, 3, 4)
    expected = [[math.cos(t), math.cos(t / 10), math.sin(t), math.sin(t / 10)] for t in range(3)]
    torch.testing.assert_close(rotate(x_BHTD, cos_TP, sin_TP)[0, 0], torch.tensor(expected))


def test_rotary_scores_depend_on_the_distance_only():
    cos_TP, sin_TP = rotary_angles(torch.arange(50), head_dim=8, theta=1e4)
    q, k = torch.randn(8), torch.randn(8)
    turned = [rotate(x.expand(1, 1, 50, 8), cos_TP, sin_TP)[0, 0] for x in (q, k)]
    scores = turned[0] @ turned[1].T
    for distance in (0, 1, 7):
        along = scores.diagonal(-distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), atol=1e-4, rtol=1e-4)


def test_grouped_heads_are_heads_that_were_copied():
    """2 heads of keys and values under 6 of queries == 6 of which each three are the same."""
    grouped = small(arch="modern", n_embd=48, n_head=6, n_kv_head=2)
    full = small(arch="modern", n_embd=48, n_head=6)
    weights = grouped.state_dict()
    for name, weight in weights.items():
        if name.endswith(("attention.key.weight", "attention.value.weight")):
            weights[name] = weight.view(2, 1, 8, 48).expand(2, 3, 8, 48).reshape(48, 48)
        elif name.endswith(("output.weight", "down.weight")):  # they begin at 0
            weight.normal_(std=0.1)
    full.load_state_dict(weights)
    ids_BT = torch.randint(0, 50, (3, 16))
    torch.testing.assert_close(grouped(ids_BT), full(ids_BT), atol=1e-5, rtol=1e-5)


@both
@pytest.mark.parametrize("shape", [{}, {"n_embd": 256, "n_head": 4, "block_size": 128}], ids=str)
def test_flops_are_those_that_torch_counts(arch, shape):
    model = small(arch=arch, n_layer=3, vocab_size=500, **shape)
    T = model.config.block_size
    ids_BT = torch.randint(0, 500, (2, T))
    # The plain kernel: the counter doesn't know the fused one of every machine.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        _, loss = model(ids_BT, ids_BT)
        loss.backward()
    vectors = sum(p.numel() for p in model.parameters() if p.dim() == 1)
    # Norms and biases are parameters, but no matrix products.
    assert counter.get_total_flops() == 2 * T * (model.flops_per_token - 6 * vectors)


@both
def test_bf16_is_nearly_fp32(arch):
    model = small(arch=arch)
    ids_BT = torch.randint(0, 50, (4, 16))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, rough = model(ids_BT, ids_BT)
    _, exact = model(ids_BT, ids_BT)
    assert rough.dtype == torch.float32
    assert rough.item() == pytest.approx(exact.item(), rel=0.01)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"n_kv_head": 1}, "n_kv_head=1 means nothing with arch=gpt2"),
        ({"head_dim": 8}, "head_dim=8 means nothing"),
        ({"activation": "silu"}, "activation=silu means nothing"),
        ({"intermediate_size": 8, "rope_theta": 5.0}, "intermediate_size=8, rope_theta=5.0 means"),
        ({"arch": "modern", "dropout": 0.1}, "dropout=0.1 is nothing that arch=modern has"),
        ({"arch": "modern", "n_head": 4, "n_kv_head": 3}, "n_kv_head=3 must divide n_head=4"),
        ({"arch": "modern", "n_head": 2, "n_embd": 6}, "head_dim=3 must be even"),
        ({"arch": "modern", "n_head": 3, "n_embd": 32}, "n_head=3 must divide n_embd=32"),
    ],
)
def test_what_an_architecture_has_no_use_for_is_told(settings, says):
    with pytest.raises(UserError) as error:
        load_config(**settings)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@both
def test_no_token_sees_the_future(arch):
    model = small(arch=arch).eval()
    with torch.no_grad():  # modern begins with branches that are 0
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
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


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("place", ["embeddings", "attention", "after attention", "after the MLP"])
def test_dropout_acts_at_each_of_its_places_and_in_training_only(place, bf16):
    model = small(n_layer=1, dropout=0.5)
    (block,) = model.blocks
    if place != "embeddings":
        model.dropout.p = 0
    if place != "attention":
        block.attention.dropout = 0
    if place == "after attention":
        torch.nn.init.zeros_(block.mlp.down.weight)
    elif place == "after the MLP":
        torch.nn.init.zeros_(block.attention.output.weight)
    else:
        block.dropout.p = 0
    ids_BT = torch.randint(0, 50, (4, 16))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        assert not torch.equal(model(ids_BT), model(ids_BT))
        model.eval()
        assert torch.equal(model(ids_BT), model(ids_BT))


def test_a_padded_target_costs_nothing():
    model = small()
    ids_BT, targets_BT = torch.randint(0, 50, (2, 16)), torch.randint(0, 50, (2, 16))
    targets_BT[1] = -100
    _, loss = model(ids_BT, targets_BT)
    _, alone = model(ids_BT[:1], targets_BT[:1])
    assert loss.item() == pytest.approx(alone.item(), rel=1e-6)


@both
def test_one_batch_can_be_learnt_by_heart(arch):
    model = small(arch=arch)
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
