"""Sources -> raw files on disk. Reading them is the business of `stream`.

wikipedia-leads   leads.py             lead sections, no account needed
kaggle            kaggle.py            structured Wikipedia: whole articles in sections
hub               hub.py               plain-text or structured Wikipedia
files             here                 a user's own
"""

from pathlib import Path

from wikigpt.config import Config, find_root
from wikigpt.corpus import hub, kaggle
from wikigpt.corpus.archive import KINDS, is_corpus_name
from wikigpt.corpus.leads import wikipedia_leads
from wikigpt.corpus.mirror import mirror
from wikigpt.errors import UserError
from wikigpt.files import sha256


def raw_files(config: Config) -> dict[Path, str]:
    """The corpus of an experiment as files on disk, downloaded if need be: path -> sha256.

    Raises:
        UserError: a file is missing or of no known kind; nothing in that language; refused or
            unreachable; each sentence says what to do.
    """
    corpus, folder = config.corpus, config.data_path / "raw" / config.corpus.source
    match corpus.source:
        case "files":
            return local_files(corpus.files)
        case "kaggle":
            return mirror(corpus, kaggle.Kaggle(corpus.dataset or kaggle.DATASET), folder)
        case "hub":
            return mirror(corpus, hub.Hub(corpus.dataset or hub.DATASET), folder)
        case "wikipedia-leads":
            return wikipedia_leads(corpus.language, folder)


def local_files(names: list[str]) -> dict[Path, str]:
    """A user's own files, relative to here or to the repository's root."""
    if not names:
        raise UserError("corpus.source is 'files', but corpus.files is empty; list at least one.")
    found = {}
    for name in names:
        path = Path(name).expanduser()  # a shell leaves the ~ of a list alone
        path = path if path.is_file() else find_root() / path
        if not path.is_file():
            raise UserError(f"There is no file {name}; check corpus.files in the config.")
        if not (is_corpus_name(path.name) or path.suffix == ".zip"):
            raise UserError(
                f"{name} is of no kind that can be read; the name must end in {', '.join(KINDS)}, "
                "optionally followed by .gz, .zst or .zip."
            )
        found[path] = sha256(path)
    return found
