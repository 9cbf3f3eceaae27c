"""One token a character: the simplest tokenizer there is, made lossless.

Real text has a long tail (the French leads corpus: 940 distinct characters, 837 of them rarer than
1 in 40,000), and tomorrow's text will hold characters that training never saw. With
`unseen="bytes"` such a character is spelled as its UTF-8 bytes, each a token, so that every string
round-trips and bits per byte are honest. Rejected: one <unk> token for the whole tail; it makes the
loss look better, because naming the character is never charged for, and text can't be restored.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from wikigpt.errors import UserError
from wikigpt.tokenizers.base import END_OF_TEXT, Tokenizer, utf8

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class CharTokenizer(Tokenizer):
    """Ids: 0 is end-of-text, then (with `unseen="bytes"`) the 256 bytes, then the characters."""

    kind = "char"
    values = ("unseen", "characters")
    end_of_text_id = 0

    def __init__(
        self, characters: Iterable[str], unseen: Literal["bytes", "error"] = "bytes"
    ) -> None:
        """
        Raises:
            UserError: `unseen` is neither of the two; one of the characters is a lone surrogate.
        """
        if unseen not in ("bytes", "error"):
            raise UserError(f"unseen is {unseen!r}; a character tokenizer knows bytes and error.")
        self.characters = sorted(set(characters))
        utf8("".join(self.characters))  # which says what no text can hold
        self.unseen = unseen
        self._first_character = 257 if unseen == "bytes" else 1
        self._id_of = {c: i for i, c in enumerate(self.characters, start=self._first_character)}

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        min_count: int = 1,
        unseen: Literal["bytes", "error"] = "bytes",
    ) -> Self:
        """Give a token to every character that occurs at least `min_count` times in `texts`."""
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(text)
        kept = [character for character, count in counts.items() if count >= min_count]
        if not kept:
            raise UserError(
                f"No character occurs {min_count} times or more in the training text "
                f"({counts.total()} characters); lower tokenizer.min_count or use more text."
            )
        return cls(kept, unseen)

    @property
    def vocab_size(self) -> int:
        return self._first_character + len(self.characters)

    def encode(self, text: str) -> list[int]:
        """Text -> ids; `<|endoftext|>` in a text is thirteen ordinary characters.

        Raises:
            UserError: a character without a token, with `unseen="error"`; a lone surrogate.
        """
        id_of = self._id_of
        try:
            return [id_of[character] for character in text]
        except KeyError:
            pass  # The rare text with rare characters takes the slower road.
        ids = []
        for character in text:
            known = id_of.get(character)
            ids += [known] if known is not None else self._spell(character)
        return ids

    def _spell(self, character: str) -> list[int]:
        if self.unseen == "error":
            raise UserError(
                f"The character {character!r} (U+{ord(character):04X}) is not in the vocabulary of "
                f"{len(self.characters)} characters; leave it out, or train the tokenizer with "
                "unseen='bytes'."
            )
        return [1 + byte for byte in utf8(character)]

    def bulk_encoder(self) -> Callable[[str], np.ndarray]:
        """`encode` for millions of texts: the same ids as an int32 array, by one table look-up."""
        table = np.full(0x110000, -1, dtype=np.int32)
        table[[ord(character) for character in self.characters]] = list(self._id_of.values())

        def encode(text: str) -> np.ndarray:
            codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
            ids = table[codes]
            unseen = ids < 0
            if not unseen.any():
                return ids
            strange = codes[unseen]
            if self.unseen == "error" or np.any((strange >= 0xD800) & (strange < 0xE000)):
                return np.asarray(self.encode(text), dtype=np.int32)  # which says what is wrong
            # Room for the UTF-8 bytes of each, then the bytes of all of them.
            room = np.ones_like(ids)
            room[unseen] = 1 + (strange >= 0x80) + (strange >= 0x800) + (strange >= 0x10000)
            ids = np.repeat(ids, room)
            utf_8 = strange.tobytes().decode("utf-32-le").encode()
            ids[ids < 0] = 1 + np.frombuffer(utf_8, dtype=np.uint8).astype(np.int32)
            return ids

        return encode

    def unseen_in(self, text: str) -> str:
        """The distinct characters of `text` that have no token of their own, in order."""
        return "".join(dict.fromkeys(c for c in text if c not in self._id_of))

    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> text. Bytes that are not UTF-8 become U+FFFD (a model can write such)."""
        text, pending = [], bytearray()
        for i in ids:
            if not 0 <= i < self.vocab_size:
                raise UserError(f"Id {i} is outside the vocabulary of {self.vocab_size} tokens.")
            if 0 < i < self._first_character:
                pending.append(i - 1)
                continue
            if pending:
                text.append(pending.decode("utf-8", errors="replace"))
                pending.clear()
            is_character = i >= self._first_character
            text.append(self.characters[i - self._first_character] if is_character else END_OF_TEXT)
        text.append(pending.decode("utf-8", errors="replace"))
        return "".join(text)

    def to_hub(self, model_max_length: int | None = None) -> "PreTrainedTokenizerFast":
        """The twin: a tokenizer of the Hugging Face ecosystem that gives the same ids."""
        from wikigpt.tokenizers.export import char_to_hub  # transformers takes a while to import

        ids = {END_OF_TEXT: self.end_of_text_id} | self._id_of
        return char_to_hub(ids, 1 if self.unseen == "bytes" else None, model_max_length)

    def _vocabulary(self) -> dict[str, str]:
        return super()._vocabulary() | {"characters": "".join(self.characters)}
