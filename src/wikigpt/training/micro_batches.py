"""Our blocks as the DataLoader that Trainer wants: micro-batch by micro-batch, from any step on.

From shards, a sampler begins at the step to go on with; from a stream, the stream goes to its saved
place. Nothing is skipped through, and a DataLoader's workers change no number. To Trainer a run is
one epoch, so that its own idea of epochs never comes in: those of the data are the business of
blocks/sampler.py, which lays them end to end, and of blocks/streaming.py.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from wikigpt.blocks.prepare import Prepared
from wikigpt.blocks.sampler import indices_of_step
from wikigpt.blocks.shards import TokenBlocks
from wikigpt.config import Config

MicroBatch = dict[str, Any]


def micro_batches(
    config: Config, data: Prepared, start: int, place: Any, rank: int = 0, world_size: int = 1
) -> DataLoader:
    """A run's micro-batches from step `start` on, those of one rank.

    Args:
        place: where a stream was after `start` steps: the "place" of the micro-batch before.
    """
    settings = {
        "batch_size": None,  # what is drawn is a micro-batch already
        "collate_fn": _as_it_is,
        "num_workers": config.training.data_workers,
        # Not forked: Trainer runs in a thread, and the preflight has read from the stream here.
        "multiprocessing_context": "spawn" if config.training.data_workers else None,
        # The workers' seed would be drawn from torch's generator, on which dropout depends.
        "generator": torch.Generator(),
    }
    if isinstance(data.train, TokenBlocks):
        sampler = BlockSampler(config, len(data.train), start, rank, world_size)
        return DataLoader(_Shards(data.train), sampler=sampler, **settings)
    # A worker gets the stream closed: it opens the files for itself.
    data.train.load_state_dict(place or data.train.state_dict())
    return DataLoader(_Stream(config, data.train, start, rank, world_size), **settings)


class BlockSampler(Sampler[list[int]]):
    """The block numbers of each micro-batch of one rank, from step `start` to the last."""

    def __init__(
        self, config: Config, n_blocks: int, start: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.config, self.n_blocks, self.start = config, n_blocks, start
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        """Of the whole run: Trainer counts its epochs by it."""
        return _length(self.config, self.world_size)

    def __iter__(self) -> Iterator[list[int]]:
        size = self.config.training.micro_batch_size
        for step in range(self.start, self.config.training.max_steps):
            indices = indices_of_step(self.config, self.n_blocks, step, self.rank, self.world_size)
            for first in range(0, len(indices), size):
                yield indices[first : first + size].tolist()


class _Shards(Dataset):
    """Block numbers -> a micro-batch."""

    def __init__(self, blocks: TokenBlocks) -> None:
        self.blocks = blocks

    def __getitem__(self, indices: list[int]) -> MicroBatch:
        return _model_inputs(*self.blocks.batch(indices))


class _Stream(IterableDataset):
    """The micro-batches of a stream. Each takes along the place after its step, for a process that
    reads ahead is not where the training is."""

    def __init__(self, config: Config, blocks: Any, start: int, rank: int, world_size: int) -> None:
        self.config, self.blocks, self.start = config, blocks, start
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return _length(self.config, self.world_size)

    def __iter__(self) -> Iterator[MicroBatch]:
        settings = self.config.training
        step_size = settings.micro_batch_size * settings.grad_accumulation_steps
        share = step_size // self.world_size
        mine = slice(self.rank * share, (self.rank + 1) * share)
        for _ in range(self.start, settings.max_steps):
            ids_BT, targets_BT = (part[mine] for part in self.blocks.batch(step_size))
            place = self.blocks.state_dict()
            size = settings.micro_batch_size
            for ids, targets in zip(ids_BT.split(size), targets_BT.split(size), strict=True):
                yield _model_inputs(ids, targets) | {"place": place}


def _model_inputs(ids_BT: torch.Tensor, targets_BT: torch.Tensor) -> MicroBatch:
    """`shift_labels` is what counts; without `labels` GPT-2 would compute no loss at all."""
    return {"input_ids": ids_BT, "labels": targets_BT, "shift_labels": targets_BT}


def _length(config: Config, world_size: int) -> int:
    settings = config.training
    return settings.max_steps * settings.grad_accumulation_steps // world_size


def _as_it_is(micro_batch: MicroBatch) -> MicroBatch:
    return micro_batch
