"""The house stands as README draws it."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "wikigpt"
# A module imports from its own room and from the ones before it.
ROOMS = ["errors", "files", "processes", "config", "corpus", "tokenizers", "blocks", "model",
         "evaluation", "training", "plots", "page", "report", "cli", "__main__"]  # fmt: skip
MODULES = sorted(SOURCE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_imports_run_one_way(path):
    if path == SOURCE / "__init__.py":
        return
    here = ROOMS.index(room_of(path))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("wikigpt."):
            assert ROOMS.index(node.module.split(".")[1]) <= here, node.module


def test_no_module_needs_one_that_needs_it():
    """Within a room too, and whether an import stands at the top or in a function.

    What a room's `__init__.py` passes on is not followed.
    """
    needs = {path: set() for path in MODULES}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("wikigpt"):
                place = SOURCE.parent / node.module.replace(".", "/")
                for name in node.names:
                    candidates = (place / f"{name.name}.py", place.with_suffix(".py"))
                    needs[path] |= needs.keys() & {*candidates}
    assert any(needs.values())
    TopologicalSorter(needs).prepare()  # a circle is an error that names it


def test_readme_names_what_is_there():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make ([a-z]+)", readme, re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target
    for link in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (ROOT / link).exists(), link
    picture = readme.split("## The house")[1].split("```")[1]
    for path in MODULES:
        if not path.name.startswith("__"):
            assert path.name in picture, path.name
    for name in re.findall(r"\b\w+\.py\b", picture):
        assert list(SOURCE.rglob(name)), name
