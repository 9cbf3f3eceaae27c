"""What a model remembers of the tokens it has read, so that it need not read them again.

Attention is the only place where a token meets the ones before it, and of those it needs their
keys and values only. Causality keeps these as they are whatever comes later, so they are computed
once: a new token then costs one place of the model, not all places before it once more.

Sequences of a batch may differ in length: each begins at slot 0 and writes at its own place, and
a mask hides what lies beyond. Rejected: padding on the left, as transformers does it (learned
positions have to be shifted, and slots run out at the longest sequence's pace); a cache that grows
by concatenation (it copies everything for every token).

All layers share one block of memory: 2 (keys, values) x L layers x B x K x slots x D. A step cuts
it once for all of them, as one token in a small model is little arithmetic in many small calls.
"""

from typing import Self

import torch

from wikigpt.config import GPTConfig


class LayerCache:
    """Keys and values of one attention layer during one step: what it may see, where it writes."""

    def __init__(
        self,
        seen_BKSD: tuple[torch.Tensor, torch.Tensor],
        new_BKTD: tuple[torch.Tensor, torch.Tensor] | None,
        slots: tuple,
        visible_B1TS: torch.Tensor | None,
    ) -> None:
        self.keys_BKSD, self.values_BKSD = seen_BKSD
        self.new_BKTD, self.slots, self.visible_B1TS = new_BKTD, slots, visible_B1TS

    def extend(
        self, k_BKTD: torch.Tensor, v_BKTD: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Store those of the T new tokens; returns k_BKSD and v_BKSD of all, and visible_B1TS."""
        if self.new_BKTD is not None:  # all sequences are equally long: a slice
            self.new_BKTD[0].copy_(k_BKTD)
            self.new_BKTD[1].copy_(v_BKTD)
        else:
            for seen_BKSD, new_BKTD in ((self.keys_BKSD, k_BKTD), (self.values_BKSD, v_BKTD)):
                seen_BKSD.transpose(1, 2)[self.slots] = new_BKTD.transpose(1, 2).type_as(seen_BKSD)
        return self.keys_BKSD, self.values_BKSD, self.visible_B1TS


class KVCache:
    """The keys and values of all layers, and how many tokens of each sequence: `lengths`."""

    def __init__(self, memory_NLBKSD: torch.Tensor, lengths: list[int]) -> None:
        self.memory_NLBKSD, self.lengths = memory_NLBKSD, lengths
        self.layers: list[LayerCache] = []
        """For the step that `places` has announced."""

    @classmethod
    def empty(cls, config: GPTConfig, n_sequences: int, size: int, like: torch.Tensor) -> Self:
        """With `size` slots a sequence, of the type and on the device of `like`."""
        n_head, head_dim = config.n_kv_head or config.n_head, config.n_embd // config.n_head
        head = (size, config.head_dim or head_dim)
        return cls(like.new_zeros(2, config.n_layer, n_sequences, n_head, *head), [0] * n_sequences)

    def places(self, T: int) -> torch.Tensor:
        """Where the next T tokens of each sequence go: places_BT.

        The layers now expect them there, and `lengths` counts them already. The token at place p
        sees the slots 0 to p.
        """
        device, starts = self.memory_NLBKSD.device, self.lengths
        self.lengths = [start + T for start in starts]
        S, together = max(self.lengths), min(starts) == max(starts)
        places_BT = torch.tensor(starts, device=device)[:, None] + torch.arange(T, device=device)
        visible_B1TS = None  # the usual case, one token that sees everything, needs no mask
        if T > 1 or not together:
            visible_B1TS = (torch.arange(S, device=device) <= places_BT[..., None])[:, None]
        seen = [side.unbind() for side in self.memory_NLBKSD[..., :S, :].unbind()]
        if together:
            news = [side.unbind() for side in self.memory_NLBKSD[..., starts[0] : S, :].unbind()]
            new, slots = zip(*news, strict=True), ()
        else:
            rows_B1 = torch.arange(len(starts), device=device)[:, None]
            new, slots = [None] * len(seen[0]), (rows_B1, places_BT)
        self.layers = [
            LayerCache(of_layer, new_BKTD, slots, visible_B1TS)
            for of_layer, new_BKTD in zip(zip(*seen, strict=True), new, strict=True)
        ]
        return places_BT

    def row(self, b: int) -> "KVCache":
        """Sequence b alone, in the same memory, to be filled anew."""
        return KVCache(self.memory_NLBKSD[:, :, b : b + 1], [0])

    def keep(self, rows: list[int]) -> "KVCache":
        """These sequences only, copied."""
        return KVCache(self.memory_NLBKSD[:, :, rows], [self.lengths[b] for b in rows])
