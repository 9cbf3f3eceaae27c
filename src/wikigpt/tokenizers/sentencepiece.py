"""The sentencepiece library, set up so that no character is ever lost.

Out of the box it is lossy: it normalises (½ becomes 1⁄2, U+00A0 a space), squeezes spaces, puts one
in front, and turns what it does not know into <unk>. Each has its switch, and byte_fallback spells
the unknown in bytes. Two losses have no switch:

- It marks a space with ▁ (U+2581), so a ▁ of the text would come back as a space. Here a ▁ is
  spelled in its three bytes, and the stretches between are given to the library. It is the only
  such character of the planes in use (U+0000 to U+2FFFF and U+E0000 to U+E0FFF were tried).
- Training silently skips lines above a length and lines with ▅ (U+2585, its own mark). Here the
  texts are cut there, and at newlines, before the library sees them.

Decoding is ours, by the same rule as in the other tokenizers: the bytes of all pieces, joined.

A unigram model (Kudo 2018, arXiv:1804.10959) keeps a likelihood for each piece and finds the best
segmentation of the whole; a bpe model merges in the order learnt, as ours does, but on characters,
not on bytes, and over lines cut at spaces and changes of script instead of a split pattern.
"""

import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import sentencepiece

from wikigpt.errors import UserError
from wikigpt.files import atomic_write, read_json
from wikigpt.tokenizers.base import END_OF_TEXT, VOCABULARY, Tokenizer, utf8

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPACE = "▁"
# Id 0 is end-of-text; 1 is <unk>: the library insists on one, but nothing is ever encoded as it.
UNKNOWN_ID, FIRST_BYTE = 1, 2
_SPELLED_SPACE = [FIRST_BYTE + byte for byte in SPACE.encode()]

# What the trainer is given, and how much of it is in memory at a time: a fair sample (a reservoir
# over the whole iterator) of so many chunks of at most so many characters.
CHUNKS, CHUNK_CHARACTERS = 500_000, 1000
# A chunk ends before a space if it can; ▁ and ▅ are left out.
_CHUNK = re.compile(rf"[^\n▁▅]{{1,{CHUNK_CHARACTERS}}}(?![^ \n▁▅])|[^\n▁▅]{{1,{CHUNK_CHARACTERS}}}")


