from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wikigpt.blocks.sampler import _permutation, batch_indices


@given(st.integers(1, 60), st.integers(1, 17), st.integers(0, 2**31), st.integers(1, 4))
def test_every_block_once_an_epoch_also_where_batches_cross_epochs(n, size, seed, epochs):
    n_batches = -(-n * epochs // size)
    stream = np.concatenate(
        [batch_indices(k, n_blocks=n, batch_size=size, seed=seed) for k in range(n_batches)]
    )
    for epoch in range(epochs):
        assert sorted(stream[epoch * n : (epoch + 1) * n]) == list(range(n))


@given(st.integers(0, 10_000), st.integers(1, 50), st.integers(1, 4), st.integers(1, 4))
def test_the_ranks_together_are_one_process(k, n, share, world):
    settings = {"n_blocks": n, "batch_size": share * world, "seed": 5}
    whole = batch_indices(k, **settings)
    slices = [batch_indices(k, **settings, rank=r, world_size=world) for r in range(world)]
    assert np.array_equal(np.concatenate(slices), whole)


def test_a_batch_is_a_function_of_its_number_and_the_seed():
    draw = lambda k, seed: tuple(batch_indices(k, n_blocks=500, batch_size=8, seed=seed))  # noqa: E731
    late = draw(1000, 1)
    _permutation.cache_clear()
    assert draw(0, 1) != draw(1, 1)
    assert draw(1000, 1) == late
    # They begin epochs 0, 2 and 4.
    assert len({draw(k, seed) for k in (0, 125, 250) for seed in (1, 2, 3, 4, 5)}) == 15


def test_the_batches_are_those_of_the_runs_that_were_measured():
    """Another order would make every saved run go on with other blocks."""
    draw = lambda k: batch_indices(k, n_blocks=10, batch_size=8, seed=1337).tolist()  # noqa: E731
    assert [draw(0), draw(1)] == [[7, 8, 4, 0, 2, 6, 5, 3], [9, 1, 6, 4, 9, 5, 7, 1]]


def test_the_order_is_shuffled_evenly():
    # Where block 0 lands over many seeds should be uniform: 4 places, 4000 draws, 5 sigma.
    places = Counter(
        list(batch_indices(0, n_blocks=4, batch_size=4, seed=s)).index(0) for s in range(4000)
    )
    assert all(abs(count - 1000) < 5 * 27.4 for count in places.values())


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="multiple of world_size"):
        batch_indices(0, n_blocks=9, batch_size=3, seed=1, world_size=2)
    for rank in (-1, 2):
        with pytest.raises(ValueError, match="none of 0 to 1"):
            batch_indices(0, n_blocks=9, batch_size=4, seed=1, rank=rank, world_size=2)
