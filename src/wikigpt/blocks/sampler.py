"""Batch number -> block numbers, a pure function.

Every epoch is a fresh permutation of all blocks, and the epochs are laid end to end; batch k takes
the next `batch_size` places. So no block is drawn twice in an epoch, none is dropped at its end,
and to resume at batch k is to ask for batch k. Rejected: drawing random offsets with replacement
(the usual short loop), which after one epoch's worth of draws has left out a block in e, 37 %.
"""

from functools import lru_cache

import numpy as np

from wikigpt.config import Config


@lru_cache(maxsize=4)
def _permutation(n_blocks: int, seed: int, epoch: int) -> np.ndarray:
    # Philox: a counter-based generator, keyed by (seed, epoch); no state is carried along.
    key = np.random.SeedSequence([seed, epoch])
    return np.random.Generator(np.random.Philox(key)).permutation(n_blocks)


def batch_indices(
    k: int, *, n_blocks: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1
) -> np.ndarray:
    """The block numbers of batch `k` that rank `rank` of `world_size` works on.

    The ranks' slices, laid side by side, are the batch that one process would have.
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} is none of 0 to {world_size - 1}")
    if batch_size % world_size:
        raise ValueError(f"batch_size {batch_size} must be a multiple of world_size {world_size}")
    share = batch_size // world_size
    first = k * batch_size + rank * share
    places = np.arange(first, first + share)
    return np.array(
        [_permutation(n_blocks, seed, int(p) // n_blocks)[int(p) % n_blocks] for p in places]
    )


def indices_of_step(
    config: Config, n_blocks: int, step: int, rank: int = 0, world_size: int = 1
) -> np.ndarray:
    """The blocks of optimizer step `step` (from 0) that one rank works on, all its micro-batches
    together."""
    settings = config.training
    return batch_indices(
        step, n_blocks=n_blocks, seed=config.seed, rank=rank, world_size=world_size,
        batch_size=settings.micro_batch_size * settings.grad_accumulation_steps,
    )  # fmt: skip
