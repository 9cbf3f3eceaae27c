import pytest
import torch
import torch.nn.functional as F

from wikigpt.model import attention
from wikigpt.model.attention import attend, attend_in_rows


@pytest.mark.parametrize("K", [1, 2, 6])
@pytest.mark.parametrize("T", [1, 127, 128, 129, 256, 300])
def test_attention_in_rows_is_the_fused_kernel(T, K):
    """And so are its gradients; the fused kernel has its own code for the way back."""
    q, k, v = (
        torch.randn(2, heads, T, 4, dtype=torch.float64, requires_grad=True) for heads in (6, K, K)
    )
    fused = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    rows = attend_in_rows(q, k, v)
    # The softmax alone is in float32.
    torch.testing.assert_close(rows, fused, atol=1e-5, rtol=1e-5)
    direction = torch.randn_like(fused)
    for ours, its in zip(
        torch.autograd.grad(rows, (q, k, v), direction),
        torch.autograd.grad(fused, (q, k, v), direction),
        strict=True,
    ):
        torch.testing.assert_close(ours, its, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(
    ("T", "dtype", "in_rows"),
    [(512, torch.bfloat16, True), (513, torch.bfloat16, False), (512, torch.float32, False)],
)
def test_short_contexts_in_bf16_go_in_rows(monkeypatch, T, dtype, in_rows):
    torch.manual_seed(0)
    q = torch.randn(1, 1, T, 4)
    exact = attend(q, q, q, None)
    called = []
    monkeypatch.setattr(
        attention, "attend_in_rows", lambda *those: called.append(those) or attend_in_rows(*those)
    )
    rough = attend(*[q.to(dtype)] * 3, None)
    assert bool(called) is in_rows and rough.dtype == dtype
    torch.testing.assert_close(rough.float(), exact, atol=0.03, rtol=0.03)


def test_dropout_leaves_out_weights_and_makes_up_for_them():
    torch.manual_seed(0)
    q, ones = torch.randn(2, 3, 200, 4), torch.ones(2, 3, 200, 4)
    torch.testing.assert_close(attend_in_rows(q, q, ones), ones)
    dropped = attend_in_rows(q, q, ones, 0.25)
    first = dropped[:, :, 0]  # sees one weight, which is kept or not
    assert ((first == 0) | (first == 1 / 0.75)).all()
    assert dropped.std() > 0.01 and dropped[:, :, 50:].mean() == pytest.approx(1, abs=0.02)
