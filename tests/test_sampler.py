from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wikigpt.blocks.sampler import batch_indices


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
    assert [draw(k, 1) for k in range(3)] and draw(1000, 1) == late
    assert draw(0, 1) != draw(0, 2)
    first_epochs = [draw(k, 1) for k in (0, 500 // 4)]
    assert first_epochs[0] != first_epochs[1]


def test_the_order_is_shuffled_evenly():
    # Where block 0 lands over many seeds should be uniform: 4 places, 4000 draws, 5 sigma.
    places = Counter(
        list(batch_indices(0, n_blocks=4, batch_size=4, seed=s)).index(0) for s in range(4000)
    )
    assert all(abs(count - 1000) < 5 * 27.4 for count in places.values())


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="multiple of world_size"):
        batch_indices(0, n_blocks=9, batch_size=3, seed=1, world_size=2)
