"""Speed and peak memory of the corpus stream on a generated dump in the layout of the real one.

    python benchmarks/stream_speed.py                    # 50 and 100 MB
    python benchmarks/stream_speed.py --gb 0.25 0.5 1

- `bare`: lines read and parsed, by orjson (`pip install orjson`; without it by msgspec) and by the
  standard library, and nothing done with them;
- `read_articles`, `article_stream`: ours, in order, and shuffled and split too;
- `load_dataset`: `datasets.load_dataset("json", streaming=True)`, its rows given to parse_article.

Each runs in a process of its own, so that its peak memory is its own, and they take turns. Machines
are noisy and hand out the CPU unevenly: what counts are the ratios, which are of CPU seconds,
medians over rounds; `CPU` is the share each got. `memory` is the peak above what was there after
the imports: it must not grow from size to size.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

# fmt: off
WORDS = ["ville", "rivière", "école", "montagne", "siècle", "château", "peintre", "œuvre", "forêt",
         "église", "roi", "guerre", "train", "musée", "langue", "village", "université", "opéra"]
# fmt: on
CONTENDERS = (
    "bare fast",
    "bare json",
    "read_articles",
    "article_stream",
    "article_stream, shuffled",
    "load_dataset",
)  # fmt: skip


def sentence(rng: random.Random) -> str:
    words = rng.choices(WORDS, k=rng.randrange(8, 25))
    return (
        " ".join(["Le", *words])
        + f" en {rng.randrange(1000, 2000)}, l’été"
        + rng.choice([".", ".", " (« là »)."])
    )


def paragraph(rng: random.Random) -> dict:
    value = " ".join(sentence(rng) for _ in range(rng.randrange(1, 6)))
    links = [
        {"url": f"https://fr.wikipedia.org/wiki/{word}", "text": word}
        for word in rng.choices(WORDS, k=rng.randrange(0, 12))
    ]
    return {"type": "paragraph", "value": value} | ({"links": links} if links else {})


def section(rng: random.Random, depth: int = 0) -> dict:
    parts = [paragraph(rng) for _ in range(rng.randrange(0, 4))]
    if depth < 3 and rng.random() < 0.4:
        parts += [section(rng, depth + 1) for _ in range(rng.randrange(1, 3))]
    if rng.random() < 0.2:
        items = [{"type": "list_item", "value": sentence(rng)} for _ in range(5)]
        parts.append({"type": "list", "has_parts": items})
    name = rng.choice(WORDS).title()
    return {"type": "section", "name": name} | ({"has_parts": parts} if parts else {})


def record(rng: random.Random, number: int) -> dict:
    lead = paragraph(rng)
    return {
        "name": f"Article {number}", "identifier": number,
        "url": f"https://fr.wikipedia.org/wiki/Article_{number}",
        "date_modified": "2024-09-12T08:41:07Z",
        "version": {"identifier": number, "editor": {"identifier": 4242, "name": "Exemple"},
                    "scores": {"revertrisk": {"probability": {"false": 0.97, "true": 0.03}}}},
        "is_part_of": {"identifier": "frwiki", "url": "https://fr.wikipedia.org"},
        "in_language": {"identifier": "fr"},
        "description": f"article numéro {number}", "abstract": lead["value"],
        "sections": [
            {"type": "section", "name": "Abstract", "has_parts": [lead]},
            *(section(rng) for _ in range(rng.randrange(1, 8))),
            {"type": "section", "name": "Notes et références", "has_parts": [paragraph(rng)]},
        ],
    }  # fmt: skip


def write_dump(path: Path, size: float) -> None:
    rng, written, number = random.Random(0), 0, 0
    # A few thousand different records, over and over under new numbers: the texts repeat, but
    # nothing that is measured here looks for that.
    pool = [record(rng, i) for i in range(2000)]
    with path.open("wb") as file:
        while written < size:
            value = pool[number % len(pool)] | {"identifier": number}
            written += file.write(json.dumps(value, ensure_ascii=False).encode() + b"\n")
            number += 1


def fast_loads():
    try:
        import orjson

        return orjson.loads
    except ImportError:
        import msgspec

        return msgspec.json.Decoder().decode


def rows(contender: str, path: Path) -> Iterator[object]:
    if contender.startswith("bare"):
        loads = fast_loads() if contender == "bare fast" else json.loads
        with path.open("rb") as file:
            yield from map(loads, file)
    elif contender == "read_articles":
        from wikigpt.corpus.reading import read_articles

        yield from read_articles([path])
    elif contender.startswith("article_stream"):
        from wikigpt.corpus.stream import Order, Source, article_stream

        shuffled = Order(seed=1, split="train")
        order = shuffled if contender.endswith("shuffled") else Order()
        yield from article_stream([Source("dump", [path])], order)
    else:
        import datasets

        from wikigpt.corpus.articles import parse_article

        files = {"train": str(path)}
        for row in datasets.load_dataset("json", data_files=files, streaming=True)["train"]:
            yield parse_article(row)


def measure(contender: str, path: Path) -> dict[str, float]:
    import datasets  # noqa: F401 (imported by all, so that memory compares)

    import wikigpt.corpus.stream  # noqa: F401

    # What a library sets up at its first use is not what is compared.
    small = path.with_name("first.jsonl")
    for _ in rows(contender, small):
        pass
    process = psutil.Process()
    base = peak = process.memory_info().rss
    wall, cpu, n = time.perf_counter(), time.process_time(), 0
    for _ in rows(contender, path):
        n += 1
        if n % 50 == 0:
            peak = max(peak, process.memory_info().rss)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"rows": n, "seconds": wall, "cpu": cpu / wall, "memory": peak - base}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gb", type=float, nargs="+", default=[0.05, 0.1])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure[0], Path(options.measure[1]))))
        return
    for gigabytes in options.gb:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "frwiki_namespace_0_0.jsonl"
            write_dump(path, gigabytes * 1e9)
            write_dump(path.with_name("first.jsonl"), 1e5)
            compare(path, options.rounds)


def compare(path: Path, rounds: int) -> None:
    results: dict[str, list[dict]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name in CONTENDERS:
            command = [sys.executable, __file__, "--measure", name, str(path)]
            process = subprocess.run(command, capture_output=True, encoding="utf-8")
            if process.returncode:
                print(f"{name} failed: {process.stderr.strip().splitlines()[-1]}")
                continue
            results[name].append(json.loads(process.stdout.splitlines()[-1]))
    megabytes = path.stat().st_size / 1e6
    print(f"\n{megabytes:,.0f} MB, median of {rounds} rounds")
    head = ("records/s", "MB/s", "of bare fast", "of load_dataset", "CPU", "memory")
    print(f"{'':<26}" + "".join(f"{title:>16}" for title in head))
    for name, runs in results.items():
        if not runs:
            continue
        seconds = statistics.median(run["seconds"] for run in runs)
        ratios = [
            statistics.median(
                other["seconds"] * other["cpu"] / (run["seconds"] * run["cpu"])
                for run, other in zip(runs, results[against], strict=False)
            )
            if results[against]
            else float("nan")
            for against in ("bare fast", "load_dataset")
        ]
        cells = (
            f"{runs[0]['rows'] / seconds:,.0f}", f"{megabytes / seconds:,.0f}",
            f"{ratios[0]:.0%}", f"{ratios[1]:.1f}x",
            f"{statistics.median(run['cpu'] for run in runs):.0%}",
            f"{max(run['memory'] for run in runs) / 2**20:,.0f} MiB",
        )  # fmt: skip
        print(f"{name:<26}" + "".join(f"{cell:>16}" for cell in cells))


if __name__ == "__main__":
    main()
