"""Text <-> ids. One class a file, the same five methods: train, encode, decode, save, load."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from wikigpt.config import TokenizerConfig
from wikigpt.errors import UserError
from wikigpt.files import read_json
from wikigpt.tokenizers.base import VOCABULARY
from wikigpt.tokenizers.bpe import BPETokenizer
from wikigpt.tokenizers.byte import ByteTokenizer
from wikigpt.tokenizers.char import CharTokenizer
from wikigpt.tokenizers.naive_bpe import NaiveBPETokenizer
from wikigpt.tokenizers.sentencepiece import SentencePieceTokenizer

LADDER = (CharTokenizer, ByteTokenizer, NaiveBPETokenizer, BPETokenizer, SentencePieceTokenizer)
KINDS = {tokenizer.kind: tokenizer for tokenizer in LADDER}

__all__ = [*(tokenizer.__name__ for tokenizer in LADDER), "load_tokenizer", "train_tokenizer"]


def load_tokenizer(folder: str | Path) -> Any:
    """Load whatever kind of tokenizer was saved in `folder`."""
    path = Path(folder) / VOCABULARY
    try:
        kind = read_json(path)["kind"]
        return KINDS[kind].load(folder)
    except FileNotFoundError:
        raise UserError(f"There is no tokenizer in {folder} (no {VOCABULARY}).") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged; prepare the corpus again.") from None
    except UserError as error:
        raise UserError(f"{path} is damaged: {error}") from None


def train_tokenizer(config: TokenizerConfig, texts: Iterable[str]) -> Any:
    """Train the kind of tokenizer that `config` asks for, on the whole of `texts` or a fair sample.

    Raises:
        UserError: the texts are too few for such a tokenizer, or the config makes no sense.
    """
    if config.kind == "char":
        return CharTokenizer.train(texts, config.min_count, config.unseen)
    if config.kind == "byte":
        return ByteTokenizer.train()
    sample = sample_evenly(texts, config.sample_bytes)
    if config.kind == "bpe":
        return BPETokenizer.train(sample, config.vocab_size, config.pattern)
    return SentencePieceTokenizer.train(sample, config.vocab_size, config.model_type)


def sample_evenly(texts: Iterable[str], max_bytes: int) -> Iterator[str]:
    """Every k-th of the texts, the smallest k = 1, 2, 4, … that keeps them within `max_bytes`.

    So a dump that is in order, old pages before new ones, is sampled from beginning to end, though
    nobody knows how long it is before it ends. What is kept is held in memory until then.
    """
    kept: list[tuple[str, int]] = []
    step, size = 1, 0
    for number, text in enumerate(texts):
        if number % step:
            continue
        kept.append((text, len(text.encode(errors="surrogatepass"))))
        size += kept[-1][1]
        while size > max_bytes and len(kept) > 1:
            kept, step = kept[::2], 2 * step
            size = sum(length for _, length in kept)
    for text, _ in kept:
        yield text
