"""Where the repository lies, seen from a notebook, a test or a shell."""

from pathlib import Path


def find_root() -> Path:
    """The repository's root seen from here (notebooks run in a sub-folder), else this folder."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "configs").is_dir() and (folder / "pyproject.toml").is_file():
            return folder
    return here


def relative(path: Path) -> str:
    """`path` as a person should read it: relative to the root where it lies below it."""
    root = find_root()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
