"""Every notebook runs from its first to its last cell, with small settings."""

import importlib
import io
import json
import re
import shutil
import time
from pathlib import Path

import nbformat
import papermill
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient

from conftest import ROOT, has_compiler, tiny_config
from fake_hub import FakeHub
from fake_kaggle import FakeKaggle
from stand_in import forget_credentials
from wikigpt.config import load_config, save_config
from wikigpt.files import read_json
from wikigpt.training import checkpoint
from wikigpt.training.logging import read_metrics

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMALL = {
    "01_download_data": {"n_examples": 1},
    "02_clean_and_stream": {"languages": ["fr", "es"], "stop_after": 50},
    "03_tokenizers": {"vocab_size": 500, "every": 20},
    "04_gpt_from_scratch_char": {
        "max_steps": 6, "n_embd": 16, "n_layer": 1, "block_size": 64, "experiment_steps": 4,
        "learning_rates": [1e-3, 1e-2],
    },
    "05_gpt_from_scratch_bpe": {"max_steps": 6, "vocab_size": 300},
    "06_pretrain_gpt2_hf": {
        "max_steps": 6, "eval_interval": 6, "stop_at": 4, "pair_steps": 4, "mlm_steps": 3,
    },
    "07_what_makes_it_fast": {
        "classic_steps": 1, "our_steps": 4, "n_layer": 1, "n_head": 1, "n_embd": 32,
        "compile_model": has_compiler,
    },
    "08_generate_and_evaluate": {
        "run": "small", "timed_tokens": 8, "pairs_each": 2,
        "samples": 3, "new_tokens": 12, "words": 20,
        "overrides": {
            "max_articles": 400, "max_steps": 6, "n_embd": 24, "n_layer": 1, "block_size": 128,
        },
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


def test_the_ladder_of_notebook_7_is_the_benchmarks(monkeypatch):
    """It draws the board without importing the script, so the two must not drift apart."""
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    ablation = importlib.import_module("ablation")
    names = {}
    for cell in code_cells(ROOT / "notebooks" / "07_what_makes_it_fast.ipynb")[1:3]:
        exec("".join(cell["source"]), names)
    rungs, runs = ablation.rungs(), read_json(ablation.RESULTS / "ablation.json")
    speed = read_json(ablation.RESULTS / "ablation_speed.json")
    assert list(names["ladder"].items()) == list(rungs.items())
    for idea, settings in rungs.items():
        steps = ablation.steps_of(idea, settings, speed)
        assert names["budgets"](idea) == steps
        for budget, n in steps.items():
            its = [r["bits_per_byte"] for r in runs if r["settings"] == settings | {"max_steps": n}]
            assert names["board"].get(idea, {}).get(budget, []) == its


@pytest.mark.xdist_group("kernels")
def test_the_cells_that_need_a_server_run_against_stand_ins(leads, monkeypatch, tmp_path):
    """Notebook 1 with both switches on, through the real clients, into another data folder."""
    shutil.copytree(leads.parent, tmp_path / "data" / "raw" / "wikipedia-leads")
    structured = (ROOT / "tests" / "data" / "structured.jsonl").read_bytes()
    token = "KGAT_" + "notebook-4717"
    kaggle = FakeKaggle(
        {f"frwiki_namespace_0/frwiki_namespace_0_{i}.jsonl": structured for i in range(3)}
        | {"enwiki_namespace_0/enwiki_namespace_0_0.jsonl": structured},
        token=token, needs_account=True,
    )  # fmt: skip
    rows, plain = [{"id": "7", "title": "Pluie", "text": "Il pleut."}], io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), plain)
    names = [f"20231101.fr/train-0000{i}-of-00003.parquet" for i in range(3)]
    hub = FakeHub({"wikimedia/wikipedia": dict.fromkeys(names, plain.getvalue())})
    forget_credentials(monkeypatch, tmp_path / "home")
    for name, value in kaggle.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("KAGGLE_API_TOKEN", token)
    notebook = ROOT / "notebooks" / "01_download_data.ipynb"
    parameters = {"use_kaggle": True, "use_hub": True, "data_dir": str(tmp_path / "data")}
    try:
        papermill.execute_notebook(
            notebook, tmp_path / "out.ipynb", parameters, cwd=notebook.parent, progress_bar=False
        )
    finally:
        kaggle.close()
        hub.close()
    assert token not in (tmp_path / "out.ipynb").read_text(encoding="utf-8")
    outputs = [output for cell in code_cells(tmp_path / "out.ipynb") for output in cell["outputs"]]
    shown = "".join("".join(output.get("text", "")) for output in outputs)
    assert "Kaggle credentials: found in the environment" in shown
    assert re.search(r"MB  frwiki_namespace_0/frwiki_namespace_0_1\.jsonl  <- max_files=1", shown)
    assert re.search(rf"MB  {names[1]}  <- max_files=1", shown)
    assert "enwiki_namespace" not in shown
    assert "Valbrune-sur-Orne (" in shown and "['Pluie']" in shown
    assert len(kaggle.store.requests) == len(hub.ranges()) == 1


