"""The page that `wikigpt evaluate` writes."""

import base64
import json
import re
import shutil
import sys
from functools import partial
from html.parser import HTMLParser
from statistics import fmean

import pytest

from conftest import ROOT, tiny_config
from wikigpt import report
from wikigpt.blocks.prepare import split_texts
from wikigpt.errors import UserError
from wikigpt.evaluation.any_model import our_model
from wikigpt.evaluation.bits_per_byte import evaluate_texts
from wikigpt.evaluation.syntax import evaluate_pairs, log_probabilities, read_pairs, total
from wikigpt.page import page, plain, quotation, table
from wikigpt.report import write_report
from wikigpt.training import events, train
from wikigpt.training.logging import read_metrics
from wikigpt.training.run_folder import load_run

BPE = {"kind": "bpe", "min_count": None, "tokenizer.vocab_size": 400, "block_size": 64}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A tenth of the pairs, all phenomena among them."""
    lines = (ROOT / report.PAIRS).read_text(encoding="utf-8").splitlines(keepends=True)
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    path.write_text("".join(lines[::10]), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def few(monkeypatch, pairs, tmp_path):
    monkeypatch.setattr(report, "PAIRS", str(pairs))
    monkeypatch.setattr(report, "SAMPLES", 6)
    monkeypatch.setattr(report, "read_references", list)  # those of the repository are of no use


@pytest.fixture(scope="module")
def runs(small_corpus, tmp_path_factory):
    """Runs of both engines on one corpus, by engine."""
    folder = tmp_path_factory.mktemp("report")
    configs = {e: tiny_config(small_corpus, folder, name=e, engine=e, **BPE)
               for e in ("own", "trainer")}  # fmt: skip
    for config in configs.values():
        list(train(config, say=lambda _: None))
    return configs


class Balanced(HTMLParser):
    """Fails where a tag is closed that is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.text = [], []

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read_page(path) -> str:
    """The text of a page, after a look at its tags and pictures."""
    html = path.read_text(encoding="utf-8")
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    assert "http" not in re.sub(r'base64,[^"]*', "", html) and "<script" not in html
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    assert pictures
    for data in pictures:
        assert base64.b64decode(data).startswith(b"\x89PNG")
    return "\n".join(parser.text)


def test_the_figures_are_those_of_evaluation(runs, pairs):
    said = []
    found = write_report(runs["own"].run_path, said.append)
    model, tokenizer, config = load_run(runs["own"].run_path)
    texts = list(split_texts(config, "validation"))
    ours = our_model(model, tokenizer)
    loss, overlapping = (evaluate_texts(ours, texts, stride=stride) for stride in (64, 32))
    assert found.loss.nats == pytest.approx(loss.nats, rel=1e-6)
    evaluations = [r for r in read_metrics(config.run_path) if r["kind"] == "evaluation"]
    best = min(evaluations, key=lambda record: record["bits_per_byte"])
    assert found.loss.bits_per_byte == pytest.approx(best["bits_per_byte"], rel=1e-6)
    results = evaluate_pairs(read_pairs(pairs), partial(log_probabilities, model, tokenizer))
    assert found.syntax == total(results) and found.syntax.n == 256
    assert found.path == config.run_path / "report.html"
    text = read_page(found.path)
    for figure in (
        f"{loss.bits_per_byte:.3f}", f"{overlapping.bits_per_byte:.3f}",
        f"{found.syntax.share:.1%}", f"{model.n_parameters:,} parameters", "byte 8-grams",
        "uniform", "seq-rep-4", "human text", "subject verb number", "temperature 0.7",
        "measured at " + f"{best['bits_per_byte']:.3f} in fp32", "All settings", "12 of 12 steps",
    ):  # fmt: skip
        if figure != "uniform":  # in a picture
            assert figure in text, figure
    for prompt in config.sampling.prompts:
        assert prompt in text
    # A line a part.
    parts = [line.split()[0] for line in said if line.startswith("  ")]
    assert parts == ["run", "bits/byte", "floors", "syntax", "repetition", "samples"]


