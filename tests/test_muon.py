"""The twin is torch.optim.Muon; a singular value decomposition is what Muon does by a detour."""

from copy import deepcopy

import pytest
import torch

from wikigpt.training.muon import Muon, orthogonalise

SHAPES = [(24, 24), (24, 24), (40, 16), (16, 40), (16, 40), (1, 8), (8, 1)]


def matrices(seed: int = 0) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def moved(optimizer, weights: list[torch.nn.Parameter], steps: int = 6) -> list[torch.Tensor]:
    """After some steps along gradients that differ in size from matrix to matrix."""
    for step in range(steps):
        for i, (weight, gradient) in enumerate(zip(weights, matrices(step + 1), strict=True)):
            weight.grad = gradient.detach() * 10.0 ** (i - 3)
        optimizer.step()
    return [weight.detach() for weight in weights]


def test_it_is_torch_s_muon():
    ours, theirs = matrices(), matrices()
    settings = {"lr": 0.05, "weight_decay": 0.3, "momentum": 0.9}
    one = Muon(ours, **settings, dtype=torch.bfloat16)
    other = torch.optim.Muon(theirs, nesterov=True, adjust_lr_fn="original", **settings)
    before = matrices()
    for start, a, b in zip(before, moved(one, ours), moved(other, theirs), strict=True):
        # Products of a whole batch may be rounded elsewhere: bf16 has two to three digits.
        assert (a - b).norm() < 2e-3 * (b - start).norm()


def test_it_goes_on_with_a_state_of_torch_s_muon():
    """As runs have it that were begun before this Muon was there."""
    ours, theirs = matrices(), matrices()
    other = torch.optim.Muon(theirs, lr=0.05, weight_decay=0.3, adjust_lr_fn="original")
    moved(other, theirs)
    with torch.no_grad():
        for a, b in zip(ours, theirs, strict=True):
            a.copy_(b)
    one = Muon(ours, dtype=torch.bfloat16)
    one.load_state_dict(deepcopy(other.state_dict()))
    before = [weight.detach().clone() for weight in ours]
    moves = zip(before, moved(one, ours, 1), moved(other, theirs, 1), strict=True)
    assert all((a - b).norm() < 2e-3 * (b - start).norm() for start, a, b in moves)


@pytest.mark.parametrize("dtype, digits", [(torch.float32, 1e-4), (torch.bfloat16, 5e-2)])
@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 48, 20), (2, 20, 48)])
def test_five_rounds_are_one_polynomial_of_the_singular_values(shape, dtype, digits):
    generator = torch.Generator().manual_seed(0)
    given = torch.randn(shape, generator=generator, dtype=torch.float64)
    u, values, vh = torch.linalg.svd(given, full_matrices=False)
    values = values / values.norm(dim=-1, keepdim=True)
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    found = orthogonalise(given.float(), dtype)
    assert found.dtype == dtype and found.shape == shape
    assert (found.double() - u * values[:, None, :] @ vh).abs().max() < digits


def test_it_works_in_the_precision_that_it_is_given():
    """In fp32 and in bf16 the same but for rounding, which shows that the choice is heard."""
    fp32, bf16 = (moved(Muon(w, dtype=t), w) for w, t in
                  ((matrices(), torch.float32), (matrices(), torch.bfloat16)))  # fmt: skip
    for start, a, b in zip(matrices(), fp32, bf16, strict=True):
        far = (a - b).norm() / (a - start).norm()
        assert far < 0.03
        if min(start.shape) > 1:
            assert far > 1e-4


def test_a_matrix_without_a_gradient_stays():
    still, moving = matrices()[:2]
    before = still.detach().clone()
    moving.grad = torch.ones_like(moving)
    Muon([still, moving], weight_decay=0.5).step()
    assert torch.equal(still, before)


def test_a_gradient_of_nothing_moves_nothing():
    weights = matrices()
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    Muon(weights).step()
    for before, after in zip(matrices(), weights, strict=True):
        assert torch.equal(before, after)
