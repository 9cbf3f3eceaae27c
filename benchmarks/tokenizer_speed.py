"""Tokenizers: time and memory of training, and speed of encoding, beside the industrial ones.

    python benchmarks/tokenizer_speed.py                      # the French leads corpus
    python benchmarks/tokenizer_speed.py --generated-mb 50    # 50 MB made from its words
    python benchmarks/tokenizer_speed.py --file my.jsonl.gz   # your own text

Each contender runs in a process of its own, and they take turns. All read the same texts from a
file (`tokenizers, files`: the same as plain text, its leanest mode) and cut them by the same
pattern. `memory` is the peak above what was there after the imports, with all that child processes
take; CPU seconds count children and threads too. Machines are noisy: what counts are the ratios,
medians over rounds; `CPU` is how many cores a contender got.

It checks that our merges are those of `tokenizers`, in order, and that the encoders give the same
ids. The naive trainer is timed on its first merges; they all cost about the same.
"""

import argparse
import gzip
import hashlib
import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import psutil

TRAINERS = (
    "ours", "ours, one process", "tokenizers, files", "tokenizers, iterator", "sentencepiece bpe",
    "sentencepiece unigram", "rustbpe", "naive",
)  # fmt: skip
ENCODERS = (
    "ours", "ours, bulk", "tokenizers", "tiktoken", "sentencepiece bpe", "sentencepiece unigram",
    "rustbpe",
)  # fmt: skip
NAIVE_MERGES = 4
NAIVE_MEGABYTES = 10


def stored(folder: Path) -> Iterator[str]:
    with (folder / "texts.jsonl").open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def hashed(values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


# What a contender does: these run in the process that is measured.


def trainer(name: str, folder: Path, vocab_size: int, pattern: str) -> Callable[[], object]:
    """Imports what is needed; returns the work, whose result is the trained thing."""
    from wikigpt.tokenizers.patterns import named

    if name.startswith("ours"):
        from wikigpt.tokenizers import BPETokenizer

        processes = 1 if "one" in name else None
        return lambda: BPETokenizer.train(stored(folder), vocab_size, pattern, processes=processes)
    if name.startswith("tokenizers"):
        from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(named(pattern)), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ])  # fmt: skip
        settings = trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=["<|endoftext|>"], show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )  # fmt: skip

        def work() -> object:
            if name.endswith("files"):
                tokenizer.train([str(folder / "texts.txt")], settings)
            else:
                tokenizer.train_from_iterator(grouped(stored(folder)), settings)
            return tokenizer

        return work
    if name.startswith("sentencepiece"):
        from wikigpt.tokenizers import SentencePieceTokenizer

        kind = name.split()[1]
        return lambda: SentencePieceTokenizer.train(stored(folder), vocab_size, kind)
    if name == "rustbpe":
        import rustbpe

        tokenizer = rustbpe.Tokenizer()

        def work() -> object:
            # It has no special token: one merge more would be found.
            tokenizer.train_from_iterator(stored(folder), vocab_size - 1, pattern=named(pattern))
            return tokenizer

        return work
    from wikigpt.tokenizers import NaiveBPETokenizer

    size = 257 + min(vocab_size - 257, NAIVE_MERGES)
    return lambda: NaiveBPETokenizer.train(stored(folder), size, named(pattern))


def grouped(texts: Iterable[str], characters: int = 1_000_000) -> Iterator[list[str]]:
    """`tokenizers` is at its best with many texts at a time."""
    group, size = [], 0
    for text in texts:
        group.append(text)
        size += len(text)
        if size > characters:
            yield group
            group, size = [], 0
    yield group


def merges_of(trained: object) -> list | None:
    """As ids, if it is one of the two that must be equal."""
    if hasattr(trained, "merges") and hasattr(trained, "special_tokens"):
        return [list(pair) for pair in trained.merges]
    if hasattr(trained, "to_str"):
        model = json.loads(trained.to_str())["model"]
        return [[model["vocab"][left], model["vocab"][right]] for left, right in model["merges"]]
    return None


