"""Text <-> ids. One class a file, the same five methods: train, encode, decode, save, load."""

from pathlib import Path

from wikigpt.errors import UserError
from wikigpt.files import read_json
from wikigpt.tokenizers.char import CharTokenizer

KINDS = {"char": CharTokenizer}


def load_tokenizer(folder: str | Path) -> CharTokenizer:
    """Load whatever kind of tokenizer was saved in `folder`."""
    path = Path(folder) / "vocabulary.json"
    try:
        kind = read_json(path)["kind"]
        return KINDS[kind].load(folder)
    except FileNotFoundError:
        raise UserError(f"There is no tokenizer in {folder} (no vocabulary.json).") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged; prepare the corpus again.") from None