def test_floors_are_looked_up_the_second_time_and_trainers_runs_do_as_well(runs, monkeypatch):
    first = write_report(runs["own"].run_path, str)
    before = read_page(first.path)

    def never(*_):
        raise AssertionError("computed twice")

    with monkeypatch.context() as patch:
        patch.setattr(report, "floors", never)
        patch.setattr(report.ByteNgram, "fit", never)
        assert read_page(write_report(runs["own"].run_path, str).path) == before
        # The same corpus and tokenizer: the same floors.
        found = write_report(runs["trainer"].run_path, str)
        # Both engines have the same losses.
        assert found.loss.bits_per_byte == pytest.approx(first.loss.bits_per_byte, rel=1e-4)
        assert "engine trainer" in read_page(found.path)
        # Other settings are another key.
        patch.setattr(report, "TRAINING_BYTES", 10_000)
        with pytest.raises(AssertionError, match="computed twice"):
            write_report(runs["own"].run_path, str)
    folder = next((runs["own"].data_path / "shards").glob("*/floors.json"))
    folder.write_text("{", encoding="utf-8")
    assert read_page(write_report(runs["own"].run_path, str).path) == before


def test_samples_and_human_texts_are_equally_long(runs):
    run = report._open(runs["own"].run_path, str)
    training = list(split_texts(runs["own"], "train"))
    (ours, human), _ = report._repetition(run, training)
    assert len(ours.texts) == 6
    assert [len(words) for words in ours.words] == [len(words) for words in human.words]
    validation = list(split_texts(runs["own"], "validation"))
    for text in human.texts:
        assert any(text in article and not article.startswith(text) for article in validation)
    assert fmean(len(words) for words in ours.words) > 0


def test_what_cant_be_judged_is_said(runs, small_corpus, tmp_path, monkeypatch):
    short = tiny_config(small_corpus, tmp_path, name="short")  # 32 characters of context
    for event in train(short, say=lambda _: None):
        if isinstance(event, events.Step) and event.step == 2:
            break
    monkeypatch.setitem(sys.modules, "pyppmd", None)
    said = []
    found = write_report(short.run_path, said.append)
    assert found.syntax is None
    assert any("checkpoint last of step 2" in line for line in said)
    text = read_page(found.path)
    assert "Not judged: « " in text and "the model sees 32" in text and "not judged" in text
    assert "PPMd is left out" in text
    run = report._open(short.run_path, str)
    monkeypatch.setattr(report, "PAIRS", "data/eval/gone.jsonl")
    assert "no data/eval/gone.jsonl" in report._syntax(run, list)[1]
    run.config.corpus.language = "en"
    assert report._syntax(run, list)[1].endswith("the run learnt en.")


def test_runs_that_are_none(runs, small_corpus, tmp_path):
    with pytest.raises(UserError, match="not a run folder"):
        write_report(tmp_path, str)
    copy = tmp_path / "copy"
    shutil.copytree(runs["own"].run_path, copy)
    manifest = (copy / "corpus.json").read_text(encoding="utf-8")
    (copy / "corpus.json").write_text(manifest.replace('"records"', '"were"'), encoding="utf-8")
    with pytest.raises(UserError, match="has changed since"):
        write_report(copy, str)
    (copy / "corpus.json").write_text(manifest, encoding="utf-8")
    vocabulary = (copy / "tokenizer" / "vocabulary.json").read_text(encoding="utf-8")
    swapped = json.loads(vocabulary)
    swapped["pattern"] = r"\s+|\S+"  # as many tokens, and others
    (copy / "tokenizer" / "vocabulary.json").write_text(json.dumps(swapped), encoding="utf-8")
    with pytest.raises(UserError, match="has changed since"):
        write_report(copy, str)
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(UserError, match=r"no checkpoint .*; train first"):
        write_report(copy, str)
    config = (copy / "config.yaml").read_text(encoding="utf-8").replace("causal", "mlm")
    config = config.replace("engine: own", "engine: trainer")
    (copy / "config.yaml").write_text(config, encoding="utf-8")
    with pytest.raises(UserError, match="holds an encoder"):
        write_report(copy, str)


def test_what_a_model_writes_is_no_markup():
    assert plain("a<b>&\x00\x1b\x85\n\u202f") == "a&lt;b&gt;&amp;���\n\u202f"
    html = page("<x>", quotation("</blockquote>", 'f"r', "<i>", "&") + table([["<td>"], ["1"]]))
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    assert {"<x>", "</blockquote>", "<i>", "&", "<td>", "1"} <= set(parser.text)


def test_a_table_without_heading():
    assert "<th>" not in table([["", ""], ["a", "b"]])
    assert table([["h"], ["a"]], "main").startswith('<table class="main">\n<tr><th>h</th></tr>')
