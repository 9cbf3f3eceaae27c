"""Honest loss: on every token of the whole validation split, in bits per byte of the original text.

Nats per token compare only models with the same tokenizer: a token of ten characters is harder to
guess than a token of one. Bits per byte charge the whole cost of a text to its UTF-8 bytes, the
same for every tokenizer, so they are also what a compressor built on the model would need.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from wikigpt.blocks.shards import IGNORE, Counts, TokenBlocks
from wikigpt.model.gpt import GPT


@dataclass(frozen=True)
class Loss:
    """The summed cost of a text, and the sizes it can be divided by."""

    nats: float
    tokens: int
    bytes: int
    characters: int

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


@torch.inference_mode()
def evaluate(
    model: GPT,
    blocks: TokenBlocks,
    batch_size: int = 16,
    autocast: Callable[[], AbstractContextManager] = nullcontext,
) -> Loss:
    """The loss on a whole split: each token is predicted once, the end-of-text tokens too.

    A block begins with no context, as in training; windows that overlap would flatter the model
    and cost more.

    Args:
        autocast: makes the context manager under which the forward passes run.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    nats, tokens = 0.0, 0
    for ids_BT, targets_BT in blocks.batches(batch_size):
        targets = targets_BT.flatten().to(device)
        with autocast():
            logits_BTV = model(ids_BT.to(device))
        losses = F.cross_entropy(logits_BTV.flatten(0, 1).float(), targets, reduction="sum")
        nats += losses.item()
        tokens += int((targets != IGNORE).sum())
    model.train(was_training)
    assert tokens == blocks.counts.tokens, "every token is predicted exactly once"
    return Loss(nats, tokens, blocks.counts.bytes, blocks.counts.characters)
