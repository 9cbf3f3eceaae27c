"""One token a byte of UTF-8: 257 ids, nothing to train, and every text can be spelled.

The second rung of the ladder, and the floor under BPE and sentencepiece: both fall back on these
bytes where they know nothing better. Its price is length: é is two tokens, € three, 語 three.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np

from wikigpt.errors import UserError
from wikigpt.tokenizers.base import END_OF_TEXT, Tokenizer, utf8
from wikigpt.tokenizers.char import CharTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class ByteTokenizer(Tokenizer):
    """Ids: 0 is end-of-text, then the 256 bytes: the id of a byte is its value plus one."""

    kind = "byte"
    values = ()
    end_of_text_id = 0
    vocab_size = 257

    @classmethod
    def train(cls, texts: Iterable[str] = ()) -> Self:
        """There is nothing to learn; `texts` is not read."""
        return cls()

    def encode(self, text: str) -> list[int]:
        """Text -> ids; `<|endoftext|>` in a text is thirteen ordinary bytes.

        Raises:
            UserError: a lone surrogate.
        """
        return [1 + byte for byte in utf8(text)]

    def bulk_encoder(self) -> Callable[[str], Sequence[int]]:
        """The same ids as an array, 30 times as fast."""
        return lambda text: np.frombuffer(utf8(text), np.uint8) + np.uint16(1)

    def unseen_in(self, text: str) -> str:
        """The distinct characters of `text` that can't be spelled in learnt tokens: none."""
        return ""

    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> text. Bytes that are not UTF-8 become U+FFFD (a model can write such)."""
        pieces = []
        for i in ids:
            if not 0 <= i < self.vocab_size:
                raise UserError(f"Id {i} is outside the vocabulary of {self.vocab_size} tokens.")
            pieces.append(bytes([i - 1]) if i else END_OF_TEXT.encode())
        return b"".join(pieces).decode("utf-8", errors="replace")

    def to_hub(self, model_max_length: int | None = None) -> "PreTrainedTokenizerFast":
        """For AutoTokenizer: a character tokenizer that knows no character spells in bytes."""
        return CharTokenizer("").to_hub(model_max_length)

    @property
    def fingerprint(self) -> str:
        """There is nothing to hash but the kind."""
        return hashlib.sha256(self.kind.encode()).hexdigest()
