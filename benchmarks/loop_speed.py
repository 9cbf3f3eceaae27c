"""Tokens per second of `train`, by either engine, beside two plain loops, in turns.

    python benchmarks/loop_speed.py

- `ours`: wikigpt.training.train as it is, with its logging, its checks and its events;
- `ours, at its best`: the same compiled, and in bf16 where that is faster;
- `Trainer`: the same with `engine: trainer`;
- `Trainer, dropout 0.1`: with the dropout that a GPT2Config has if nobody says otherwise;
- `plain, Trainer`: without any of ours, as transformers' example run_clm.py drives it;
- `plain, our model`: the usual short loop (random offsets, AdamW, clip) around our GPT;
- `plain, transformers`: the same loop around its twin, GPT2LMHeadModel or Qwen3ForCausalLM.

Each has a process of its own. In one process they slow each other down: beside our Trainer, which
runs in a thread, ours came to three quarters of its speed on two cores, and used one and a half of
them. Probably that is GNU's OpenMP, whose threads sleep between two products, in place of waiting
awake, once a process has more of them than cores.

Machines are noisy: what counts are the ratios, and each ratio is the median over rounds in which
they took turns. The share of the cores that a process got in its turns is printed. All of it is
done with two sizes of GPT-2 and with the modern shape and batch of configs/five-minutes.yaml, with
characters as tokens and AdamW; about six minutes in all on two quiet cores.
"""

import argparse
import functools
import itertools
import multiprocessing
import statistics
import tempfile
import time
from multiprocessing.connection import Connection

import torch
from datasets import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments, default_data_collator

from wikigpt.blocks.prepare import prepare
from wikigpt.config import Config, load_config, with_vocabulary
from wikigpt.model import GPT
from wikigpt.model.twin import to_transformers
from wikigpt.training import events, train

# The shape of the model, and the steps a turn.
MODELS = {
    "gpt2 0.5 M": ({}, 15),
    "gpt2 10 M": ({"n_layer": 6, "n_head": 6, "n_embd": 384}, 2),
    "modern 1.4 M": (
        {"arch": "modern", "n_layer": 3, "n_head": 3, "n_embd": 192, "micro_batch_size": 16}, 4
    ),
}  # fmt: skip


class Turns:
    """Steps done when they are asked for, n at a time; the asker is told how long they took."""

    def __init__(self, asked: Connection, n: int) -> None:
        self.asked, self.n = asked, n

    def wait(self) -> bool:
        """Stand still until asked; False: it was enough."""
        go_on = self.asked.recv()
        self.left, self.start, self.cpu = self.n, time.perf_counter(), time.process_time()
        return go_on

    def stepped(self) -> bool:
        """To be called after each step; False: it was the last."""
        self.left -= 1
        if self.left:
            return True
        self.asked.send((time.perf_counter() - self.start, time.process_time() - self.cpu))
        return self.wait()


def our_loop(config: Config, turns: Turns) -> None:
    for event in train(config, fresh=True, say=lambda _: None):
        if isinstance(event, events.Step) and not turns.stepped():
            break


def plain_loop(config: Config, turns: Turns, of_transformers: bool) -> None:
    """A loop as tutorials write it."""
    data = prepare(config)
    batch, block = config.training.micro_batch_size, config.model.block_size
    stream = torch.from_numpy(data.train.tokens(0, 10**9))
    model = GPT(with_vocabulary(config.model, data.tokenizer.vocab_size))
    if of_transformers:
        model = to_transformers(model)
        model.config.use_cache = False
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99))
    model.train()
    going_on = True
    while going_on:
        starts = torch.randint(len(stream) - block - 1, (batch,))
        ids_BT = torch.stack([stream[i : i + block] for i in starts])
        targets_BT = torch.stack([stream[i + 1 : i + 1 + block] for i in starts])
        output = model(ids_BT)
        logits = output if torch.is_tensor(output) else output.logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets_BT.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()
        going_on = turns.stepped()


