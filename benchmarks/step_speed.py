"""What some details of a step on a CPU bring, at the shape of configs/five-minutes.yaml.

    python benchmarks/step_speed.py

- Muon: a step of torch.optim.Muon, whose products always run in bf16, beside ours in fp32 and in
  bf16, and AdamW's, in turns, in one process;
- attention: PyTorch's kernel and plain products in rows (model/attention.py), forward and backward,
  alone and in a pass of the whole model, compiled too; in turns, in one process;
- memory: forward and backward passes with the memory of the last pass kept, as `train` does it on
  a CPU, and without. That can't be taken back within a process, so processes take turns.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import product

try:
    import resource
except ImportError:  # Windows
    resource = None

import torch
import torch.nn.functional as F

from wikigpt.config import load_config, with_vocabulary
from wikigpt.model import GPT, attention
from wikigpt.training.compiling import compile_parts
from wikigpt.training.hardware import detect, keep_freed_memory
from wikigpt.training.muon import Muon
from wikigpt.training.optim import _hidden_matrices

CONFIG = load_config("configs/five-minutes.yaml", device="cpu")


def make_model() -> GPT:
    return GPT(with_vocabulary(CONFIG.model, CONFIG.tokenizer.vocab_size))


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turns(calls: dict[str, Callable], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call in each round, but for two rounds before."""
    seconds = {name: [] for name in calls}
    for turn, (name, call) in product(range(rounds + 2), calls.items()):
        taken = timed(call)
        if turn > 1:  # they make the optimizers' state, and compile
            seconds[name].append(taken)
    return seconds


def optimizers(rounds: int) -> None:
    contenders = {
        "torch.optim.Muon": lambda its: torch.optim.Muon(its, lr=0.02),
        "ours, fp32": Muon,
        "ours, bf16": lambda its: Muon(its, dtype=torch.bfloat16),
        "AdamW": lambda its: torch.optim.AdamW(its, fused=True),
    }
    steps = {}
    for name, make in contenders.items():
        matrices = _hidden_matrices(make_model())
        for matrix in matrices:
            matrix.grad = torch.randn_like(matrix)
        steps[name] = make(matrices).step
    seconds = in_turns(steps, rounds)
    first = seconds["torch.optim.Muon"]
    for name, its in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(first, its, strict=True))
        print(f"{name:<20}{statistics.median(its):>9.4f} s a step{ratio:>8.1f} times as fast")


def attention_alone(rounds: int) -> None:
    ways = {
        "kernel": partial(F.scaled_dot_product_attention, is_causal=True),
        "in rows": attention.attend_in_rows,
    }
    for dtype, length in product((torch.bfloat16, torch.float32), (128, 256, 512, 1024)):
        # As they lie in a model; the same number of tokens each time.
        q, k, v = (
            torch.randn(4096 // length, length, 3, 64, dtype=dtype).transpose(1, 2).requires_grad_()
            for _ in range(3)
        )

        def there_and_back(way: Callable, q=q, k=k, v=v) -> None:
            torch.autograd.grad(way(q, k, v).sum(), (q, k, v))

        calls = {name: partial(there_and_back, way) for name, way in ways.items()}
        print_turns(f"{dtype}, {length} tokens", calls, rounds)


def attention_in_a_pass(rounds: int) -> None:
    model = make_model()
    hardware = detect(CONFIG.training)
    ids_BT = torch.randint(model.config.vocab_size, (16, 256))

    def one(forward: Callable, short: int) -> None:
        attention.SHORT = short
        with hardware.autocast():
            _, loss = forward(ids_BT, ids_BT)
        loss.backward()
        model.zero_grad(set_to_none=True)

    # The compiler keeps code for each value of SHORT.
    for name, forward in (("not compiled", model), ("compiled", compile_parts(model))):
        calls = {"kernel": partial(one, forward, 0), "in rows": partial(one, forward, 512)}
        print_turns(f"a pass in {hardware.precision}, {name}", calls, rounds)


def print_turns(what: str, calls: dict[str, Callable], rounds: int) -> None:
    """The median seconds of each, and the median of the first one's over the second's."""
    seconds = in_turns(calls, rounds)
    ratio = statistics.median(a / b for a, b in zip(*seconds.values(), strict=True))
    figures = ", ".join(f"{name} {statistics.median(s):.4f} s" for name, s in seconds.items())
    print(f"{what:<34}{figures}: {ratio:.2f} times as fast")


def passes(keep: bool, n: int = 6) -> None:
    """Print the seconds of the median pass, and the page faults of one."""
    if keep:
        keep_freed_memory()
    model, hardware = make_model(), detect(CONFIG.training)
    ids_BT = torch.randint(model.config.vocab_size, (16, 256))

    def one() -> None:
        with hardware.autocast():
            _, loss = model(ids_BT, ids_BT)
        loss.backward()
        model.zero_grad(set_to_none=True)

    for _ in range(2):
        one()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    seconds = statistics.median(timed(one) for _ in range(n))
    print(seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // n)


def memory(rounds: int) -> None:
    found: dict[bool, list[tuple[float, int]]] = {False: [], True: []}
    for _ in range(rounds):
        for keep in found:
            command = [sys.executable, __file__, "--passes", str(keep)]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            seconds, faults = out.split()
            found[keep].append((float(seconds), int(faults)))
    ratio = statistics.median(a[0] / b[0] for a, b in zip(*found.values(), strict=True))
    for keep, its in found.items():
        print(
            f"memory {'kept' if keep else 'given back':<13}"
            f"{statistics.median(s for s, _ in its):>9.4f} s a pass, "
            f"{statistics.median(f for _, f in its):,.0f} page faults"
        )
    print(f"kept: {ratio:.2f} times as fast")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--passes", choices=["True", "False"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.passes:
        passes(options.passes == "True")
        return
    print(f"{torch.get_num_threads()} threads")
    keep_freed_memory()  # as `train` does
    optimizers(options.rounds)
    attention_alone(options.rounds)
    attention_in_a_pass(options.rounds)
    if resource:
        memory(options.rounds)


if __name__ == "__main__":
    main()
