"""Where one machine is not enough: the parts of `prepare` as a datatrove pipeline.

Two steps, the second after the first: every task makes the parts of its share of the raw files by
`write_part`, as the workers of `prepare` do; then one task calls `prepare`, which finds all parts
made and merges them. So the shards are the same to the byte, and lie where `pretrain` looks for
them. The executors, their logs, statistics and marks of completed tasks are datatrove's
(Penedo et al., 2024, https://github.com/huggingface/datatrove).

A YAML file names the executor and gives its arguments, which are handed on as they are. Rejected:
fields of our own config (where something runs is no part of an experiment), a scheduler of our own,
and datatrove's tokenizer step, which knows neither our split nor what a bad record is.

Only the command line imports this module, and only when it is asked to, so nobody else needs
datatrove.
"""

import difflib
import importlib.util
import inspect
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import ConfigDict, PositiveInt, ValidationError, create_model

from wikigpt.blocks.parts import PartJob, finished_parts, write_part
from wikigpt.config import Config, read_yaml
from wikigpt.corpus.download import raw_files
from wikigpt.errors import UserError
from wikigpt.files import one_at_a_time
from wikigpt.processes import usable_cores

try:
    from datatrove.executor import (
        LocalPipelineExecutor,
        RayPipelineExecutor,
        SlurmPipelineExecutor,
    )
    from datatrove.executor.base import PipelineExecutor
    from datatrove.pipeline.base import PipelineStep
    from datatrove.utils.logging import logger
except ImportError:
    raise UserError(
        "Preparing a corpus on a cluster takes the library datatrove, which is not installed; "
        "type pip install -e '.[cluster]'."
    ) from None

EXECUTORS = {
    "local": LocalPipelineExecutor,
    "slurm": SlurmPipelineExecutor,
    "ray": RayPipelineExecutor,
}
# What is decided here, and datatrove's ways to run a part of the tasks only.
OURS = {"pipeline", "depends", "depends_job_id", "skip_completed", "local_tasks",
        "local_rank_offset"}  # fmt: skip


def prepare_on_cluster(
    config: Config, cluster: str | Path, say: Callable[[str], None] = print
) -> bool:
    """What `prepare` does, with the parts made by the executor that a YAML file names.

    Here and now: download, find duplicates, train the tokenizer. Then one task a raw file, or as
    many as the YAML file says, and a last one to merge. Whatever was made before is kept.

    Returns:
        Whether the shards are there; if not, Slurm has the jobs and works on.

    Raises:
        UserError: as `prepare` and `read_cluster`; or tasks failed.
    """
    # Here, for it imports torch, which the tasks that write parts can do without.
    from wikigpt.blocks.prepare import plan, shards_folder

    executor, arguments = read_cluster(cluster)
    sources = raw_files(config)
    folder = shards_folder(config, sources)
    if (folder / "manifest.json").is_file():
        return True
    logs = f"{arguments.pop('logging_dir', config.data_path / 'logs')}/{folder.name}"
    with one_at_a_time(folder):
        jobs = plan(config, sources, folder, say)
        for_parts = {"tasks": len(jobs)} | arguments
        parts = executor([WriteParts(jobs)], logging_dir=f"{logs}/parts", **for_parts)
        made = finished_parts(jobs)
        todo = {rank % parts.tasks for rank, job in enumerate(jobs) if job.number not in made}
        _unmark(parts, todo)
        _run(parts)
    for_merge = arguments | {"tasks": 1, "workers": 1}
    merge = executor([Merge(config)], logging_dir=f"{logs}/merge", depends=parts, **for_merge)
    _unmark(merge, [0])
    _run(merge)
    if executor is SlurmPipelineExecutor:
        say(
            f"Slurm has the jobs; each task's log is in {logs}. Wait until squeue shows them no "
            "more; the same command without --cluster then shows the shards, or says what is wrong."
        )
    return executor is not SlurmPipelineExecutor


def _unmark(executor: PipelineExecutor, ranks: Iterable[int]) -> None:
    """datatrove believes its marks, even where the work was deleted or was divided otherwise."""
    for rank in ranks:
        if executor.logging_dir.isfile(mark := f"completions/{rank:05d}"):
            executor.logging_dir.rm(mark)