class SentencePieceTokenizer(Tokenizer):
    """Ids: 0 is end-of-text, 1 unused, 2..257 the bytes, then the pieces."""

    kind = "sentencepiece"
    values = ("model_type", "vocab_size", "fingerprint")
    end_of_text_id = 0

    def __init__(self, model: bytes, model_type: Literal["unigram", "bpe"]) -> None:
        """`model` is the content of a sentencepiece model file that `train` has made."""
        self.model, self.model_type = model, model_type
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.vocab_size = self._processor.vocab_size()
        pieces = [self._processor.id_to_piece(i) for i in range(self.vocab_size)]
        self._bytes_of = [piece.replace(SPACE, " ").encode() for piece in pieces]
        self._bytes_of[: FIRST_BYTE + 256] = [
            END_OF_TEXT.encode(), "\ufffd".encode(), *(bytes([byte]) for byte in range(256)),
        ]  # fmt: skip

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int = 8192,
        model_type: Literal["unigram", "bpe"] = "unigram",
        character_coverage: float = 0.9995,
    ) -> Self:
        """Learn `vocab_size` pieces; the same texts give the same model on any number of cores.

        Args:
            character_coverage: the most frequent characters, up to this share of the text, get a
                piece of their own (0.98 to 1); the rest is spelled in bytes.

        Raises:
            UserError: the texts are empty, too small for `vocab_size`, or hold a lone surrogate;
                `vocab_size` is too small for their characters; a value is out of range.
        """
        if model_type not in ("unigram", "bpe"):
            raise UserError(f"model_type is {model_type!r}; it can be unigram or bpe.")
        model = io.BytesIO()
        failures: list[BaseException] = []
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=_chunks(texts, failures),
                model_writer=model,
                model_type=model_type,
                vocab_size=vocab_size,
                character_coverage=character_coverage,
                normalization_rule_name="identity",
                byte_fallback=True,
                remove_extra_whitespaces=False,
                add_dummy_prefix=False,
                # Without a piece of its own, a space would be spelled as the bytes of ▁.
                required_chars=SPACE,
                # Ids 0 and 1; no other special pieces.
                eos_id=0,
                eos_piece=END_OF_TEXT,
                unk_id=UNKNOWN_ID,
                bos_id=-1,
                pad_id=-1,
                input_sentence_size=CHUNKS,
                shuffle_input_sentence=True,
                max_sentence_length=4 * CHUNK_CHARACTERS,
                # A constant, because sums over threads decide the last digits of unigram scores.
                num_threads=4,
                minloglevel=2,
            )
        except RuntimeError as error:
            raise (failures or [_training_error(str(error), vocab_size)])[0] from None
        return cls(model.getvalue(), model_type)

    def encode(self, text: str) -> list[int]:
        """Text -> ids; `<|endoftext|>`, `<unk>` or `<0x41>` in a text are ordinary characters.

        Raises:
            UserError: a lone surrogate.
        """
        if SPACE not in text:
            return self._processor.encode(utf8(text))
        first, *rest = (self._processor.encode(utf8(part)) for part in text.split(SPACE))
        return first + [i for part in rest for i in (*_SPELLED_SPACE, *part)]

    def bulk_encoder(self) -> Callable[[str], Sequence[int]]:
        """The library is compiled: `encode` is as fast as it gets."""
        return self.encode

    def unseen_in(self, text: str) -> str:
        """The distinct characters of `text` that have no piece of their own, in order."""
        known = set(self._bytes_of[FIRST_BYTE + 256 :])
        return "".join(c for c in dict.fromkeys(text) if utf8(c) not in known)

    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> text. Bytes that are not UTF-8 become U+FFFD (a model can write such)."""
        pieces = []
        for i in ids:
            if not 0 <= i < self.vocab_size:
                raise UserError(f"Id {i} is outside the vocabulary of {self.vocab_size} tokens.")
            pieces.append(self._bytes_of[i])
        return b"".join(pieces).decode("utf-8", errors="replace")

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides the ids; token shards remember it."""
        return hashlib.sha256(self.kind.encode() + self.model).hexdigest()

    def save(self, folder: str | Path) -> None:
        """`sentencepiece.model`, which the library itself reads, and `vocabulary.json`."""
        with atomic_write(Path(folder) / "sentencepiece.model") as file:
            file.write(self.model)
        super().save(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """
        Raises:
            UserError: the model file is missing, damaged, or not the one that was saved.
        """
        path = Path(folder) / "sentencepiece.model"
        about = read_json(Path(folder) / VOCABULARY)
        model_type, fingerprint = about["model_type"], about["fingerprint"]
        if not path.is_file():
            raise UserError(f"There is no {path}; save the tokenizer again.")
        model = path.read_bytes()
        if hashlib.sha256(cls.kind.encode() + model).hexdigest() != fingerprint:
            raise UserError(f"{path} is damaged; prepare the corpus again.")
        return cls(model, model_type)

    def to_hub(self, model_max_length: int | None = None) -> "PreTrainedTokenizerFast":
        """The same tokenizer for AutoTokenizer, with the same ids on any text; bpe models only.

        A unigram model has no exact twin there: among segmentations that are equally likely up to
        rounding, sentencepiece adds in single precision and `tokenizers` in double, and they choose
        differently (in 15 of 12,000 articles, where we counted).

        Raises:
            UserError: this is a unigram model.
        """
        from tokenizers import Tokenizer, decoders, models

        from wikigpt.tokenizers.export import to_hub

        if self.model_type != "bpe":
            raise UserError(
                "A unigram model has no exact twin in `tokenizers`; train with model_type='bpe', "
                "or give sentencepiece.model to whoever needs it."
            )
        # Spaces as they are, instead of ▁: then a ▁ is just one more character without a piece.
        learnt, library = range(FIRST_BYTE + 256, self.vocab_size), self._processor
        pieces = [library.id_to_piece(i) for i in range(FIRST_BYTE + 256)]
        pieces += [library.id_to_piece(i).replace(SPACE, " ") for i in learnt]
        id_of = {piece: i for i, piece in enumerate(pieces)}
        # The library merges whatever two neighbours make a piece, the best-scored piece first.
        merges = [
            (piece[:cut], piece[cut:])
            for piece in (pieces[i] for i in sorted(learnt, key=library.get_score, reverse=True))
            for cut in range(1, len(piece))
            if piece[:cut] in id_of and piece[cut:] in id_of
        ]
        twin = Tokenizer(models.BPE(id_of, merges, byte_fallback=True))
        twin.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
        return to_hub(twin, [END_OF_TEXT], model_max_length)


def _chunks(texts: Iterable[str], failures: list[BaseException]) -> Iterator[bytes]:
    """What the trainer reads; an error in reading the texts is kept, as the library wraps it."""
    try:
        for text in texts:
            yield from map(utf8, _CHUNK.findall(text))
    except (Exception, KeyboardInterrupt) as error:
        failures.append(error)
        raise


def _training_error(message: str, vocab_size: int) -> UserError:
    """What the library's trainer says -> our sentence."""
    if "!sentences_.empty()" in message:
        return UserError("The training text is empty; check the corpus and its filters.")
    if largest := re.search(r"Vocabulary size too high .* value <= (\d+)", message):
        return UserError(
            f"The training text supports at most {largest[1]} sentencepiece tokens, not "
            f"{vocab_size}; lower vocab_size or use more text."
        )
    if smallest := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        return UserError(
            f"vocab_size={vocab_size} is too small: the bytes and the frequent characters alone "
            f"are {smallest[1]} tokens; raise vocab_size, or lower character_coverage."
        )
    return UserError(f"sentencepiece could not be trained; it says: {message.strip()}")
