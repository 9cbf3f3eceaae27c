"""A run's folder, loaded by transformers alone."""

import base64
import json
import os
import re
from dataclasses import replace

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import huggingface_hub
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline
from transformers.utils import logging as hub_logging

from conftest import tiny_config
from stand_in import StandIn, forget_credentials
from wikigpt.cli import main
from wikigpt.config import load_config
from wikigpt.errors import UserError
from wikigpt.model.generate import generate
from wikigpt.training import events, train
from wikigpt.training.export import export_run, licence_of, model_card
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


@pytest.mark.parametrize("prompt", ['Le mot "chat" est ', "Bonjour.\nUne", "C:\\users"])
def test_the_cards_code_is_python_whatever_the_prompt(runs, prompt):
    model, tokenizer, config = load_run(runs[0])
    config = replace(config, sampling=replace(config.sampling, prompts=[prompt]))
    code = model_card(runs[0], model, tokenizer, config).split("```python\n")[1].split("```")[0]
    assert repr(prompt) in code
    compile(code, "card", "exec")


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


class FakeModelHub(StandIn):
    """Takes what the real client uploads, as one commit."""

    def __init__(self):
        self.files, self.refuse = {}, False
        super().__init__()

    def answer(self, request, handler):
        if self.refuse or "authorization" not in request.headers:
            self.send_json(handler, {"error": "Unauthorized"}, 401)
        elif request.path == "/api/repos/create":
            name = json.loads(request.body)
            self.send_json(handler, {"url": f"{self.url}/you/{name['name']}", "name": "you/x"})
        elif request.path == "/api/validate-yaml":  # of the card
            self.send_json(handler, {"errors": [], "warnings": []})
        elif request.path.endswith("/preupload/main"):
            files = json.loads(request.body)["files"]
            plain = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            self.send_json(handler, {"files": [{"path": f["path"]} | plain for f in files]})
        elif request.path.endswith("/commit/main"):
            for line in map(json.loads, request.body.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    self.files[value["path"]] = base64.b64decode(value["content"])
            url = f"{self.url}/you/x/commit/1"
            self.send_json(handler, {"commitUrl": url, "commitOid": "1", "success": True})
        else:
            self.send_json(handler, {"error": "not here"}, 404)


def test_the_real_client_publishes_it(runs, tmp_path, monkeypatch, capsys):
    forget_credentials(monkeypatch, tmp_path / "home")
    hub = FakeModelHub()
    for name, value in {"ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": True}.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    try:
        assert main(["export", str(runs[0]), "--push", "you/x"]) == 2
        error = capsys.readouterr().err
        assert re.search(r"The hub did not take 'you/x' .*hf auth login", error), error
        assert main(["export", str(runs[0]), "--push", ""]) == 2  # a shell variable that is unset
        assert re.search(r"The hub did not take '' \(Repo id must use", capsys.readouterr().err)
        monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 34)
        assert main(["export", str(runs[0]), "--push", "you/x"]) == 0
        assert "It is on the hub: " in capsys.readouterr().out
    finally:
        hub.close()
    assert sorted(hub.files) == [
        "README.md", "config.json", "generation_config.json", "model.safetensors",
        "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    for name, content in hub.files.items():
        assert content == (runs[0] / name).read_bytes()


@pytest.mark.parametrize(
    ("corpus", "licence"),
    [
        ({"source": "wikipedia-leads"}, "cc-by-sa-4.0"),
        ({"source": "kaggle"}, "cc-by-sa-4.0"),
        ({"source": "hub"}, "cc-by-sa-3.0"),
        ({"source": "hub", "dataset": "wikimedia/structured-wikipedia"}, "cc-by-sa-4.0"),
        ({"source": "files"}, "other"),
    ],
)
def test_the_licence_is_that_of_the_text(corpus, licence):
    """As data/README.md has them."""
    name, sentence = licence_of(load_config(**corpus).corpus)
    assert name == licence and (licence == "other" or licence[-3:] in sentence)


def test_transformers_draws_as_the_run_did(small_corpus, tmp_path):
    """With what it would put in the place of a setting that is left out, such as a top-k of 50."""
    drawn = {"top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.2}
    for how in ({"temperature": 0.7}, {"temperature": 0.8, "top_k": 3}, drawn, {"temperature": 0}):
        config = tiny_config(small_corpus, tmp_path, name="drawn", max_steps=1, **how)
        list(train(config, fresh=True, say=lambda _: None))
        export_run(config.run_path)
        theirs = AutoModelForCausalLM.from_pretrained(config.run_path)
        settings, _ = theirs._prepare_generation_config(None)
        wanted = config.sampling.decoding
        assert settings.do_sample is not config.sampling.is_greedy
        assert settings.repetition_penalty == wanted["repetition_penalty"]
        if settings.do_sample:
            for name in ("temperature", "top_k", "top_p", "min_p"):
                assert getattr(settings, name) == (wanted[name] or 0), name
        card = (config.run_path / "README.md").read_text(encoding="utf-8")
        assert config.sampling.in_words.capitalize() + ", seed 1337, not chosen by hand" in card