def _run(executor: PipelineExecutor) -> None:
    try:
        executor.run()
    except subprocess.CalledProcessError as error:
        raise UserError(
            f"Slurm refused the job (exit code {error.returncode}); its own words are above."
        ) from None
    # Ray's failures end in its log only; Slurm has not begun yet.
    if isinstance(executor, SlurmPipelineExecutor):
        return
    if left := executor.get_incomplete_ranks():
        raise UserError(
            f"{len(left)} of {executor.tasks} tasks did not finish: {', '.join(map(str, left))}; "
            f"their logs in {executor.logging_dir.path}/logs say why. The same command goes on "
            "from there."
        )


class _Step(PipelineStep):
    type = "wikigpt"

    def __init__(self) -> None:
        super().__init__()
        self.here = Path.cwd()

    def begin(self) -> None:
        # A task begins wherever its executor likes; the paths of a config are relative to here.
        os.chdir(self.here)
        logger.configure(patcher=_without_traceback)


def _without_traceback(record: dict[str, Any]) -> None:
    """A mistake that is the user's to put right is a sentence in datatrove's logs too."""
    if record["exception"] and isinstance(record["exception"].value, UserError):
        record["exception"] = None


class WriteParts(_Step):
    """Task `rank` of `world_size` writes the parts of every world_size-th raw file."""

    name = "parts"

    def __init__(self, jobs: list[PartJob]) -> None:
        super().__init__()
        self.jobs = jobs

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        self.begin()
        for job in self.jobs[rank::world_size]:
            with self.track_time("file"):
                note = write_part(job)
            self._count("records", note["records"])
            self._count("rejected_records", note["rejected_records"])
            for split, entry in note["splits"].items():
                for what in ("documents", "tokens", "bytes"):
                    self._count(f"{split}_{what}", entry[what])

    def _count(self, what: str, value: int) -> None:
        self.stat_update(what, value=value, unit="file")


class Merge(_Step):
    """One task does what is left of `prepare` when all parts are there."""

    name = "merge"

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        from wikigpt.blocks.prepare import prepare

        self.begin()
        with self.track_time("corpus"):
            prepare(self.config, logger.info)


def read_cluster(path: str | Path) -> tuple[type[PipelineExecutor], dict[str, Any]]:
    """A YAML file -> the executor it names and the arguments for it, checked before anything runs.

    Raises:
        UserError: the executor is unknown or can't run here; an argument is unknown, missing or of
            another type than datatrove says.
    """
    arguments = read_yaml(path)
    kind = arguments.pop("executor", None)
    if (executor := EXECUTORS.get(str(kind))) is None:
        raise UserError(f"{path}: executor must be one of {', '.join(EXECUTORS)}, not {kind!r}.")
    if kind == "ray" and not importlib.util.find_spec("ray"):
        raise UserError(
            f"{path} asks for Ray, which is not installed; type pip install 'ray[default]'."
        )
    if kind == "slurm" and not shutil.which("sbatch"):
        raise UserError(
            f"{path} asks for Slurm, but there is no command sbatch here; run this on a login node "
            "of the cluster."
        )
    types = get_type_hints(executor.__init__)
    types |= {"tasks": PositiveInt, "workers": PositiveInt, "logging_dir": str}
    takes = {}
    for name, parameter in inspect.signature(executor).parameters.items():
        needed = parameter.default is parameter.empty and name != "tasks"
        if name not in OURS:
            kinds = types[name] if parameter.default is not None else types[name] | None
            takes[name] = (kinds, ... if needed else parameter.default)
    rules = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    try:
        model = create_model(executor.__name__, __config__=rules, **takes)
        checked = model.model_validate(arguments)
    except ValidationError as error:
        raise UserError(f"{path}: {_sentence(error, executor, takes)}") from None
    arguments = {name: getattr(checked, name) for name in arguments}
    if kind == "local":
        # Else datatrove starts all tasks at once, in a way that Windows does not have.
        arguments = {"workers": usable_cores(), "start_method": "spawn"} | arguments
    return executor, arguments


def _sentence(error: ValidationError, executor: type, takes: dict[str, Any]) -> str:
    first = error.errors()[0]
    key = first["loc"][0]
    if first["type"] == "missing":
        return f"{executor.__name__} needs {key}; add it."
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(key), takes, n=1)
        advice = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(takes)}."
        return f"{executor.__name__} takes no {key!r}; {advice}"
    return f"{key}: {first['msg'][0].lower()}{first['msg'][1:]}, not {first['input']!r}."
