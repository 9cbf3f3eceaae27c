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

    def __init__(self, keys_BKSD: torch.Tensor, values_BKSD: torch.Tensor) -> None:
        self.keys_BKSD, self.values_BKSD = keys_BKSD, values_BKSD
        self.slots: tuple[torch.Tensor, slice, torch.Tensor] = ()
        self.visible_B1TS = torch.empty(0)

    def extend(
        self, k_BKTD: torch.Tensor, v_BKTD: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Store those of T new tokens; returns k_BKSD, v_BKSD of all, visible_B1TS."""
        for stored, new in ((self.keys_BKSD, k_BKTD), (self.values_BKSD, v_BKTD)):
            stored[self.slots] = new.transpose(1, 2).type_as(stored)
        S = self.visible_B1TS.shape[-1]
        return self.keys_BKSD[:, :, :S], self.values_BKSD[:, :, :S], self.visible_B1TS

    def of(self, rows: slice | list[int]) -> "LayerCache":
        """That of some of the sequences: the same memory for a slice, a copy for a list."""
        return LayerCache(self.keys_BKSD[rows], self.values_BKSD[rows])


class KVCache:
    """The caches of all layers, and how many tokens of each sequence they hold: `lengths`."""

    def __init__(self, layers: list[LayerCache], lengths: list[int]) -> None:
        self.layers, self.lengths = layers, lengths

    @classmethod
    def empty(cls, config: GPTConfig, n_sequences: int, size: int, like: torch.Tensor) -> Self:
        """With `size` slots a sequence, of the type and on the device of `like`."""
        heads = config.n_kv_head or config.n_head
        shape = (n_sequences, heads, size, config.head_dim or config.n_embd // config.n_head)
        layers = [
            LayerCache(like.new_zeros(shape), like.new_zeros(shape)) for _ in range(config.n_layer)
        ]
        return cls(layers, [0] * n_sequences)

    def places(self, T: int) -> torch.Tensor:
        """Where T more tokens of each sequence go, places_BT; makes ready the layers for them.

        The token at place p sees the slots 0 to p.
        """
        device = self.layers[0].keys_BKSD.device
        starts_B1 = torch.tensor(self.lengths, device=device)[:, None]
        places_BT = starts_B1 + torch.arange(T, device=device)
        self.lengths = [length + T for length in self.lengths]
        slots_S = torch.arange(max(self.lengths), device=device)
        visible_B1TS = (slots_S <= places_BT[..., None])[:, None]
        rows_B1 = torch.arange(len(self.lengths), device=device)[:, None]
        for layer in self.layers:
            layer.slots = (rows_B1, slice(None), places_BT)
            layer.visible_B1TS = visible_B1TS
        return places_BT

    def row(self, b: int) -> "KVCache":
        """Sequence b alone, in the same memory, to be filled anew."""
        return KVCache([layer.of(slice(b, b + 1)) for layer in self.layers], [0])

    def keep(self, rows: list[int]) -> "KVCache":
        """These sequences only, copied."""
        return KVCache([layer.of(rows) for layer in self.layers], [self.lengths[b] for b in rows])