def encoder(name: str, folder: Path, vocab_size: int, pattern: str) -> Callable[[str], list[int]]:
    from wikigpt.tokenizers import load_tokenizer

    if name.startswith("sentencepiece"):
        return load_tokenizer(folder / name).encode
    if name == "rustbpe":
        return trainer(name, folder, vocab_size, pattern)().encode
    if name == "tokenizers":
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        return lambda text: tokenizer.encode(text).ids
    ours = load_tokenizer(folder / "ours")
    if name == "tiktoken":
        import tiktoken

        ranks = {token: i for i, token in enumerate(ours.tokens) if i}
        return tiktoken.Encoding(
            "ours", pat_str=ours.pattern, mergeable_ranks=ranks, special_tokens={}
        ).encode_ordinary
    return ours.encode if name == "ours" else ours.bulk_encoder()


def measured(task: str, name: str, folder: Path, vocab_size: int, pattern: str) -> dict:
    """One contender, once."""
    if task == "train":
        work = trainer(name, folder, vocab_size, pattern)
    else:
        encode = encoder(name, folder, vocab_size, pattern)
        texts = list(stored(folder))
        encode("Le chat.")
    base = psutil.Process().memory_info().rss
    print("ready", flush=True)
    wall, cpu = time.perf_counter(), sum(os.times()[:4])
    result = work() if task == "train" else [encode(text) for text in texts]
    wall, cpu = time.perf_counter() - wall, sum(os.times()[:4]) - cpu
    about = {"seconds": wall, "cpu": cpu, "base": base}
    if task == "train":
        if name == "naive":
            scale = (vocab_size - 257) / min(vocab_size - 257, NAIVE_MERGES)
            return about | {"seconds": wall * scale, "cpu": cpu * scale}
        if merges := merges_of(result):
            about["hash"] = hashed(merges)
        save(result, name, folder)
        return about
    again = time.process_time()
    for text in texts:
        encode(text)
    again = time.process_time() - again
    ids = sum(map(len, result))
    return about | {"again": again, "tokens": ids, "hash": hashed([list(i) for i in result])}


def save(trained: object, name: str, folder: Path) -> None:
    """For the encoders; the largest vocabulary is trained last."""
    if name == "tokenizers, iterator":
        trained.save(str(folder / "tokenizer.json"))
    elif name == "ours" or name.startswith("sentencepiece"):
        trained.save(folder / name)


# What the parent does: make the texts, start the contenders in turns, compare.


def leads() -> list[str]:
    from wikigpt.config import find_root
    from wikigpt.corpus.download import wikipedia_leads
    from wikigpt.corpus.reading import read_articles

    files = wikipedia_leads("fr", find_root() / "data" / "raw" / "wikipedia-leads")
    return [article.text for article in read_articles(files)]


def generated(megabytes: float) -> Iterator[str]:
    """The words of the leads by their frequency, one in thirty glued from two halves."""
    rng, words, size = random.Random(0), " ".join(leads()).split(" "), 0
    while size < megabytes * 1e6:
        chosen = rng.choices(words, k=rng.randrange(50, 2000))
        for i in range(0, len(chosen), 30):
            other = rng.choice(words)
            chosen[i] = chosen[i][: len(chosen[i]) // 2] + other[len(other) // 2 :]
        text = " ".join(chosen)
        size += len(text.encode())
        yield text


def given(path: Path) -> Iterator[str]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)["text"]


def write_texts(texts: Iterable[str], folder: Path) -> float:
    size = 0
    with (
        (folder / "texts.jsonl").open("w", encoding="utf-8") as lines,
        (folder / "texts.txt").open("w", encoding="utf-8", newline="") as plain,
    ):
        for text in texts:
            lines.write(json.dumps(text, ensure_ascii=False) + "\n")
            plain.write(text + "\n")
            size += len(text.encode())
    return size / 1e6


def run(*arguments: object) -> dict | None:
    """Start a contender; watch the memory of it and its children until it ends."""
    command = [sys.executable, __file__, "--measure", *map(str, arguments)]
    # One core for whoever encodes; trainers may take all.
    threads = {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}
    environment = dict(os.environ) | (threads if arguments[0] == "encode" else {})
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", env=environment
    )
    process.stdout.readline()
    peak, family = 0, psutil.Process(process.pid)
    while process.poll() is None:
        try:
            members = [family, *family.children(recursive=True)]
            peak = max(peak, sum(member.memory_info().rss for member in members))
        except psutil.Error:
            pass  # one of them has just ended
        time.sleep(0.03)
    output, errors = process.communicate()
    if process.returncode:
        print(f"{arguments[1]} failed: {errors.strip().splitlines()[-1]}")
        return None
    result = json.loads(output.splitlines()[-1])
    return result | {"memory": max(0, peak - result["base"])}


