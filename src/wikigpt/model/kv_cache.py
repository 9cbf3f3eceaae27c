"""What a model remembers of the tokens it has read, so that it need not read them again.

Attention is the only place where a token meets the ones before it, and of those it needs their
keys and values only. Causality keeps these as they are whatever comes later, so they are computed
once: a new token then costs one place of the model, not all places before it once more.

Sequences of a batch may differ in length: each begins at slot 0 and writes at its own place, and
a mask hides what lies beyond. Rejected: padding on the left, as transformers does it (learned
positions have to be shifted, and slots run out at the longest sequence's pace); a cache that grows
by concatenation (it copies everything for every token).
"""

from typing import Self

import torch

from wikigpt.config import GPTConfig


class LayerCache:
    """Keys and values of one attention layer; S slots for each of B sequences."""

    def __init__(self, keys_BSKD: torch.Tensor, values_BSKD: torch.Tensor) -> None:
        self.keys_BSKD, self.values_BSKD = keys_BSKD, values_BSKD

    def expect(self, slots: tuple, S: int, visible_B1TS: torch.Tensor | None) -> None:
        """The next tokens go to `slots`; of the first S slots they see those that are true."""
        self.slots, self.S, self.visible_B1TS = slots, S, visible_B1TS

    def extend(
        self, k_BKTD: torch.Tensor, v_BKTD: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Store those of the T new tokens; returns k_BKSD and v_BKSD of all, and visible_B1TS."""
        for stored_BSKD, new_BKTD in ((self.keys_BSKD, k_BKTD), (self.values_BSKD, v_BKTD)):
            stored_BSKD[self.slots] = new_BKTD.transpose(1, 2).type_as(stored_BSKD)
        k_BKSD = self.keys_BSKD[:, : self.S].transpose(1, 2)
        v_BKSD = self.values_BSKD[:, : self.S].transpose(1, 2)
        return k_BKSD, v_BKSD, self.visible_B1TS

    def of(self, rows: slice | list[int]) -> "LayerCache":
        """That of some of the sequences: the same memory for a slice, a copy for a list."""
        return LayerCache(self.keys_BSKD[rows], self.values_BSKD[rows])


class KVCache:
    """The caches of all layers, and how many tokens of each sequence they hold: `lengths`."""

    def __init__(self, layers: list[LayerCache], lengths: list[int]) -> None:
        self.layers, self.lengths = layers, lengths

    @classmethod
    def empty(cls, config: GPTConfig, n_sequences: int, size: int, like: torch.Tensor) -> Self:
        """With `size` slots a sequence, of the type and on the device of `like`."""
        n_head, head_dim = config.n_kv_head or config.n_head, config.n_embd // config.n_head
        shape = (n_sequences, size, n_head, config.head_dim or head_dim)
        layers = [
            LayerCache(like.new_zeros(shape), like.new_zeros(shape)) for _ in range(config.n_layer)
        ]
        return cls(layers, [0] * n_sequences)

    def places(self, T: int) -> torch.Tensor:
        """Where the next T tokens of each sequence go: places_BT.

        The layers now expect them there, and `lengths` counts them already. The token at place p
        sees the slots 0 to p.
        """
        device = self.layers[0].keys_BSKD.device
        starts = self.lengths
        self.lengths = [start + T for start in starts]
        S = max(self.lengths)
        places_BT = torch.tensor(starts, device=device)[:, None] + torch.arange(T, device=device)
        if min(starts) == max(starts):
            slots = (slice(None), slice(starts[0], S))
        else:
            slots = (torch.arange(len(starts), device=device)[:, None], places_BT)
        visible_B1TS = None  # the usual case, one token that sees everything, needs no mask
        if T > 1 or min(starts) < max(starts):
            visible_B1TS = (torch.arange(S, device=device) <= places_BT[..., None])[:, None]
        for layer in self.layers:
            layer.expect(slots, S, visible_B1TS)
        return places_BT

    def row(self, b: int) -> "KVCache":
        """Sequence b alone, in the same memory, to be filled anew."""
        return KVCache([layer.of(slice(b, b + 1)) for layer in self.layers], [0])

    def keep(self, rows: list[int]) -> "KVCache":
        """These sequences only, copied."""
        return KVCache([layer.of(rows) for layer in self.layers], [self.lengths[b] for b in rows])
