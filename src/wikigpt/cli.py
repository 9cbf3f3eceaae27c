"""`wikigpt …`: the steps of the notebooks without a notebook."""

import argparse
import os
import sys
from dataclasses import fields
from pathlib import Path

from tqdm import tqdm

from wikigpt.config import (
    Config,
    DecodingConfig,
    decoding_config,
    load_config,
    parse_overrides,
    relative,
)
from wikigpt.errors import UserError
from wikigpt.files import OUT_OF_SPACE


def main(arguments: list[str] | None = None) -> int:
    """Run one command; a UserError ends as one sentence on stderr and exit code 2."""
    # Windows consoles may default to a code page without é.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")
    options = _parse(arguments)
    try:
        return options.run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Who reads us has seen enough, as `head` has; nothing more can be printed, at exit neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # what a shell says of a program that SIGPIPE ended
    except OSError as error:
        # The operating system refused; everything is written aside first, so nothing is half-done.
        name = relative(Path(error.filename)) if error.filename else "a file"
        advice = "free some space" if error.errno in OUT_OF_SPACE else "put that right"
        print(
            f"error: {name} can't be read or written ({error.strerror}); {advice} and run the same "
            "command again.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    # argparse gives up on overrides that stand behind an option.
    if unknown := [
        word for word in rest if word.startswith("-") or not hasattr(options, "overrides")
    ]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if rest:
        options.overrides += rest
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wikigpt", description="Pretrain a GPT from scratch on French Wikipedia."
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    def add(name: str, run, about: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=about, description=about)
        command.set_defaults(run=run)
        return command

    for name, run, about in (
        ("download", _download, "Fetch the corpus of a config."),
        ("prepare", _prepare, "Train the tokenizer and write token shards."),
        ("pretrain", _pretrain, "Train a model, or go on with an interrupted run."),
    ):
        command = add(name, run, about + " Whatever it needs and is not there yet is made first.")
        command.add_argument("config", help="a YAML file, such as configs/char-gpt.yaml")
        command.add_argument("overrides", nargs="*", metavar="key=value", help="fields to change")
        for key in ("max_files", "max_articles"):
            command.add_argument(
                f"--{key.replace('_', '-')}", dest="part", action="append", default=[],
                type=f"{key}={{}}".format, metavar="N", help=f"the same as {key}=N",
            )  # fmt: skip
        if name == "prepare":
            command.add_argument(
                "--cluster", metavar="FILE",
                help="where to tokenise, such as configs/cluster/slurm.yaml; else on this machine",
            )  # fmt: skip
        if name == "pretrain":
            command.add_argument(
                "--fresh", action="store_true", help="throw away an earlier run of the same name"
            )
    command = add("generate", _generate, "Complete a prompt with a trained run.")
    command.add_argument("run_folder", help="such as runs/char-gpt")
    command.add_argument("prompt")
    command.add_argument("--max-new-tokens", type=int, default=300, metavar="N")
    command.add_argument(
        "--num", type=int, default=1, metavar="N", help="write so many completions"
    )
    command.add_argument(
        "--seed", type=int, metavar="S",
        help="makes the completion repeatable; with --num, those of the seeds S, S + 1, …",
    )  # fmt: skip
    for name, kind, value, about in (
        ("temperature", float, "T", "0: the likeliest token; 0.7 if left out"),
        ("top-k", int, "K", "choose among the K likeliest tokens only"),
        ("top-p", float, "P", "choose among the likeliest that together have probability P"),
        ("min-p", float, "P", "choose among those at least P times as likely as the likeliest"),
        ("repetition-penalty", float, "R", "make tokens that are there already less likely"),
        ("no-repeat-ngram", int, "N", "never write the same N tokens in a row twice"),
    ):
        dest = {"no-repeat-ngram": "no_repeat_ngram_size"}.get(name, name.replace("-", "_"))
        command.add_argument(f"--{name}", dest=dest, type=kind, metavar=value, help=about)
    command = add("evaluate", _evaluate, "Judge a trained run: a page with all its figures.")
    command.add_argument("run_folder", help="such as runs/char-gpt")
    command = add(
        "compare", _compare, "Is its loss normal? A run beside the reference curves of its config."
    )
    command.add_argument("run_folder", help="such as runs/char-gpt; it need not be finished")
    command = add("export", _export, "Make a run's folder one that transformers and the hub load.")
    command.add_argument("run_folder", help="such as runs/char-gpt")
    command.add_argument("--push", metavar="you/name", help="publish it on the Hugging Face hub")
    return parser


def _load(options: argparse.Namespace) -> Config:
    return load_config(options.config, **parse_overrides(options.overrides + options.part))


def _download(options: argparse.Namespace) -> int:
    from wikigpt.corpus.download import raw_files

    for path in raw_files(_load(options)):
        print(f"{relative(path)}  {path.stat().st_size / 1e6:.1f} MB")
    return 0


def _prepare(options: argparse.Namespace) -> int:
    from wikigpt.blocks.prepare import prepare
    from wikigpt.blocks.shards import TokenBlocks

    config = _load(options)
    if options.cluster:
        from wikigpt.blocks.cluster import prepare_on_cluster

        if not prepare_on_cluster(config, options.cluster):
            return 0
    data = prepare(config)
    print(f"{relative(data.folder)}: {data.tokenizer.vocab_size} tokens in the vocabulary")
    for name, blocks, c in (
        ("train", data.train, data.train_counts),
        ("validation", data.validation, data.validation.counts),
    ):
        if isinstance(blocks, TokenBlocks):
            padding = len(blocks) * blocks.block_size - c.tokens
            where = (
                f"in {len(blocks):,} blocks of {blocks.block_size}; tokens dropped: 0, "
                f"padding: {padding}"
            )
        else:
            where = "counted and not kept: they are streamed from the raw files"
        print(
            f"  {name:<10} {c.documents:,} documents, {c.bytes:,} bytes, {c.tokens:,} tokens "
            + where
        )
    return 0


def _pretrain(options: argparse.Namespace) -> int:
    config = _load(options)
    # Importing torch takes seconds; a mistake in the config should not have to wait for it.
    from wikigpt.training import events, ranks, train

    if not ranks.is_first():  # of several, the first speaks
        for event in train(config, fresh=options.fresh, say=lambda _: None):
            if isinstance(event, events.Stopped):
                return 130
        return 0
    bar = tqdm(total=config.training.max_steps, unit="step", disable=None, dynamic_ncols=True)
    finished = None
    with bar:
        for event in train(config, fresh=options.fresh, say=bar.write):
            match event:
                case events.Preflight():
                    bar.update(event.done_steps)
                    bar.write(_preflight_table(event))
                    bar.unpause()
                case events.Step():
                    bar.set_postfix_str(
                        f"{event.bits_per_byte:.2f} bits/byte, "
                        f"{event.tokens_per_second:,.0f} tokens/s",
                        refresh=False,
                    )
                    bar.update()
                case events.Evaluation():
                    bar.write(
                        f"step {event.step:>6}  validation {event.bits_per_byte:.3f} bits/byte  "
                        f"{event.nats_per_char:.3f} nats/char{'  best' if event.is_best else ''}"
                    )
                case events.Sample():
                    bar.write(f"             « {event.prompt}|{_one_line(event.text)} »")
                case events.MaskedStep():
                    bar.set_postfix_str(f"{event.loss:.2f} nats/masked token", refresh=False)
                    bar.update(event.step - bar.n)
                case events.MaskedEvaluation():
                    bar.write(
                        f"step {event.step:>6}  validation {event.nats_per_masked_token:.3f} "
                        f"nats/masked token  {event.accuracy:.1%} right"
                    )
                case events.Stopped():
                    bar.write(
                        f"{event.why}: saved at step {event.step}. The same command goes on from "
                        "there."
                    )
                    return 130
                case events.Finished():
                    finished = event
    if config.training.objective == "mlm":
        where = relative(config.run_path)
        print(f"\nTrained {finished.step} steps in {_duration(finished.seconds)}.")
        print(f'Fill masks:   pipeline("fill-mask", "{where}") of transformers')
    else:
        _summary(config, finished)
    return 0


def _preflight_table(p) -> str:
    rows = [
        ("run", p.run + (f" (going on from step {p.done_steps})" if p.done_steps else "")),
        ("device", f"{p.device}, {p.peak_flops / 1e9:,.0f} GFLOP/s measured"),
        ("precision", f"{p.precision} ({p.why_precision})"),
        ("compiled", f"{'yes' if p.compiled else 'no'} ({p.why_compiled})"),
        ("parameters", f"{p.parameters:,}"),
        ("training tokens", f"{p.train_tokens:,} ({p.epochs:.1f} epochs, "
                            f"{p.tokens_per_parameter:.1f} tokens seen per parameter)"),
        ("validation tokens", f"{p.validation_tokens:,}, all of them at every evaluation"),
        ("a step", f"{p.tokens_per_step:,} tokens, {p.seconds_per_step:.3f} s"),
        ("first loss", f"{p.first_loss:.3f} nats/token"
                       + ("" if p.done_steps else
                          f"; a model that knows nothing has ln V = {p.log_vocab_size:.3f}")),
        ("memory", f"{p.memory_bytes / 2**20:,.0f} MiB"),
        ("expected time", f"{_duration(p.expected_seconds)} for "
                          f"{p.max_steps - p.done_steps} steps"),
    ]  # fmt: skip
    return "\n".join(f"  {name:<18} {value}" for name, value in rows)


def _summary(config: Config, finished) -> None:
    """The end of a run: what it reached, what it writes, where to look."""
    import matplotlib

    matplotlib.use("Agg")  # no window, wherever this runs
    from wikigpt.model.generate import complete
    from wikigpt.plots import plot_run
    from wikigpt.training.run_folder import load_run

    folder = config.run_path
    model, tokenizer, _ = load_run(folder)
    best = finished.best
    print(
        f"\nTrained {finished.step} steps in {_duration(finished.seconds)}. Best on the whole "
        f"validation split, at step {best.step}:\n"
        f"  {best.bits_per_byte:.3f} bits/byte   {best.nats_per_char:.3f} nats/char   "
        f"{best.nats_per_token:.3f} nats/token\n"
    )
    for prompt in config.sampling.prompts:
        text = "".join(
            complete(
                model, tokenizer, prompt, config.sampling.max_new_tokens, seed=config.seed,
                **config.sampling.decoding,
            )
        )  # fmt: skip
        print(f"« {prompt}|{_one_line(text)} »\n")
    plot_run(folder, folder / "curves.png")
    print(f"Curves:       {relative(folder / 'curves.png')}")
    print(f"TensorBoard:  make tensorboard   (or: tensorboard --logdir {config.runs_dir})")
    print(f'Write on:     wikigpt generate {relative(folder)} "{config.sampling.prompts[0]}"')


def _generate(options: argparse.Namespace) -> int:
    given = {f.name: getattr(options, f.name) for f in fields(DecodingConfig)}
    settings = {"temperature": 0.7} | {k: v for k, v in given.items() if v is not None}
    decoding_config(**settings)  # a mistake should not have to wait for torch
    if options.num < 1:
        raise UserError(f"--num is {options.num}; it must be 1 or more.")
    from wikigpt.model.generate import complete, complete_batch
    from wikigpt.training.run_folder import load_run

    model, tokenizer, _ = load_run(Path(options.run_folder))
    tokenizer.encode(options.prompt)  # or it is refused
    if strange := tokenizer.unseen_in(options.prompt):
        print(
            f"note: {strange!r} was too rare in training to have a token; it is spelled in bytes.",
            file=sys.stderr,
        )
    prompt, n = options.prompt, options.max_new_tokens
    if options.num > 1:
        seeds = None if options.seed is None else range(options.seed, options.seed + options.num)
        texts = complete_batch(model, tokenizer, [prompt] * options.num, n, seeds=seeds, **settings)
        print("\n\n".join(prompt + text for text in texts))
        return 0
    pieces = complete(model, tokenizer, prompt, n, seed=options.seed, **settings)
    first = next(pieces, "")  # before anything is printed: an argument may be out of range
    print(prompt + first, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    import matplotlib

    matplotlib.use("Agg")  # no window, wherever this runs
    from wikigpt.report import write_report

    report = write_report(options.run_folder)
    pairs = (
        f"{report.syntax.share:.1%} of the minimal pairs" if report.syntax else "no pairs judged"
    )
    print(
        f"\n{report.loss.bits_per_byte:.3f} bits/byte   {pairs}   {report.looping:.1%} of the "
        f"samples loop\nReport:       {relative(report.path)}"
    )
    return 0


def _compare(options: argparse.Namespace) -> int:
    from wikigpt.evaluation.reference import comparison, read_references
    from wikigpt.training.run_folder import read_curve

    curve = read_curve(options.run_folder)
    print(comparison(read_references(), curve))
    return 0


def _export(options: argparse.Namespace) -> int:
    from wikigpt.training.export import export_run, push_to_hub

    folder = relative(export_run(options.run_folder))
    print(f'{folder} is a model folder now: AutoModelForCausalLM.from_pretrained("{folder}")')
    if options.push is not None:
        print(f"It is on the hub: {push_to_hub(options.run_folder, options.push)}")
    return 0


def _one_line(text: str) -> str:
    return " / ".join(text.split("\n"))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
