"""Text <-> ids. One class a file, the same five methods: train, encode, decode, save, load."""

from pathlib import Path
from typing import Any

from wikigpt.errors import UserError
from wikigpt.files import read_json
from wikigpt.tokenizers.bpe import BPETokenizer
from wikigpt.tokenizers.byte import ByteTokenizer
from wikigpt.tokenizers.char import CharTokenizer
from wikigpt.tokenizers.naive_bpe import NaiveBPETokenizer
from wikigpt.tokenizers.sentencepiece import SentencePieceTokenizer

LADDER = (CharTokenizer, ByteTokenizer, NaiveBPETokenizer, BPETokenizer, SentencePieceTokenizer)
KINDS = {tokenizer.kind: tokenizer for tokenizer in LADDER}

__all__ = [*(tokenizer.__name__ for tokenizer in LADDER), "load_tokenizer"]


def load_tokenizer(folder: str | Path) -> Any:
    """Load whatever kind of tokenizer was saved in `folder`."""
    path = Path(folder) / "vocabulary.json"
    try:
        kind = read_json(path)["kind"]
        return KINDS[kind].load(folder)
    except FileNotFoundError:
        raise UserError(f"There is no tokenizer in {folder} (no vocabulary.json).") from None
    except UserError as error:
        raise UserError(f"{path} is damaged: {error}") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged; prepare the corpus again.") from None
