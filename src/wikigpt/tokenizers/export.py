"""To and from `tokenizer.json`, the file that the Hugging Face ecosystem reads.

The twin gives the same ids on any text and the same text for any ids. For that it is saved with
`split_special_tokens`, which AutoTokenizer honours: a literal `<|endoftext|>` in a text is ordinary
characters there too. Load it with AutoTokenizer; `GPT2Tokenizer` would put GPT-2's split pattern in
the place of ours.

Characters are written as a BPE without merges, which falls back to bytes for what it has no token
for; bytes that are not UTF-8 become one U+FFFD each there, here one for each broken character.
"""

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from wikigpt.errors import UserError
from wikigpt.files import read_json
from wikigpt.tokenizers.base import END_OF_TEXT
from wikigpt.tokenizers.naive_bpe import BYTE_ORDER, VISIBLE
from wikigpt.tokenizers.patterns import GPT2

# A JSON file can't hold bytes, so byte-level BPE writes each as a character: a visible one as
# itself, the others as the characters from U+0100 on (a space is Ġ).
_CHARACTER = {byte: chr(byte) if byte in VISIBLE else chr(256 + i - len(VISIBLE))
              for i, byte in enumerate(BYTE_ORDER)}  # fmt: skip
_BYTE = {character: byte for byte, character in _CHARACTER.items()}


def to_hub(
    tokenizer: Tokenizer, special_tokens: list[str], model_max_length: int | None
) -> PreTrainedTokenizerFast:
    """A `tokenizers` object, ready for `save_pretrained` into a model's folder.

    Nothing is added to a text by default; there is no padding token, for the one who pads with
    end-of-text teaches the model never to stop.
    """
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in special_tokens]
    )
    length = {} if model_max_length is None else {"model_max_length": model_max_length}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        split_special_tokens=True,
        clean_up_tokenization_spaces=False,
        **length,
    )


def bpe_to_hub(
    tokens: list[bytes], merges: list[tuple[int, int]], pattern: str,
    special_tokens: dict[str, int], model_max_length: int | None,
) -> PreTrainedTokenizerFast:  # fmt: skip
    """
    Args:
        tokens: the bytes of each id; those of the special tokens do not matter.
        merges: the pairs of ids, in the order in which they are merged.
    """
    names = ["".join(_CHARACTER[byte] for byte in token) for token in tokens]
    for token, i in special_tokens.items():
        names[i] = token
    vocabulary = {name: i for i, name in enumerate(names)}
    named_merges = [(names[left], names[right]) for left, right in merges]
    twin = Tokenizer(models.BPE(vocab=vocabulary, merges=named_merges))
    twin.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    twin.decoder = decoders.ByteLevel()
    return to_hub(twin, list(special_tokens), model_max_length)


def char_to_hub(
    ids: dict[str, int], first_byte: int | None, model_max_length: int | None
) -> PreTrainedTokenizerFast:
    """
    Args:
        ids: those of the characters and of end-of-text.
        first_byte: the id of byte 0, before those of the others; None if there are none.
    """
    vocabulary = dict(ids)
    if first_byte is not None:
        vocabulary |= {f"<0x{byte:02X}>": first_byte + byte for byte in range(256)}
        twin = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
        twin.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    else:
        # A WordLevel model whose unknown token has no id stops at an unseen character, like ours.
        twin = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="<unk>"))
        twin.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        twin.decoder = decoders.Fuse()
    return to_hub(twin, [END_OF_TEXT], model_max_length)


def read_bpe(path: Path) -> tuple[list[tuple[int, int]], str, dict[str, int]]:
    """A `tokenizer.json` -> the merges, split pattern and special tokens of a BPETokenizer.

    Raises:
        UserError: missing, damaged, or of a kind whose ids a BPETokenizer would not give.
    """
    path = path / "tokenizer.json" if path.is_dir() else path
    try:
        return _parse(read_json(path))
    except FileNotFoundError:
        raise UserError(f"There is no {path}.") from None
    except (KeyError, ValueError, TypeError, AttributeError, IndexError):
        raise UserError(f"{path} is damaged, or no tokenizer.json.") from None
    except UserError as error:
        raise UserError(f"{path} can't become a BPETokenizer: {error}") from None


def _parse(file: dict[str, Any]) -> tuple[list[tuple[int, int]], str, dict[str, int]]:
    model = file["model"]
    ignored = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
               "byte_fallback", "ignore_merges")  # fmt: skip
    if model["type"] != "BPE":
        raise UserError(f"its model is {model['type']}, not BPE.")
    if set_ := [key for key in ignored if model.get(key)]:
        raise UserError(f"its model sets {set_[0]}, which changes the ids.")
    if file["normalizer"] is not None:
        raise UserError("it normalises the text, so the text could not be restored.")
    if (file.get("post_processor") or {}).get("special_tokens"):
        raise UserError("it adds special tokens to every text.")
    if others := [token["content"] for token in file["added_tokens"] if not token["special"]]:
        raise UserError(f"it has the added token {others[0]!r}, which is not special.")
    special = {token["content"]: token["id"] for token in file["added_tokens"]}
    ids = special | {token: i for token, i in model["vocab"].items() if token not in special}
    names = sorted((token for token in ids if token not in special), key=ids.__getitem__)
    merges = [
        tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in model["merges"]
    ]
    expected = [*(_CHARACTER[byte] for byte in BYTE_ORDER), *(a + b for a, b in merges)]
    if sorted(ids.values()) != list(range(len(ids))) or names != expected:
        raise UserError("its ids are not those of the 256 bytes and then of the merges, in order.")
    return [(ids[a], ids[b]) for a, b in merges], _split_pattern(file["pre_tokenizer"]), special


def _split_pattern(pre_tokenizer: dict[str, Any] | None) -> str:
    steps = (pre_tokenizer or {}).get("pretokenizers") or [pre_tokenizer or {}]
    byte_level = steps[-1]
    if byte_level.get("type") == "ByteLevel" and not byte_level["add_prefix_space"]:
        if len(steps) == 1 and byte_level.get("use_regex", True):
            return GPT2
        split = steps[0]
        plain = split["type"] == "Split" and split["behavior"] == "Isolated" and not split["invert"]
        if len(steps) == 2 and plain and not byte_level.get("use_regex", True):
            return split["pattern"]["Regex"]
    raise UserError(
        f"it cuts text in another way than one pattern and then bytes: {json.dumps(pre_tokenizer)}."
    )
