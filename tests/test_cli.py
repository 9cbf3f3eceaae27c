"""What a user types and sees: every mistake is one sentence on stderr, without a traceback."""

import re
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from conftest import tiny_config, write_jsonl
from wikigpt.cli import main
from wikigpt.config import load_config, save_config
from wikigpt.errors import UserError
from wikigpt.evaluation.reference import make_reference
from wikigpt.files import write_json
from wikigpt.training import train
from wikigpt.training.logging import read_metrics
from wikigpt.training.run_folder import load_run, read_curve


@pytest.fixture
def yaml(tiny, tmp_path):
    save_config(tiny, tmp_path / "tiny.yaml")
    return str(tmp_path / "tiny.yaml")


def fails(capsys, *arguments: str) -> str:
    assert main(list(arguments)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Traceback" not in error
    assert len(error.strip().splitlines()) == 1
    return error


def test_from_the_corpus_to_a_completion(capsys, yaml, tiny):
    assert main(["download", yaml]) == 0
    assert "small.jsonl" in capsys.readouterr().out
    assert main(["prepare", yaml]) == 0
    assert "tokens dropped: 0" in capsys.readouterr().out
    assert main(["pretrain", yaml]) == 0
    output = capsys.readouterr().out
    for says in (
        "parameters", "expected time", "ln V", "validation", "bits/byte", "nats/char",
        "« La ville de |", "« Une étoile est |", "curves.png", "make tensorboard",
    ):  # fmt: skip
        assert says in output
    assert (tiny.run_path / "curves.png").exists()
    folder = str(tiny.run_path)
    assert main(["generate", folder, "Le ", "--seed", "1", "--max-new-tokens", "20"]) == 0
    first = capsys.readouterr().out
    assert first.startswith("Le ")
    assert main(["generate", folder, "Le ", "--seed", "1", "--max-new-tokens", "20"]) == 0
    assert capsys.readouterr().out == first
    settings = (
        "--top-k=40", "--top-p", "0.95", "--min-p", "0.01", "--repetition-penalty", "1.1",
        "--no-repeat-ngram", "8", "--temperature=1.5", "--max-new-tokens", "20",
    )  # fmt: skip
    assert main(["generate", folder, "Le ", "--seed", "1", *settings]) == 0
    changed = capsys.readouterr().out
    assert changed != first
    # Several completions are those of the seeds that follow.
    assert main(["generate", folder, "Le ", "--seed", "2", *settings]) == 0
    second = capsys.readouterr().out
    assert main(["generate", folder, "Le ", "--seed", "1", "--num", "2", *settings]) == 0
    assert capsys.readouterr().out == changed + "\n" + second
    for wrong, says in (
        ("--top-p=0", "top_p: input should be greater than 0, not 0.0."),
        ("--min-p=2", "min_p: input should be less than or equal to 1, not 2.0."),
        ("--repetition-penalty=0.5", "greater than or equal to 1, not 0.5."),
        ("--no-repeat-ngram=-1", "no_repeat_ngram_size: input should be greater"),
        ("--temperature=nan", "finite number, not nan."),
        ("--num=0", "--num is 0"), ("--seed=-1", "The seed is -1"),
        ("--max-new-tokens=0", "max_new_tokens is 0"),
    ):  # fmt: skip
        assert says in fails(capsys, "generate", folder, "Le ", wrong)
    assert "top_k can't change" in fails(
        capsys, "generate", folder, "Le ", "--temperature=0", "--top-k=2"
    )
    # Once more: nothing to train, and the result is shown again.
    assert main(["pretrain", yaml]) == 0
    assert "Trained 12 steps" in capsys.readouterr().out


def test_a_wrong_key_a_missing_config_and_a_missing_corpus(capsys, yaml):
    assert "did you mean 'training.max_steps'" in fails(capsys, "pretrain", yaml, "max_step=3")
    assert "no config file" in fails(capsys, "pretrain", "configs/nothing.yaml")
    assert "no file gone.jsonl" in fails(capsys, "pretrain", yaml, "files=[gone.jsonl]")
    assert "language 'xx'" in fails(
        capsys, "prepare", yaml, "source=wikipedia-leads", "files=[]", "language=xx"
    )


def test_a_run_is_judged_and_compared(capsys, yaml, tiny, small_corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # which has no references, and no pairs
    assert main(["pretrain", yaml]) == 0
    folder = str(tiny.run_path)
    capsys.readouterr()
    assert main(["evaluate", folder]) == 0
    shown = capsys.readouterr().out
    for says in ("floors ", "repetition ", "bits/byte   no pairs judged", "samples loop",
                 "Report:       runs/tiny/report.html"):  # fmt: skip
        assert says in shown
    assert (tiny.run_path / "report.html").is_file()
    assert "no reference curve in configs/reference" in fails(capsys, "compare", folder)
    runs = []
    for seed in (1, 2):
        config = tiny_config(small_corpus, tmp_path, name=f"seed-{seed}", seed=seed)
        for _ in train(config, say=lambda _: None):
            pass
        runs.append(read_curve(config.run_path))
    reference = make_reference("tiny.yaml", "one core", "2.13.0", runs)
    write_json(tmp_path / "configs" / "reference" / "tiny.json", asdict(reference))
    assert main(["compare", folder]) == 0
    shown = capsys.readouterr().out
    assert "tiny.yaml: seeds 1, 2, fp32" in shown and "your loss is normal." in shown
    assert [line.split()[0] for line in shown.splitlines() if line.endswith("inside")] == [
        "4", "8", "12",
    ]  # fmt: skip
    (tmp_path / "configs" / "reference" / "tiny.json").write_text("{", encoding="utf-8")
    assert "is no reference curve" in fails(capsys, "compare", folder)
    for command in ("evaluate", "compare"):
        assert "not a run folder" in fails(capsys, command, "runs/nothing")


def test_overrides_may_stand_behind_options(capsys, yaml, tiny):
    assert main(["pretrain", yaml, "--fresh", "max_steps=2", "name=short"]) == 0
    assert "Trained 2 steps" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["pretrain", yaml, "--frech", "max_steps=2"])


def test_a_part_of_the_articles_by_option_or_by_key(capsys, yaml, tmp_path):
    assert main(["prepare", yaml, "--max-articles", "100", "name=a"]) == 0
    shown = capsys.readouterr().out
    counted = [int(n) for n in re.findall(r"(\d+) documents", shown)]
    assert sum(counted) == 100
    assert main(["prepare", yaml, "max_articles=100"]) == 0
    assert capsys.readouterr().out == shown.split("\n", 1)[1]  # the same shards, found again
    assert "max_articles" in fails(capsys, "prepare", yaml, "--max-articles=many")
    assert "corpus.max_files" in fails(capsys, "download", yaml, "--max-files=-1")


def test_an_empty_corpus(capsys, yaml, tmp_path):
    (tmp_path / "empty.jsonl").touch()
    files = f"files=[{tmp_path / 'empty.jsonl'}]"
    assert "The corpus is empty" in fails(capsys, "pretrain", yaml, files)


def test_another_experiment_of_the_same_name(capsys, yaml):
    assert main(["pretrain", yaml]) == 0
    capsys.readouterr()
    assert "seed: 1337 -> 7" in fails(capsys, "pretrain", yaml, "seed=7")


def test_a_run_that_never_saved_gives_way_to_other_settings(yaml, tiny):
    """As after a first step that was too large for the memory, with what its error advises."""
    assert main(["pretrain", yaml]) == 0
    shutil.rmtree(tiny.run_path / "checkpoints")
    halves = ["micro_batch_size=2", "grad_accumulation_steps=2"]
    assert main(["pretrain", yaml, *halves]) == 0
    assert load_config(tiny.run_path / "config.yaml").training.micro_batch_size == 2
    assert len([r for r in read_metrics(tiny.run_path) if r["kind"] == "step"]) == 12


def test_no_run_and_a_run_with_another_tokenizer(capsys, yaml, tiny, small_corpus, tmp_path):
    assert "not a run folder" in fails(capsys, "generate", str(tmp_path), "Le ")
    other = tiny_config(small_corpus, tmp_path, name="other", min_count=40)
    save_config(other, tmp_path / "other.yaml")
    assert main(["pretrain", yaml]) == 0
    assert main(["pretrain", str(tmp_path / "other.yaml")]) == 0
    capsys.readouterr()
    shutil.rmtree(tiny.run_path / "tokenizer")
    shutil.copytree(other.run_path / "tokenizer", tiny.run_path / "tokenizer")
    assert "not from the same run" in fails(capsys, "generate", str(tiny.run_path), "Le ")


def test_a_prompt_with_an_unknown_character(capsys, tiny, small_corpus, tmp_path):
    strict = tiny_config(
        small_corpus, tmp_path, name="strict", unseen="error", min_count=1, prompts=["Le", "ж"]
    )
    save_config(strict, tmp_path / "strict.yaml")
    # Told before a single step is taken. (Which training characters validation lacks is luck.)
    assert "is not in the vocabulary" in fails(capsys, "pretrain", str(tmp_path / "strict.yaml"))
    assert not strict.run_path.exists()
    lossless = tiny_config(small_corpus, tmp_path, name="lossless")
    save_config(lossless, tmp_path / "lossless.yaml")
    assert main(["pretrain", str(tmp_path / "lossless.yaml")]) == 0
    capsys.readouterr()
    assert main(["generate", str(lossless.run_path), "Le ж", "--max-new-tokens", "4"]) == 0
    shown = capsys.readouterr()
    assert "note: 'ж' was too rare" in shown.err and shown.out.startswith("Le ж")


def test_a_prompt_that_can_not_be_spelled(capsys, tmp_path):
    records = [{"name": f"A{i}", "abstract": f"A{i}, le chat 0123456789 " * 40} for i in range(60)]
    corpus = write_jsonl(tmp_path / "c.jsonl", records)
    strict = tiny_config(corpus, tmp_path, unseen="error", min_count=1, prompts=["le"], max_steps=1)
    list(train(strict, say=lambda _: None))
    error = fails(capsys, "generate", str(strict.run_path), "ж")  # and no note on bytes beside it
    assert "is not in the vocabulary" in error


def test_nothing_is_printed_before_the_arguments_are_right(capsys, yaml, tiny):
    assert main(["pretrain", yaml, "max_steps=1"]) == 0
    capsys.readouterr()
    for wrong in (["--seed", "-1"], ["--max-new-tokens", "0"]):
        assert main(["generate", str(tiny.run_path), "Le ", *wrong]) == 2
        shown = capsys.readouterr()
        assert shown.out == "" and shown.err.startswith("error: ")
    # What a shell passes on that is no UTF-8; no note beside the error.
    assert "lone surrogate" in fails(capsys, "generate", str(tiny.run_path), "abc\udce9")


def test_a_reader_that_has_seen_enough_is_no_error(yaml, tiny):
    assert main(["pretrain", yaml, "max_steps=1"]) == 0
    command = [sys.executable, "-m", "wikigpt", "generate", str(tiny.run_path), "Le "]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == (b"", 141)


def test_a_file_of_ours_that_is_damaged(capsys, yaml, tiny):
    assert main(["pretrain", yaml, "max_steps=1"]) == 0
    [shards] = Path(tiny.data_dir, "shards").glob("*/manifest.json")
    corpus, metrics = tiny.run_path / "corpus.json", tiny.run_path / "metrics.jsonl"
    for path, commands in (
        (corpus, (["pretrain", yaml, "max_steps=1"], ["compare", str(tiny.run_path)])),
        (shards, (["prepare", yaml], ["pretrain", yaml, "max_steps=1"])),
    ):
        path.write_bytes(path.read_bytes()[:-30])
        for command in commands:
            error = fails(capsys, *command)
            assert f"{path.name} is damaged" in error and "delete the folder" in error
    shutil.rmtree(shards.parent)
    shutil.rmtree(tiny.run_path)
    assert main(["pretrain", yaml, "max_steps=1"]) == 0
    metrics.write_bytes(metrics.read_bytes() + b"\xff\xfe\n")
    assert "holds a line that is no JSON" in fails(capsys, "compare", str(tiny.run_path))


@pytest.mark.parametrize("size", [30_000, 60_000])
def test_a_disk_that_refuses_trainer(capsys, yaml, tiny, size):
    """`best` fits in the larger file, Trainer's state of the optimizer doesn't."""
    resource = pytest.importorskip("resource")
    assert main(["prepare", yaml]) == 0
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        error = fails(capsys, "pretrain", yaml, "engine=trainer", "name=full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "The disk is full" in error and "run the same command" in error
    assert main(["pretrain", yaml, "engine=trainer", "name=full"]) == 0


def test_a_disk_that_refuses(capsys, yaml, tiny):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size, says in ((2_000, "File too large"), (450_000, "could not be saved")):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            # The larger limit lets the shards through, and stops the checkpoint of a wider model.
            error = fails(capsys, "pretrain", yaml, "n_embd=96", "name=wide")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert says in error and "free some space" in error.lower()
    assert main(["pretrain", yaml, "n_embd=96", "name=wide"]) == 0


def test_ctrl_c_before_training_is_quiet(capsys, yaml, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("wikigpt.cli.load_config", interrupted)
    assert main(["pretrain", yaml]) == 130
    assert capsys.readouterr().err.strip() == "Stopped."


def test_a_run_without_a_best_checkpoint_yet_uses_the_last(tiny):
    from wikigpt.training import events

    for event in train(tiny, say=lambda _: None):
        if isinstance(event, events.Step) and event.step == 2:
            break
    model, _, config = load_run(tiny.run_path)
    assert model.config.n_embd == 16 and config == load_config(tiny.run_path / "config.yaml")
    with pytest.raises(UserError, match="not a run folder"):
        load_run(tiny.run_path.parent)