def plain_trainer(config: Config, turns: Turns) -> None:
    """Trainer as run_clm.py drives it, on blocks of the same tokens."""
    data = prepare(config)
    block = config.model.block_size
    ids = data.train.tokens(0, 10**9)
    blocks = ids[: len(ids) // block * block].reshape(-1, block)
    dataset = Dataset.from_dict({"input_ids": blocks, "labels": blocks})
    model = GPT(with_vocabulary(config.model, data.tokenizer.vocab_size))

    class Ask(TrainerCallback):
        def on_step_end(self, args, state, control, **_) -> None:
            control.should_training_stop = not turns.stepped()

    Trainer(
        model=to_transformers(model),
        args=TrainingArguments(
            output_dir=str(config.run_path),
            per_device_train_batch_size=config.training.micro_batch_size,
            max_steps=config.training.max_steps,
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
        ),
        train_dataset=dataset,
        data_collator=default_data_collator,
        callbacks=[Ask()],
    ).train()


LOOPS = {
    "plain, Trainer": plain_trainer,
    "plain, our model": functools.partial(plain_loop, of_transformers=False),
    "plain, transformers": functools.partial(plain_loop, of_transformers=True),
}


def serve(name: str, config: Config, n: int, asked: Connection) -> None:
    """Do n steps each time that it is asked to; tell the seconds, and those of the CPU."""
    turns = Turns(asked, n)
    if turns.wait():
        LOOPS.get(name, our_loop)(config, turns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    for name in options.models:
        print(name)
        compare(*MODELS[name], options.rounds)


def compare(shape: dict, steps_a_turn: int, rounds: int) -> None:
    variants = {
        "ours": {},
        "ours, at its best": {"precision": "auto", "compile": True},
        "Trainer": {"engine": "trainer"},
        "Trainer, dropout 0.1": {"engine": "trainer", "dropout": 0.1},
        "plain, Trainer": {},
        "plain, our model": {},
        "plain, transformers": {},
    }
    if shape.get("arch") == "modern":
        del variants["Trainer, dropout 0.1"]  # Qwen3 has none
    with tempfile.TemporaryDirectory() as runs:
        settings = {"precision": "fp32", "compile": False, "runs_dir": runs, "device": "cpu",
                    "eval_interval": 10**9, "max_steps": 10**9}  # fmt: skip
        speeds, busy = take_turns(
            {
                name: load_config(
                    "configs/char-gpt.yaml", name=f"run-{n}", **(settings | shape | variant)
                )
                for n, (name, variant) in enumerate(variants.items())
            },
            steps_a_turn,
            rounds,
        )
    print(
        f"fp32, but for our best where bf16 is faster; {torch.get_num_threads()} threads, "
        f"{steps_a_turn} steps a turn; they got {busy:.0%} of the cores"
    )
    for name, values in speeds.items():
        ratios = [a / b for a, b in zip(speeds["ours, at its best"], values, strict=True)]
        print(
            f"{name:<20} {statistics.median(values):>9,.0f} tokens/s   our best / this: "
            f"{statistics.median(ratios):.2f}  ({min(ratios):.2f} to {max(ratios):.2f})"
        )


def take_turns(
    configs: dict[str, Config], n: int, rounds: int
) -> tuple[dict[str, list[float]], float]:
    """Tokens per second of each in each round, and the share of the cores that they got."""
    context = multiprocessing.get_context("spawn")
    ends, processes = {}, []
    for name, config in configs.items():
        prepare(config, say=lambda _: None)
        ends[name], its = context.Pipe()
        processes.append(context.Process(target=serve, args=(name, config, n, its), daemon=True))
        processes[-1].start()
        its.close()  # or one that fails would be waited for
    speeds, shares = {name: [] for name in ends}, []
    for turn, (name, end) in itertools.product(range(rounds + 2), ends.items()):
        end.send(True)
        seconds, cpu = end.recv()
        if turn > 1:  # the first two rounds warm up, and compile
            training = configs[name].training
            tokens = n * training.micro_batch_size * configs[name].model.block_size
            speeds[name].append(tokens / seconds)
            shares.append(cpu / seconds / torch.get_num_threads())
    for end, process in zip(ends.values(), processes, strict=True):
        end.send(False)
        process.join()
    return speeds, statistics.mean(shares)


if __name__ == "__main__":
    main()
