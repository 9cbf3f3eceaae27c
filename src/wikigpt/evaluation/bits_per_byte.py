"""Honest loss: on every token of the whole validation split, in bits per byte of the original text.

Nats per token compare only models with the same tokenizer: a token of ten characters is harder to
guess than a token of one. Bits per byte charge the whole cost of a text to its UTF-8 bytes, the
same for every tokenizer, so they are also what a compressor built on the model would need.

A model reads `block_size` tokens at most, so a text is cut in windows. With a stride as long as a
block, each begins where the one before ended and knows nothing of it, as in training; that is what
every evaluation during training does. With a shorter stride windows overlap, and the first tokens
of each are context only:

    block_size 8, stride 8   ........                block_size 8, stride 4   ........
    (a dot: paid for)                ........        (a dash: context only)       ----....
                                                                                      ----....

so every token has at least block_size - stride tokens before it. The figure is better and dearer:
stride = block_size / 2 costs twice as much. Whichever it is, every token is paid for exactly once.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from wikigpt.blocks.shards import IGNORE, Counts, TokenBlocks
from wikigpt.errors import UserError
from wikigpt.evaluation.any_model import AnyModel
from wikigpt.model.gpt import GPT

Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Loss:
    """The summed cost of a text, and the sizes it can be divided by."""

    nats: float
    tokens: int
    bytes: int
    characters: int
    changed_documents: int = 0
    """Those that the tokenizer does not give back as they were. What it left out or made equal was
    not paid for, so with many of them the figure is too good."""

    @property
    def nats_per_token(self) -> float:
        return self.nats / self.tokens

    @property
    def nats_per_char(self) -> float:
        return self.nats / self.characters

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.bytes


def bits_per_byte(nats_per_token: float, counts: Counts) -> float:
    """Convert a mean loss on (some of) a split, by that split's tokens per byte."""
    return nats_per_token / math.log(2) * counts.tokens / counts.bytes


def evaluate(
    model: GPT,
    blocks: TokenBlocks,
    batch_size: int = 16,
    autocast: Callable[[], AbstractContextManager] = nullcontext,
    stride: int | None = None,
) -> Loss:
    """The loss on a whole split: each token is predicted once, the end-of-text tokens too.

    Args:
        autocast: makes the context manager under which the forward passes run.
        stride: tokens from one window to the next; those of a block if left out.

    Raises:
        UserError: the stride is not within the block.
    """
    if stride is None:
        batches = blocks.batches(batch_size)
    else:
        of_all = blocks.counts.tokens
        batches = _windows(blocks.tokens, of_all, blocks.block_size, stride, batch_size)
    nats, tokens = _cost(model, model, batches, autocast)
    assert tokens == blocks.counts.tokens, "every token is predicted exactly once"
    return Loss(nats, tokens, blocks.counts.bytes, blocks.counts.characters)


