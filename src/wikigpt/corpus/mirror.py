"""A folder that holds part of a remote dataset, and a manifest that says which part.

The manifest is written after each file that is whole, so it never speaks of one that is not, and an
interrupted download goes on with the next file, of the same version. What it lists is enough to
choose again: a second call, with the same or fewer files, needs no network.
"""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from wikigpt.config import CorpusConfig, relative
from wikigpt.corpus.choose import evenly, files_of
from wikigpt.errors import UserError
from wikigpt.files import one_at_a_time, read_json, sha256, write_json


@dataclass(frozen=True)
class RemoteFile:
    size: int
    """In bytes, as listed."""
    sha256: str | None = None
    """As listed; None where it is not."""


@dataclass(frozen=True)
class Listing:
    version: str
    license: str
    files: dict[str, RemoteFile]


class Remote(Protocol):
    """A dataset elsewhere."""

    dataset: str

    def listing(self, version: str) -> Listing: ...

    def fetch(self, version: str, name: str, remote: RemoteFile, folder: Path) -> Path: ...


def mirror(
    corpus: CorpusConfig, remote: Remote, folder: Path, say: Callable[[str], None] = print
) -> dict[Path, str]:
    """The chosen files of a remote dataset on disk, fetched if need be: path -> sha256.

    Args:
        folder: where the datasets of this source are kept; each gets a folder of its own.

    Raises:
        UserError: nothing in that language, no room, a file changed since its download, and
            whatever keeps `remote` from its work.
    """
    place = remote.dataset.replace("/", "--")
    folder = folder / place / (corpus.version or "latest") / corpus.language.lower()
    path = folder / "manifest.json"
    with one_at_a_time(folder):
        manifest = read_json(path) if path.is_file() else _new_manifest(corpus, remote)
        wanted = evenly(list(manifest["available"]), corpus.max_files)
        missing = [name for name in wanted if not _is_here(manifest, name, folder)]
        if missing:
            _check_room(manifest, missing, folder)
            say(
                f"Downloading {len(missing)} of {len(manifest['available'])} files of "
                f"{remote.dataset} (version {manifest['version']}) into {relative(folder)}"
            )
        for name in missing:
            manifest["files"][name] = _fetch(manifest, name, remote, folder)
            write_json(path, manifest)
    for name in wanted:
        if name not in missing:
            _check_unchanged(manifest["files"][name], folder)
    chosen = [manifest["files"][name] for name in wanted]
    return {folder / file["path"]: file["sha256"] for file in chosen}


def _new_manifest(corpus: CorpusConfig, remote: Remote) -> dict[str, Any]:
    listing = remote.listing(corpus.version)
    names = files_of(corpus.language, listing.files, remote.dataset)
    return {
        "source": corpus.source,
        "dataset": remote.dataset,
        "version": listing.version,
        "license": listing.license,
        "language": corpus.language,
        "available": {name: asdict(listing.files[name]) for name in names},
        "files": {},
    }


def _fetch(manifest: dict[str, Any], name: str, remote: Remote, folder: Path) -> dict[str, Any]:
    listed = RemoteFile(**manifest["available"][name])
    file = remote.fetch(manifest["version"], name, listed, folder)
    place = file.relative_to(folder).as_posix()
    return {"path": place, "size": file.stat().st_size, "sha256": sha256(file)}


def _check_unchanged(file: dict[str, Any], folder: Path) -> None:
    path = folder / file["path"]
    if path.stat().st_size != file["size"] or sha256(path) != file["sha256"]:
        raise UserError(
            f"{relative(path)} was changed after its download; delete it to fetch it again."
        )


def _is_here(manifest: dict[str, Any], name: str, folder: Path) -> bool:
    file = manifest["files"].get(name)
    return file is not None and (folder / file["path"]).is_file()


def _check_room(manifest: dict[str, Any], missing: list[str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    need = sum(manifest["available"][name]["size"] for name in missing)
    free = shutil.disk_usage(folder).free
    if need > free:
        raise UserError(
            f"The {len(missing)} files need {need / 1e9:.1f} GB and {relative(folder)} has "
            f"{free / 1e9:.1f} GB free; make room, or take a part with corpus.max_files."
        )
