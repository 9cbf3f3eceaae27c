"""A corpus prepared by datatrove is, to the byte, the one that `prepare` makes."""

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from datatrove.utils.stats import PipelineStats

from conftest import tiny_config
from wikigpt.blocks import cluster
from wikigpt.blocks.cluster import WriteParts, prepare_on_cluster, read_cluster
from wikigpt.blocks.prepare import plan, prepare, shards_folder
from wikigpt.cli import main
from wikigpt.config import Config, save_config
from wikigpt.corpus.download import raw_files
from wikigpt.errors import UserError
from wikigpt.processes import usable_cores

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "configs" / "cluster").glob("*.yaml"))


@pytest.fixture
def config(small_corpus: Path, tmp_path: Path) -> Config:
    return in_files(small_corpus, tmp_path, 5)


def in_files(corpus: Path, folder: Path, n: int, **overrides: object) -> Config:
    """A config whose corpus is cut in `n` files."""
    lines = corpus.read_bytes().splitlines(keepends=True)
    files = [folder / f"raw-{i}.jsonl" for i in range(n)]
    for i, path in enumerate(files):
        path.write_bytes(b"".join(lines[i::n]))
    return tiny_config(corpus, folder, files=[str(path) for path in files], **overrides)


def cluster_file(folder: Path, text: str) -> Path:
    path = folder / "cluster.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def made_plainly(config: Config, folder: Path) -> dict[str, bytes]:
    return contents(prepare(tiny_config(folder, folder, files=config.corpus.files)).folder)


