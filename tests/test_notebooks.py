"""Every notebook runs from its first to its last cell, with small settings."""

import json
import re
from pathlib import Path

import papermill
import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
SMALL = {
    "01_download_data": {"n_examples": 1},
    "02_clean_and_stream": {"languages": ["fr", "es"], "stop_after": 50},
    "04_gpt_from_scratch_char": {
        "max_steps": 6, "n_embd": 16, "n_layer": 1, "block_size": 64, "experiment_steps": 4,
        "learning_rates": [1e-3, 1e-2],
    },
}  # fmt: skip


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request) -> Path:
    return request.param


def code_cells(path: Path) -> list[dict]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.xdist_group("kernels")  # side by side, two kernels may be given the same port
def test_it_runs(notebook, tmp_path):
    parameters = SMALL[notebook.stem]
    if any("runs_dir" in "".join(cell["source"]) for cell in code_cells(notebook)):
        parameters = parameters | {"runs_dir": str(tmp_path / "runs")}
    papermill.execute_notebook(
        notebook, tmp_path / "out.ipynb", parameters, cwd=notebook.parent, progress_bar=False
    )
    # What papermill could not inject, it would have ignored; see that it was used.
    executed = "".join("".join(cell["source"]) for cell in code_cells(tmp_path / "out.ipynb"))
    assert all(re.search(rf"^{name} = ", executed, re.M) for name in parameters)


def test_it_is_committed_as_it_ran(notebook):
    cells = code_cells(notebook)
    assert cells[0]["metadata"]["tags"] == ["parameters"]
    counts = [cell["execution_count"] for cell in cells]
    assert counts == list(range(1, len(cells) + 1)), "run `make notebooks`, or undo your changes"
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not any(output["output_type"] == "error" for output in outputs)
    assert any("image/png" in output.get("data", {}) for output in outputs)
    shown = json.dumps(outputs)
    for pattern in (r"/(home|root|work|tmp|Users)/", r"KGAT_\w{8}", r"hf_\w{20}"):
        assert not re.search(pattern, shown), pattern
    assert all(len("".join(cell["source"]).splitlines()) <= 30 for cell in cells)
