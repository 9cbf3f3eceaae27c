"""What all tokenizers share: the mark that ends an article, and how they are kept and told apart.

A tokenizer is decided by a few values. The same list of them is saved (one readable JSON file),
loaded and hashed, so that none can be forgotten in one place only; token shards remember the hash.
Rejected: an interface with abstract methods, which would repeat what each class shows anyway.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar, Self

from wikigpt.errors import UserError
from wikigpt.files import read_json, write_json

END_OF_TEXT = "<|endoftext|>"
VOCABULARY = "vocabulary.json"


class Tokenizer:
    """A tokenizer that is decided by its attributes `values`, which `__init__` takes by name."""

    kind: ClassVar[str]
    values: ClassVar[tuple[str, ...]]

    def _vocabulary(self) -> dict[str, Any]:
        return {"kind": self.kind} | {name: getattr(self, name) for name in self.values}

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides the ids; token shards remember it."""
        return hashlib.sha256(json.dumps(self._vocabulary()).encode()).hexdigest()

    def save(self, folder: str | Path) -> None:
        write_json(Path(folder) / VOCABULARY, self._vocabulary())

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """
        Raises:
            UserError: what lies in `folder` is another kind of tokenizer, or makes no sense.
        """
        saved = read_json(Path(folder) / VOCABULARY)
        if saved["kind"] != cls.kind:
            raise UserError(f"{folder} holds a tokenizer of kind {saved['kind']}, not {cls.kind}.")
        return cls(**{name: saved[name] for name in cls.values})


def utf8(text: str) -> bytes:
    """Text -> its bytes.

    Raises:
        UserError: a lone surrogate.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise lone_surrogate(error) from None


def lone_surrogate(error: UnicodeEncodeError) -> UserError:
    """The one thing in a Python string that has no bytes, as a sentence."""
    return UserError(
        f"U+{ord(error.object[error.start]):04X} is a lone surrogate, half a character that no "
        "text can hold; repair the text."
    )
