"""Our blocks as the DataLoader that Trainer wants: micro-batch by micro-batch, from any step on.

The sampler begins at the step to go on with, so nothing is skipped through. A DataLoader draws the
seed of its workers from torch's global generator, which dropout depends on; it gets one of its own.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from wikigpt.blocks.prepare import Prepared
from wikigpt.blocks.sampler import indices_of_step
from wikigpt.blocks.shards import TokenBlocks
from wikigpt.config import Config


class BlockSampler(Sampler[list[int]]):
    """The block numbers of each micro-batch of one rank, from step `start` to the end of the run.

    Its length is that of the whole run: to Trainer a run is one epoch, and epochs of the data are
    the sampler's business (blocks/sampler.py lays them end to end).
    """

    def __init__(
        self, config: Config, n_blocks: int, start: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.config, self.n_blocks, self.start = config, n_blocks, start
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        settings = self.config.training
        return settings.max_steps * settings.grad_accumulation_steps // self.world_size

    def __iter__(self) -> Iterator[list[int]]:
        size = self.config.training.micro_batch_size
        for step in range(self.start, self.config.training.max_steps):
            indices = indices_of_step(
                self.config, self.n_blocks, step, self.rank, self.world_size
            ).tolist()
            for first in range(0, len(indices), size):
                yield indices[first : first + size]


class BlockDataset(Dataset):
    """Block numbers -> what Trainer feeds to GPT-2."""

    def __init__(self, open_blocks: Callable[[], TokenBlocks]) -> None:
        self._open, self._blocks = open_blocks, None

    def __getitem__(self, indices: list[int]) -> dict[str, torch.Tensor]:
        if self._blocks is None:
            self._blocks = self._open()
        return model_inputs(*self._blocks.batch(indices))

    def __getstate__(self) -> dict[str, Any]:
        # A worker that is spawned opens the shards itself: a memory map would be sent in full.
        return {"_open": self._open, "_blocks": None}


def model_inputs(ids_BT: torch.Tensor, targets_BT: torch.Tensor) -> dict[str, torch.Tensor]:
    """`shift_labels` is what counts; without `labels` GPT-2 would not compute a loss at all."""
    return {"input_ids": ids_BT, "labels": targets_BT, "shift_labels": targets_BT}


def micro_batches(
    config: Config, data: Prepared, start: int, place: Any, rank: int = 0, world_size: int = 1
) -> DataLoader:
    """A run's micro-batches from step `start` on, those of one rank."""
    open_blocks = partial(
        TokenBlocks, data.folder, "train", data.tokenizer, config.model.block_size
    )
    return DataLoader(
        BlockDataset(open_blocks),
        sampler=BlockSampler(config, len(data.train), start, rank, world_size),
        batch_size=None,  # the sampler makes the batches
        num_workers=config.training.data_workers,
        generator=torch.Generator(),
    )
