"""Many parts at once, a process a core; a worker that dies takes no part with it."""

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from tqdm import tqdm

from wikigpt.blocks.parts import PartJob, write_part
from wikigpt.errors import UserError
from wikigpt.processes import undisturbed, worker_pool


def write_parts(jobs: Sequence[PartJob], workers: int) -> list[dict[str, Any]]:
    """Make the parts, `workers` at a time; returns their notes in the order of the jobs.

    Raises:
        UserError: a file can't be used; or a worker was killed. Parts that were made stay.
    """
    sizes = [job.source.stat().st_size for job in jobs]
    notes: list[dict[str, Any]] = [{} for _ in jobs]
    workers = min(workers, len(jobs))
    done = _one_by_one(jobs) if workers <= 1 else _in_workers(jobs, workers)
    with (
        contextlib.closing(done),
        tqdm(
            total=sum(sizes), desc="Tokenising", unit="B", unit_scale=True, mininterval=0.5,
            disable=len(jobs) <= 1,
        ) as bar,
    ):  # fmt: skip
        for i, note in done:
            notes[i] = note
            bar.update(sizes[i])
    return notes


def _one_by_one(jobs: Sequence[PartJob]) -> Iterator[tuple[int, dict[str, Any]]]:
    for i, job in enumerate(jobs):
        yield i, write_part(job)


def _in_workers(jobs: Sequence[PartJob], workers: int) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with worker_pool(workers) as pool:
            with undisturbed():
                futures = {pool.submit(write_part, job): i for i, job in enumerate(jobs)}
            for future in as_completed(futures):
                yield futures[future], future.result()
    except BrokenProcessPool:
        raise UserError(
            "A process that was tokenising died, most likely because memory ran out; close other "
            "programs and run the same command again: what is tokenised is kept. (A script of your "
            'own must start its work under `if __name__ == "__main__":`.)'
        ) from None