@pytest.mark.xdist_group("kernels")
def test_a_cell_that_is_run_again_trains_only_what_is_new(tmp_path):
    """Notebook 4 in a live kernel: the checks twice, then one experiment more."""
    path, runs = ROOT / "notebooks" / "04_gpt_from_scratch_char.ipynb", tmp_path / "runs"
    parameters = SMALL[path.stem] | {"runs_dir": str(runs)}
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    cells[0].source += "".join(f"\n{name} = {value!r}" for name, value in parameters.items())
    (checks,) = (cell for cell in cells if "pupil" in cell.source)
    (compared,) = (cell for cell in cells if "experiments = " in cell.source)
    client = NotebookClient(notebook, resources={"metadata": {"path": str(path.parent)}})

    def printed(cell):
        client.execute_cell(cell, notebook.cells.index(cell))
        return "".join(output.get("text", "") for output in cell.outputs)

    with client.setup_kernel():
        first = {id(cell): printed(cell) for cell in cells}
        assert printed(checks) == first[id(checks)] != ""
        before = {run: (run / "metrics.jsonl").read_bytes() for run in runs.glob("notebook-lr-*")}
        assert len(before) == 2
        line = '# experiments["4-heads"]'
        assert line in compared.source
        compared.source = compared.source.replace(line, line.removeprefix("# "))
        assert re.fullmatch(
            re.escape(first[id(compared)]) + r"4-heads: \d\.\d+ bits/byte\n", printed(compared)
        )
    assert before == {run: (run / "metrics.jsonl").read_bytes() for run in before}
    assert load_config(runs / "notebook-4-heads" / "config.yaml").model.n_head == 4


@pytest.mark.xdist_group("kernels")
def test_the_stop_button_saves(small_corpus, tmp_path):
    """A real kernel, interrupted as Jupyter's stop button does it, while a cell trains."""
    config = tiny_config(small_corpus, tmp_path, max_steps=10**6, eval_interval=10**6)
    save_config(config, tmp_path / "tiny.yaml")
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        message = client.execute(
            "from wikigpt.config import load_config\nfrom wikigpt.training import train\n"
            f"for event in train(load_config({str(tmp_path / 'tiny.yaml')!r})):\n    pass\n"
            "print(event)"
        )
        deadline = time.monotonic() + 60
        while not read_metrics(config.run_path):
            assert time.monotonic() < deadline, "it never began"
            time.sleep(0.05)
        manager.interrupt_kernel()
        printed = ""
        while (output := client.get_iopub_msg(timeout=60))["msg_type"] != "status" or (
            output["content"]["execution_state"] != "idle"
            or output["parent_header"].get("msg_id") != message
        ):
            printed += output["content"].get("text", "")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    step = int(re.search(r"Stopped\(step=(\d+), why='Ctrl-C'\)", printed).group(1))
    last = config.run_path / "checkpoints" / "last"
    assert checkpoint.load_state(last)["progress"]["step"] == step
    assert read_metrics(config.run_path)[-1]["step"] == step