def compare(task: str, names: list[str], folder: Path, size: int, options) -> dict[str, list]:
    runs = {name: [] for name in names}
    for _ in range(options.rounds):
        for name in names:
            if result := run(task, name, folder, size, options.pattern):
                runs[name].append(result)
    return {name: results for name, results in runs.items() if results}


def median(runs: list[dict], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def ratio(ours: list[dict], theirs: list[dict], key: str) -> float:
    """Ours / theirs: below 1 we are faster."""
    return statistics.median(a[key] / b[key] for a, b in zip(ours, theirs, strict=False))


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    for name, *cells in (("", *head), *rows):
        print(f"{name:<24}" + "".join(f"{cell:>15}" for cell in cells))


def show_training(runs: dict[str, list], megabytes: float, size: int) -> None:
    print(f"\nTraining, {megabytes:.1f} MB, vocabulary {size:,}")
    head = ("seconds", "CPU seconds", "CPU", "memory", "ours/this", "in CPU", "merges")
    equal = {name: results[0].get("hash") for name, results in runs.items()}
    rows = []
    for name, results in runs.items():
        seconds, cpu = median(results, "seconds"), median(results, "cpu")
        memory = max(run["memory"] for run in results) / 2**20
        ours = runs.get("ours", results)
        same = "" if not equal[name] else "same" if equal[name] == equal.get("ours") else "differ"
        rows.append((
            name, f"{seconds:,.2f}", f"{cpu:,.2f}", f"{cpu / seconds:.0%}", f"{memory:,.0f} MiB",
            f"{ratio(ours, results, 'seconds'):.3g}", f"{ratio(ours, results, 'cpu'):.3g}", same,
        ))  # fmt: skip
    table(head, rows)


def show_encoding(runs: dict[str, list], megabytes: float, size: int) -> None:
    print(f"\nEncoding on one core, {megabytes:.1f} MB, vocabulary {size:,}, by CPU time")
    head = ("M tokens/s", "MB/s", "again, MB/s", "CPU", "speed, ours=1", "ids")
    rows = []
    for name, results in runs.items():
        cpu, again = median(results, "cpu"), median(results, "again")
        share = cpu / median(results, "seconds")
        ours = runs.get("ours", results)
        same = "same" if results[0]["hash"] == ours[0]["hash"] else "others"
        rows.append((
            name, f"{results[0]['tokens'] / cpu / 1e6:.2f}", f"{megabytes / cpu:.1f}",
            f"{megabytes / again:.1f}", f"{share:.0%}",
            f"{ratio(ours, results, 'cpu'):.2f}", same,
        ))  # fmt: skip
    table(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", type=Path, help="JSON lines with a `text`, packed (.gz) or not")
    parser.add_argument("--generated-mb", type=float)
    parser.add_argument("--vocab-sizes", type=int, nargs="+", default=[500, 8192])
    parser.add_argument("--pattern", default="french", help="french, gpt2, gpt4 or an expression")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=[], help="some of the contenders")
    parser.add_argument("--measure", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        task, name, folder, size, pattern = options.measure
        print(json.dumps(measured(task, name, Path(folder), int(size), pattern)))
        return
    left_out = set()
    if not importlib.util.find_spec("rustbpe"):
        left_out.add("rustbpe")
        print("rustbpe is left out: it is not installed.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = given(options.file) if options.file else None
        source = source or (generated(options.generated_mb) if options.generated_mb else leads())
        megabytes = write_texts(source, folder)
        if megabytes > NAIVE_MEGABYTES:
            left_out.add("naive")
            print(f"naive is left out: it would take days for {megabytes:.0f} MB.")
        wanted = set(options.only or TRAINERS + ENCODERS) - left_out
        for size in sorted(options.vocab_sizes):
            names = [name for name in TRAINERS if name in wanted]
            show_training(compare("train", names, folder, size, options), megabytes, size)
        names = [name for name in ENCODERS if name in wanted]
        show_encoding(compare("encode", names, folder, size, options), megabytes, size)


if __name__ == "__main__":
    main()