def contents(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize("workers", [1, 2])
def test_the_same_shards_as_prepare_to_the_byte(config, tmp_path, workers):
    plain = made_plainly(config, tmp_path / "plain")
    file = cluster_file(tmp_path, f"executor: local\ntasks: 2\nworkers: {workers}")
    assert prepare_on_cluster(config, file)
    said = []
    data = prepare(config, said.append)
    assert not said  # found, not made
    assert contents(data.folder) == plain
    # datatrove's own statistics of both tasks, against the manifest.
    logs = config.data_path / "logs" / data.folder.name / "parts"
    assert len(list((logs / "completions").iterdir())) == 2
    for split, counts in data.manifest["splits"].items():
        for what in ("documents", "tokens", "bytes"):
            assert total(logs, f"{split}_{what}") == counts[what]
    # Once more: nothing is launched.
    before = {path: path.stat().st_mtime_ns for path in logs.rglob("*")}
    assert prepare_on_cluster(config, file)
    assert before == {path: path.stat().st_mtime_ns for path in logs.rglob("*")}


def total(logs: Path, what: str) -> float:
    """The sum over the tasks that ran last."""
    (step,) = json.loads((logs / "stats.json").read_text(encoding="utf-8"))
    return step["stats"][what]["total"]


def test_marks_of_work_that_was_deleted_or_divided_otherwise_are_not_believed(config, tmp_path):
    prepare_on_cluster(config, cluster_file(tmp_path, "{executor: local, tasks: 2, workers: 1}"))
    first = prepare(config)
    files = contents(first.folder)
    shutil.rmtree(first.folder)
    prepare_on_cluster(config, cluster_file(tmp_path, "{executor: local, tasks: 3, workers: 1}"))
    assert contents(first.folder) == files
    logs = config.data_path / "logs" / first.folder.name / "parts"
    assert total(logs, "records") == first.manifest["records"]  # all tasks ran


def test_killed_in_the_middle_it_goes_on_and_ends_with_the_same_bytes(
    leads, small_corpus, tmp_path
):
    few = in_files(small_corpus, tmp_path, 4).corpus.files
    # The last file is as long as it takes to be killed in it.
    long = tmp_path / "long.jsonl"
    long.write_bytes(b"".join(leads.read_bytes().splitlines(keepends=True)[:4000]))
    config = tiny_config(leads, tmp_path, files=[*few, str(long)])
    save_config(config, tmp_path / "config.yaml")
    file = cluster_file(tmp_path, "{executor: local, workers: 1}")
    arguments = ["prepare", str(tmp_path / "config.yaml"), "--cluster", str(file)]
    partial = partial_of(config)
    process = subprocess.Popen(
        [sys.executable, "-m", "wikigpt", *arguments],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    while not (partial / "00003.json").exists() and process.poll() is None:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (partial / "00004.json").exists()
    before = {path: path.stat().st_mtime_ns for path in partial.glob("*.bin")}
    assert len(before) == 8
    assert main(arguments) == 0
    data = prepare(config)
    for path, when in before.items():
        assert (data.folder / path.name).stat().st_mtime_ns == when  # not made again
    assert contents(data.folder) == made_plainly(config, tmp_path / "plain")


def partial_of(config: Config) -> Path:
    folder = shards_folder(config, raw_files(config))
    return folder.with_name(folder.name + ".partial")


def test_what_is_wrong_with_a_file_reaches_the_user(config, tmp_path, capfd):
    sources = raw_files(config)
    jobs = plan(config, sources, shards_folder(config, sources), lambda _: None)
    jobs[3].source.unlink()
    file = cluster_file(tmp_path, "{executor: local, tasks: 5, workers: 2}")
    executor, arguments = read_cluster(file)
    logs = tmp_path / "logs"
    pipeline = executor([WriteParts(jobs)], **arguments, logging_dir=str(logs))
    with pytest.raises(UserError, match=re.escape(jobs[3].source.name)):
        pipeline.run()
    log = (logs / "logs" / "task_00003.log").read_text(encoding="utf-8")
    assert jobs[3].source.name in log
    assert "Traceback" not in log + capfd.readouterr().err


def test_a_file_that_is_bad_from_the_start_is_one_sentence(config, tmp_path, capfd):
    Path(config.corpus.files[2]).write_text("{\n" * 2000, encoding="utf-8")
    save_config(config, tmp_path / "config.yaml")
    file = cluster_file(tmp_path, "{executor: local, workers: 1}")
    assert main(["prepare", str(tmp_path / "config.yaml"), "--cluster", str(file)]) == 2
    error = capfd.readouterr().err
    assert "error: " in error and "raw-2.jsonl, line 1" in error and "Traceback" not in error


SBATCH = """
    # Runs an array job at once, task by task; one that waits for a failed job never starts.
    import os, re, subprocess, sys
    from pathlib import Path
    done = Path(__file__).with_name("jobs")
    script = Path(sys.argv[-1]).read_text(encoding="utf-8")
    given = re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", script, re.M)
    given += re.findall(r"--([a-z]+)=(\\S+)", " ".join(sys.argv[1:-1]))
    options = dict(given)
    jobs = done.read_text().split() if done.exists() else []
    failed = 0
    needs = re.findall(r"afterok:(\\d+)", options.get("dependency", ""))
    if any(jobs[int(job)] != "0" for job in needs):
        failed = "never"
    else:
        first, last = map(int, re.match(r"(\\d+)-(\\d+)", options["array"]).groups())
        for rank in range(first, last + 1):
            task = {"SLURM_ARRAY_TASK_ID": str(rank), "SLURM_NODELIST": "node-1", "RUN_OFFSET": "0"}
            out = options["output"].replace("%A", str(len(jobs))).replace("%a", str(rank))
            with open(out, "w") as log:
                failed += bool(subprocess.run(["bash", sys.argv[-1]], env=os.environ | task,
                                              stdout=log, stderr=log).returncode)
    done.write_text(" ".join([*jobs, str(failed)]))
    print("Submitted batch job", len(jobs))
"""
SRUN = """
    import os, sys
    command = sys.argv[sys.argv.index("launch_pickled_pipeline"):]
    os.execvp(command[0], command)
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Path:
    """`sbatch`, `srun` and `scontrol` that run the jobs here; returns what became of each job."""
    folder = tmp_path / "bin"
    folder.mkdir()
    programs = {"sbatch": SBATCH, "srun": SRUN, "scontrol": "import sys; print(sys.argv[-1])"}
    for name, source in programs.items():
        path = folder / name
        path.write_text(f"#!{sys.executable}\n{textwrap.dedent(source)}", encoding="utf-8")
        path.chmod(0o755)
    here = f"{folder}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}"
    monkeypatch.setenv("PATH", here + os.environ["PATH"])
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    return folder / "jobs"


SLURM = """
executor: slurm
partition: cpu
time: 01:00:00
tasks: 2
env_command: export WIKIGPT_TEST=1
sbatch_args: {account: some-group}
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Slurm runs on Linux")
def test_slurm_gets_the_jobs_and_again_those_that_failed(config, tmp_path, slurm, capfd):
    save_config(config, tmp_path / "config.yaml")
    command = ["prepare", str(tmp_path / "config.yaml")]
    command += ["--cluster", str(cluster_file(tmp_path, SLURM))]
    sources = raw_files(config)
    plan(config, sources, shards_folder(config, sources), lambda _: None)
    # A folder in the way of the second part: its task fails, the other one does not.
    in_the_way = partial_of(config) / "00001.train.bin"
    in_the_way.mkdir()
    assert main(command) == 0
    assert "Slurm has the jobs" in capfd.readouterr().out
    # Parts, their statistics; merge, its statistics.
    assert slurm.read_text().split() == ["1", "never", "never", "never"]
    (logs,) = (config.data_path / "logs").iterdir()
    script = (logs / "parts" / "launch_script.slurm").read_text(encoding="utf-8")
    for line in (
        "#SBATCH --array=0-1", "#SBATCH --partition=cpu", "#SBATCH --account=some-group",
        "#SBATCH --time=01:00:00", "export WIKIGPT_TEST=1",
    ):  # fmt: skip
        assert line in script.splitlines()
    in_the_way.rmdir()
    assert main(command) == 0
    assert slurm.read_text().split()[4:] == ["0", "0", "0", "0"]
    # Only the task that had failed was launched again.
    again = (logs / "parts" / "ranks_to_run.json").read_text(encoding="utf-8")
    assert json.loads(again) == [1]
    said = []
    assert contents(prepare(config, said.append).folder) == made_plainly(config, tmp_path / "plain")
    assert not said
    capfd.readouterr()
    assert main(command) == 0  # nothing is left to be given to Slurm
    assert "tokens dropped: 0" in capfd.readouterr().out
    assert len(slurm.read_text().split()) == 8


@pytest.mark.skipif(sys.platform == "win32", reason="Slurm runs on Linux")
def test_what_slurm_refuses_is_a_sentence_below_its_own_words(config, tmp_path, slurm, capfd):
    sbatch = slurm.with_name("sbatch")
    sbatch.write_text("#!/bin/sh\necho sbatch: invalid partition: cpu >&2; exit 3\n")
    save_config(config, tmp_path / "config.yaml")
    file = cluster_file(tmp_path, SLURM)
    assert main(["prepare", str(tmp_path / "config.yaml"), "--cluster", str(file)]) == 2
    own, ours = capfd.readouterr().err.splitlines()[-2:]
    assert own == "sbatch: invalid partition: cpu"
    assert ours.startswith("error: Slurm refused the job (exit code 3)")


def test_slurm_and_ray_where_they_are_not(config, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no command sbatch here"):
        prepare_on_cluster(config, cluster_file(tmp_path, SLURM))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install 'ray"):
        prepare_on_cluster(config, cluster_file(tmp_path, "executor: ray"))


def test_tasks_that_ray_only_logs_the_failure_of_are_not_taken_for_done(
    config, tmp_path, monkeypatch
):
    class LikeRay(cluster.EXECUTORS["local"]):
        def _run_for_rank(self, rank, local_rank=0, node_rank=-1):
            if rank != 1:
                return super()._run_for_rank(rank, local_rank, node_rank)
            return PipelineStats()

    monkeypatch.setitem(cluster.EXECUTORS, "local", LikeRay)
    with pytest.raises(UserError, match="1 of 5 tasks did not finish: 1; "):
        prepare_on_cluster(config, cluster_file(tmp_path, "{executor: local, workers: 1}"))
    assert (partial_of(config) / "00004.json").exists()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_what_datatrove_takes(path, monkeypatch):
    everything_is_there(monkeypatch)
    executor, arguments = read_cluster(path)
    assert executor is cluster.EXECUTORS[path.stem]
    executor([], tasks=2, **arguments)


def test_locally_there_are_no_more_processes_than_cores(tmp_path):
    _, arguments = read_cluster(cluster_file(tmp_path, "executor: local"))
    assert arguments == {"workers": usable_cores(), "start_method": "spawn"}


def everything_is_there(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("workers: 2", "executor must be one of local, slurm, ray, not None"),
        ("executor: [local]", "executor must be one of"),
        ("{executor: local, workrs: 2}", "takes no 'workrs'; did you mean 'workers'?"),
        ("{executor: local, depends: x}", "takes no 'depends'; it takes tasks, workers, "),
        ("{executor: local, workers: 0}", "workers: input should be greater than 0, not '0'."),
        ("{executor: local, tasks: many}", "tasks: input should be a valid integer"),
        ("{executor: slurm, partition: cpu}", "SlurmPipelineExecutor needs time; add it."),
        ("{executor: ray, partition: cpu}", "RayPipelineExecutor takes no 'partition'"),
        ("- executor", "must hold keys and values"),
        ("{executor: local, executor: ray}", "'executor' is there twice"),
    ],
)
def test_a_mistake_in_the_file_is_a_sentence(tmp_path, monkeypatch, text, says):
    everything_is_there(monkeypatch)
    with pytest.raises(UserError, match=re.escape(says)):
        read_cluster(cluster_file(tmp_path, text))


def test_without_datatrove_it_is_a_sentence_and_nobody_else_needs_it(
    config, tmp_path, monkeypatch, capsys
):
    monkeypatch.delitem(sys.modules, "wikigpt.blocks.cluster")
    monkeypatch.setitem(sys.modules, "datatrove.executor", None)  # as if it were not installed
    save_config(config, tmp_path / "config.yaml")
    command = ["prepare", str(tmp_path / "config.yaml")]
    file = cluster_file(tmp_path, "executor: local")
    assert main([*command, "--cluster", str(file)]) == 2
    assert "pip install -e '.[cluster]'" in capsys.readouterr().err
    assert main(command) == 0
