"""What must hold of data/eval/french_minimal_pairs.jsonl, whatever its sentences say."""

import importlib
import json
import re
from collections import Counter, defaultdict
from functools import partial
from itertools import takewhile

import jinja2
import pytest
import yaml

from conftest import ROOT, tiny_config
from wikigpt.evaluation.ngram import ByteNgram
from wikigpt.evaluation.syntax import (
    evaluate_pairs,
    log_probabilities,
    read_pairs,
    total,
    uniform,
)
from wikigpt.tokenizers import ByteTokenizer, CharTokenizer

FOLDER = ROOT / "data" / "eval"
FILE = FOLDER / "french_minimal_pairs.jsonl"


@pytest.fixture(scope="module")
def pairs():
    return read_pairs(FILE)


@pytest.fixture(scope="module")
def rows():
    return [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def make_pairs(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("make_pairs")


@pytest.fixture(scope="module")
def by_phenomenon(pairs):
    found = defaultdict(list)
    for pair in pairs:
        found[pair.phenomenon].append(pair)
    return found


def test_the_script_writes_the_file_byte_for_byte(make_pairs):
    text = make_pairs.as_jsonl()
    assert text == FILE.read_text(encoding="utf-8")


def test_there_are_enough_and_no_sentence_comes_twice(pairs, by_phenomenon):
    assert len(pairs) == 2560
    assert {len(group) for group in by_phenomenon.values()} == {160}
    assert len(by_phenomenon) == 16
    good, bad = {pair.good for pair in pairs}, {pair.bad for pair in pairs}
    assert not good & bad
    for group in by_phenomenon.values():
        assert len({text for pair in group for text in (pair.good, pair.bad)}) == 2 * 160


def test_ids_are_unique(rows):
    ids = [row["id"] for row in rows]
    assert len(set(ids)) == len(ids)


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def test_every_form_is_wrong_as_often_as_it_is_right(by_phenomenon):
    # So no form is bad in itself, every word of a bad sentence is a word, and singular and plural,
    # masculine and feminine are right equally often.
    for group in by_phenomenon.values():
        good = Counter(word for pair in group for word in words(pair.good))
        bad = Counter(word for pair in group for word in words(pair.bad))
        assert good == bad
        assert Counter("".join(p.good for p in group)) == Counter("".join(p.bad for p in group))
        longer = Counter(
            (len(p.good.encode()) > len(p.bad.encode()))
            - (len(p.good.encode()) < len(p.bad.encode()))
            for p in group
        )
        assert longer[1] == longer[-1]


def test_a_model_that_only_knows_lengths_or_letters_is_half_right(pairs):
    # The unigram even knows the good sentences' letters, and nothing else about them.
    letters = ByteNgram.fit((pair.good for pair in pairs), order=1)
    tokenizer = CharTokenizer.train(["aeiou bcdfghjklmnpqrstvwxyz"])  # é costs two tokens
    for score in (uniform(ByteTokenizer()), uniform(tokenizer), letters.log_probabilities):
        for result in evaluate_pairs(pairs, score):
            assert result.share == 0.5, result.phenomenon


def test_a_model_that_agrees_with_the_nearest_noun_is_half_right(rows):
    attractors = defaultdict(Counter)
    for row in rows:
        if "attractor" in row:
            attractors[row["phenomenon"]][row["attractor"]] += 1
    assert len(attractors) == 3
    assert all(found == {"same": 80, "other": 80} for found in attractors.values())


def test_the_two_sentences_differ_in_one_place(pairs):
    for pair in pairs:
        good, bad = pair.good.split(" "), pair.bad.split(" ")
        same = len(list(takewhile(lambda ab: ab[0] == ab[1], zip(good, bad, strict=False))))
        rest_good, rest_bad = good[same:][::-1], bad[same:][::-1]
        tail = len(
            list(takewhile(lambda ab: ab[0] == ab[1], zip(rest_good, rest_bad, strict=False)))
        )
        assert max(len(rest_good), len(rest_bad)) - tail <= 3, pair
        assert pair.good[0].isupper() and pair.good.endswith(".") and "  " not in pair.good


ASPIRATED = "hameau|héros|hibou|héron|hangar|harpe|haie|hutte|hache|halte"


def test_good_sentences_elide_and_contract(pairs):
    vowel, consonant = "[aeiouéèêâîôœ]", "[bcdfgjklmnpqrstvwxz]"
    clash = re.compile(rf"\b(le|la|de|que|ne|je|me|te|se|du|au|ce) (?!{ASPIRATED})({vowel}|h)")
    lost = re.compile(rf"\b(l|d|qu|n|j|m|t|s)'({consonant}|{ASPIRATED})")
    # « accepte de le lui prêter » is right: there « le » is a pronoun.
    contracted = re.compile(r"\b(de|à) (le|les) (?!lui|leur)")
    for pair in pairs:
        for rule in (clash, lost, contracted):
            assert not rule.search(pair.good.lower()), pair.good


def test_agreement_by_the_tables(make_pairs, by_phenomenon):
    """An independent reading: the subject's determiner alone says the verb's number."""
    import lexicon as lx

    number = {}
    for verb in [*lx.ACTIONS, *lx.STATES, *lx.STANDING]:
        for singular, plural in verb[:4]:
            assert singular != plural
            number |= {singular: 0, plural: 1}
    for name in ("subject_verb_number", *(n for n in by_phenomenon if n.startswith("agreement_"))):
        for pair in by_phenomenon[name]:
            good, bad = pair.good.split(" "), pair.bad.split(" ")
            (verb, wrong), *others = [(g, b) for g, b in zip(good, bad, strict=True) if g != b]
            assert not others
            subject = re.sub(r"^[^,]*, ", "", pair.good).lower()
            plural = subject.startswith(("les ", "des ", "ces "))
            assert number[verb] == plural and number[wrong] == 1 - plural, pair


# --- The same pairs as a task of lm-evaluation-harness --------------------------------------------


def test_the_task_asks_what_we_ask(rows, pairs):
    task = yaml.safe_load((FOLDER / "harness" / "french_minimal_pairs.yaml").read_text("utf-8"))
    (file,) = task["dataset_kwargs"]["data_files"].values()
    assert ROOT / file == FILE and task["dataset_path"] == "json"
    assert task["validation_split"] in task["dataset_kwargs"]["data_files"]
    # The first choice is the right one, and nothing stands before the sentence.
    assert (task["doc_to_text"], task["doc_to_target"], task["target_delimiter"]) == ("", 0, "")
    choices = jinja2.Environment().from_string(task["doc_to_choice"])
    for row, pair in zip(rows, pairs, strict=True):
        assert eval(choices.render(row)) == [pair.good, pair.bad]


def test_lm_eval_gives_our_figure(small_corpus, tmp_path, monkeypatch):
    lm_eval = pytest.importorskip("lm_eval", reason="lm_eval is not installed")
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from wikigpt.training import train
    from wikigpt.training.export import export_run
    from wikigpt.training.run_folder import load_run

    config = tiny_config(
        small_corpus, tmp_path, kind="bpe", min_count=None, block_size=64,
        **{"tokenizer.vocab_size": 400},
    )  # fmt: skip
    list(train(config, say=lambda _: None))
    model, tokenizer, _ = load_run(export_run(config.run_path))
    monkeypatch.chdir(ROOT)
    found = lm_eval.simple_evaluate(
        HFLM(str(config.run_path), dtype="float32", device="cpu", batch_size=32),
        tasks=["french_minimal_pairs"], limit=200, bootstrap_iters=0,
        task_manager=TaskManager(include_path=str(FOLDER / "harness"), include_defaults=False),
    )["results"]["french_minimal_pairs"]["acc,none"]  # fmt: skip
    ours = evaluate_pairs(read_pairs(FILE)[:200], partial(log_probabilities, model, tokenizer))
    assert found == pytest.approx(total(ours).share)
