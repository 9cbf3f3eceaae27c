"""A run's folder, loaded by transformers alone."""

import json
import os

# The real client must find the stand-in, not the hub, and nobody's token.
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline
from transformers.utils import logging as hub_logging

from conftest import tiny_config
from wikigpt.cli import main
from wikigpt.errors import UserError
from wikigpt.model.generate import generate
from wikigpt.training import events, train
from wikigpt.training.export import export_run
from wikigpt.training.run_folder import load_run


@pytest.fixture(scope="module")
def runs(small_corpus, tmp_path_factory):
    """A run by Trainer on BPE, and one by the own loop on characters."""
    folder = tmp_path_factory.mktemp("export")
    hub_logging.disable_progress_bar()
    configs = [
        tiny_config(
            small_corpus, folder, name="by-trainer", engine="trainer", kind="bpe", min_count=None,
            **{"tokenizer.vocab_size": 400},
        ),
        tiny_config(small_corpus, folder, name="by-hand", temperature=0),
    ]  # fmt: skip
    for config in configs:
        list(train(config, say=lambda _: None))
    export_run(configs[1].run_path)
    return [config.run_path for config in configs]


def test_transformers_alone_loads_it_and_writes_the_same(runs):
    for folder in runs:
        ours, tokenizer, _ = load_run(folder)
        theirs = AutoModelForCausalLM.from_pretrained(folder)
        their_tokenizer = AutoTokenizer.from_pretrained(folder)
        prompt = "L’été à Nîmes, « c’est »"
        ids = tokenizer.encode(prompt)[: ours.config.block_size]
        assert their_tokenizer(prompt).input_ids == tokenizer.encode(prompt)
        assert their_tokenizer.model_max_length == ours.config.block_size
        with torch.inference_mode():
            logits = theirs(torch.tensor([ids])).logits
            assert torch.allclose(ours(torch.tensor([ids])), logits, atol=1e-5)
        new = theirs.generate(torch.tensor([ids[:4]]), do_sample=False)[0, 4:].tolist()
        end = tokenizer.end_of_text_id
        expected = list(generate(ours, ids[:4], len(new), temperature=0, stop_id=end))
        assert new[: len(expected)] == expected and new[len(expected) :] in ([], [end])


def test_a_pipeline_stops_by_itself(runs):
    for folder in runs:
        write = pipeline("text-generation", str(folder))
        text = write("La ville")[0]["generated_text"]
        assert text.startswith("La ville")
        settings = write.model.generation_config
        assert settings.eos_token_id == load_run(folder)[1].end_of_text_id
        assert settings.max_length == 32, "the learned positions end there"
        # Once end-of-text is the likeliest token, nothing follows.
        model = write.model
        with torch.no_grad():
            model.transformer.ln_f.weight.zero_()
            model.transformer.ln_f.bias.copy_(
                100 * model.transformer.wte.weight[settings.eos_token_id]
            )
        assert write("La ville", do_sample=False)[0]["generated_text"] == "La ville"


def test_the_weights_are_the_best(runs):
    for folder in runs:
        best = load_run(folder)[0]
        loaded = AutoModelForCausalLM.from_pretrained(folder)
        assert torch.equal(loaded.transformer.wte.weight, best.token_embedding.weight)


def test_the_card_says_what_it_is(runs):
    for folder in runs:
        card = (folder / "README.md").read_text(encoding="utf-8")
        front = yaml.safe_load(card.split("---")[1])
        assert front["language"] == "fr" and front["license"] == "other"
        manifest = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
        assert f"{manifest['splits']['train']['tokens']:,} tokens to train on" in card
        metrics = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        scores = [r["bits_per_byte"] for r in map(json.loads, metrics) if r["kind"] == "evaluation"]
        assert f"| bits per byte | {min(scores):.3f} |" in card
        assert "transformers 5" in card and "**film sorti en 1988**" in card


def test_the_command_makes_it_again(runs, capsys):
    (runs[1] / "model.safetensors").unlink()
    assert main(["export", str(runs[1])]) == 0
    assert "is a model folder now" in capsys.readouterr().out
    assert AutoModelForCausalLM.from_pretrained(runs[1])
    assert not list(runs[1].glob(".*"))


def test_what_can_not_be_exported_is_told(small_corpus, tmp_path, capsys):
    assert main(["export", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err
    config = tiny_config(
        small_corpus, tmp_path, kind="sentencepiece", min_count=None, engine="trainer", max_steps=4,
        **{"tokenizer.vocab_size": 500},
    )  # fmt: skip
    said = []
    stream = list(train(config, say=said.append))
    assert isinstance(stream[-1], events.Finished)
    assert "A unigram model has no exact twin" in said[-1]
    with pytest.raises(UserError, match="A unigram model"):
        export_run(config.run_path)