def evaluate_texts(
    model: AnyModel,
    texts: Iterable[str],
    stride: int | None = None,
    block_size: int | None = None,
    batch_size: int | None = None,
    autocast: Callable[[], AbstractContextManager] = nullcontext,
) -> Loss:
    """The loss of any model on whole texts, such as those of `split_texts`; their tokens are held
    in memory.

    For a model of ours it is what `evaluate` gives on the shards of the same texts.

    Args:
        stride: tokens from one window to the next; those of a block if left out.
        block_size: length of a window, in this model's tokens; its longest context if left out.
        batch_size: windows in one forward pass; if left out, 16 or as many as make 2^27 logits.

    Raises:
        UserError: no text; a window longer than the model's context; a stride not within it; no
            window in a batch; a tokenizer with more tokens than the model.
    """
    block_size = model.block_size if block_size is None else block_size
    if not 1 <= block_size <= model.block_size:
        raise UserError(
            f"block_size is {block_size}; this model's context is 1 to {model.block_size} tokens."
        )
    pieces, charged = [], []
    counts, changed = Counts(), 0
    for text in texts:
        ids = model.encode(text)
        changed += model.decode(ids) != text
        between = [model.start_id] if not pieces or model.start_id != model.end_id else []
        pieces.append(np.array([*between, *ids, model.end_id], dtype=np.int32))
        charged.append(np.arange(len(pieces[-1])) >= len(between))
        counts.tokens += len(ids) + 1
        counts.bytes += len(text.encode())
        counts.characters += len(text)
    if not counts.bytes:
        raise UserError("There is no text to evaluate on; give at least one that is not empty.")
    stream_ids, is_charged = np.concatenate(pieces), np.concatenate(charged)
    if stream_ids.max() >= model.vocab_size:
        raise UserError(
            f"The tokenizer gives the id {stream_ids.max()}, but the model has {model.vocab_size} "
            "tokens; they don't belong together."
        )

    def tokens_of(start: int, stop: int) -> np.ndarray:
        return stream_ids[start:stop].astype(np.int64)

    if batch_size is None:
        batch_size = max(1, min(16, 2**27 // (block_size * model.vocab_size)))
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; it takes at least 1 window.")
    stride = block_size if stride is None else stride
    of_all = len(stream_ids) - 1
    batches = _windows(tokens_of, of_all, block_size, stride, batch_size, is_charged)
    nats, tokens = _cost(model.module, model.logits, batches, autocast)
    assert tokens == counts.tokens, "every token is predicted exactly once"
    return Loss(nats, tokens, counts.bytes, counts.characters, changed)


def _windows(
    tokens: Callable[[int, int], np.ndarray],
    targets: int,
    block_size: int,
    stride: int,
    batch_size: int,
    charged: np.ndarray | None = None,
) -> Iterator[Batch]:
    """A stream of tokens as batches of windows (ids_BT, targets_BT), int64.

    Args:
        tokens: gives tokens start..stop of the stream; the first of it is nobody's target.
        targets: how many tokens follow the first.
        charged: for each token of the stream, whether it is to be predicted; all if left out.
    """
    if not 1 <= stride <= block_size:
        raise UserError(
            f"stride is {stride}; it must be 1 to {block_size} tokens (block_size), or tokens "
            "would be left out."
        )
    # The last window is the first that reaches the end.
    starts = range(0, max(targets - block_size, 0) + stride, stride)
    filler, width = tokens(0, 1)[0], min(block_size, targets)
    for first in range(0, len(starts), batch_size):
        chosen = starts[first : first + batch_size]
        ids_BT = np.full((len(chosen), width), filler, dtype=np.int64)
        targets_BT = np.full_like(ids_BT, IGNORE)
        for row, start in enumerate(chosen):
            window = tokens(start, start + block_size + 1)
            n = len(window) - 1
            ids_BT[row, :n], targets_BT[row, :n] = window[:-1], window[1:]
            if start:
                targets_BT[row, : block_size - stride] = IGNORE
            if charged is not None:
                targets_BT[row, :n][~charged[start + 1 : start + 1 + n]] = IGNORE
        yield torch.from_numpy(ids_BT), torch.from_numpy(targets_BT)


@torch.inference_mode()
def _cost(
    module: torch.nn.Module,
    logits: Callable[[torch.Tensor], torch.Tensor],
    batches: Iterable[Batch],
    autocast: Callable[[], AbstractContextManager],
) -> tuple[float, int]:
    """(nats, tokens) of all targets."""
    device = next(module.parameters()).device
    was_training = module.training
    module.eval()
    nats, tokens = 0.0, 0
    for ids_BT, targets_BT in batches:
        targets = targets_BT.flatten().to(device)
        with autocast():
            logits_BTV = logits(ids_BT.to(device))
        losses = F.cross_entropy(logits_BTV.flatten(0, 1).float(), targets, reduction="sum")
        nats += losses.item()
        tokens += int((targets != IGNORE).sum())
    module.train(was_training)
    return nats, tokens
