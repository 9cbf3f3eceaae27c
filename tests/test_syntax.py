import json
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from wikigpt.errors import UserError
from wikigpt.evaluation.ngram import ByteNgram
from wikigpt.evaluation.syntax import (
    Accuracy,
    Pair,
    evaluate_pairs,
    log_probabilities,
    read_pairs,
    table,
    total,
    uniform,
)
from wikigpt.model import GPT, GPTConfig
from wikigpt.model.twin import to_transformers
from wikigpt.tokenizers import ByteTokenizer

BYTES = ByteTokenizer()
SENTENCES = ["L'été est long.", "Oui.", "Les étés sont longs et chauds.", "Il dort."]


def model_for(**changes) -> GPT:
    torch.manual_seed(0)
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 48, "vocab_size": 257}
    return GPT(GPTConfig(**(shape | changes)))


class Bigrams(torch.nn.Module):
    """Knows nothing but which byte may follow which."""

    def __init__(self, *liked: str) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.zeros(257, 257))
        for first, second in liked:
            self.logits.data[1 + ord(first), 1 + ord(second)] = 5.0

    def forward(self, ids_BT: torch.Tensor) -> torch.Tensor:
        return self.logits[ids_BT]


# --- Scores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ["gpt2", "modern"])
def test_it_is_the_sum_of_single_predictions(arch):
    model = model_for(arch=arch)
    for sentence, found in zip(SENTENCES, log_probabilities(model, BYTES, SENTENCES), strict=True):
        ids, wanted = [0, *BYTES.encode(sentence)], 0.0
        for place in range(1, len(ids)):
            with torch.inference_mode():
                logits_V = model(torch.tensor([ids[:place]]))[0, -1]
            wanted += logits_V.log_softmax(0)[ids[place]].item()
        assert found == pytest.approx(wanted, abs=1e-3)


def test_a_batch_is_the_same_as_one_by_one():
    model = model_for()
    alone = [log_probabilities(model, BYTES, [sentence])[0] for sentence in SENTENCES]
    for batch_size in (1, 2, 3, 100):
        found = log_probabilities(model, BYTES, SENTENCES, batch_size)
        assert found == pytest.approx(alone, abs=1e-4)
    assert log_probabilities(model, BYTES, []) == []


def test_a_model_of_the_hub_with_its_own_tokenizer_gives_the_same():
    model = model_for()
    twin, tokenizer = to_transformers(model), BYTES.to_hub()
    ours = log_probabilities(model, BYTES, SENTENCES)
    assert log_probabilities(twin, tokenizer, SENTENCES) == pytest.approx(ours, abs=1e-3)


def test_a_tokenizer_that_names_only_its_end_of_text_and_one_that_names_nothing():
    start = SimpleNamespace(
        bos_token_id=None, eos_token_id=0, encode=lambda text, **_: BYTES.encode(text)
    )
    model = model_for()
    found = log_probabilities(model, start, SENTENCES)
    assert found == log_probabilities(model, BYTES, SENTENCES)
    with pytest.raises(UserError, match="bos_token"):
        log_probabilities(model, SimpleNamespace(encode=start.encode), SENTENCES)


def test_dropout_is_off_and_the_mode_is_kept():
    model = model_for(dropout=0.5).train()
    assert log_probabilities(model, BYTES, SENTENCES) == log_probabilities(model, BYTES, SENTENCES)
    assert model.training


def test_a_sentence_may_fill_the_context_but_not_exceed_it():
    model = model_for(block_size=8)
    assert len(log_probabilities(model, BYTES, ["12345678"])) == 1
    with pytest.raises(UserError, match="has 9 tokens and the model sees 8"):
        log_probabilities(model, BYTES, ["123", "123456789"])
    with pytest.raises(UserError, match="has 9 tokens"):
        log_probabilities(to_transformers(model), BYTES.to_hub(), ["123456789"])
    with pytest.raises(UserError, match="no tokens"):
        log_probabilities(model, BYTES, ["123", ""])


# --- Verdicts -------------------------------------------------------------------------------------


def test_a_model_that_knows_one_rule_exactly():
    pairs = [
        Pair("aux", "auy", "known"), Pair("ux", "uz", "known"), Pair("uy", "ux", "reversed"),
        Pair("wx", "wy", "unknown"), Pair("vy", "vx", "unknown"), Pair("vz", "vt", "unknown"),
    ]  # fmt: skip
    results = evaluate_pairs(pairs, partial(log_probabilities, Bigrams("ux"), BYTES))
    assert results == [
        Accuracy("known", 2, 2.0), Accuracy("reversed", 1, 0.0), Accuracy("unknown", 3, 1.5)
    ]  # fmt: skip
    assert total(results) == Accuracy("all", 6, 3.5)


def test_what_a_model_that_knows_nothing_makes_of_lengths():
    # All logits 0: the shorter one wins, so a set whose good sentences are shorter proves nothing,
    # `uniform` says so, and the mirror takes it back.
    pairs = [Pair("un ami", "une ami", "m"), Pair("un chat", "une chat", "m")]
    mirror = [Pair("une amie", "un amie", "f"), Pair("une chatte", "un chatte", "f")]
    for score in (partial(log_probabilities, Bigrams(), BYTES), uniform(BYTES)):
        results = evaluate_pairs(pairs + mirror, score)
        assert [result.share for result in results] == [1.0, 0.0]
        assert total(results).share == 0.5


def test_the_verdict_does_not_hang_on_how_a_sentence_is_cut():
    # The same probabilities of the same strings, told to one model byte by byte and to the other
    # with « une » as one token: a mean per token would turn the verdict round, the sum does not.
    whole = SimpleNamespace(
        end_of_text_id=0, encode=lambda text: BYTES.encode(text.replace("une", "\x01"))
    )
    by_bytes, by_words = Bigrams(), Bigrams()
    # « e » after « n » and « n » after « u » are certain; so « une » costs what « u » costs.
    for model, first, second in ((by_bytes, "u", "n"), (by_bytes, "n", "e")):
        model.logits.data[1 + ord(first), 1 + ord(second)] = 50.0
    sentences = ["xuney", "xay"]
    a, b = log_probabilities(by_bytes, BYTES, sentences)
    c, d = log_probabilities(by_words, whole, sentences)
    assert (a, b) == pytest.approx((c, d), abs=1e-4)
    assert a / 5 > b / 3 + 1  # the mean per token prefers « une » only when it is cut in pieces
    assert c / 3 == pytest.approx(d / 3, abs=1e-4)


def test_broken_weights_are_no_verdict():
    model = Bigrams()
    model.logits.data[:] = torch.nan
    with pytest.raises(UserError, match="NaN"):
        evaluate_pairs([Pair("a", "b", "p")], partial(log_probabilities, model, BYTES))


def test_an_ngram_model_is_judged_in_the_same_way():
    ngram = ByteNgram.fit(["la reine", "le roi", "la reine", "le roi"], order=6)
    pairs = [Pair("la reine", "le reine", "gender"), Pair("le roi", "la roi", "gender")]
    assert evaluate_pairs(pairs, ngram.log_probabilities) == [Accuracy("gender", 2, 2.0)]


# --- Numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    # Newcombe (1998), table I, score method without continuity correction; and by hand: 0 of n
    # ends at z² / (n + z²).
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (1, 29, 0.0061, 0.1718),
     (0, 20, 0.0, 3.841459 / 23.841459), (20, 20, 20 / 23.841459, 1.0)],
)  # fmt: skip
def test_wilsons_interval(right, n, low, high):
    assert Accuracy("", n, right).interval == pytest.approx((low, high), abs=5e-5)


def test_table():
    ours = [Accuracy("gender", 160, 120.0), Accuracy("ne_pas", 80, 40.0)]
    floor = [Accuracy("gender", 160, 80.0), Accuracy("ne_pas", 80, 40.0)]
    assert table({"ours": ours, "6-gram": floor}) == "\n".join([
        "phenomenon    n           ours         6-gram  chance",
        "gender      160  75 (68 to 81)  50 (42 to 58)      50",
        "ne_pas       80  50 (39 to 61)  50 (39 to 61)      50",
        "all         240  67 (60 to 72)  50 (44 to 56)      50",
    ])  # fmt: skip
    for other in (ours[:1], [Accuracy("gender", 10, 5.0), ours[1]]):
        with pytest.raises(UserError, match="different pairs"):
            table({"ours": ours, "other": other})


# --- Files ----------------------------------------------------------------------------------------


def test_names_of_published_sets(tmp_path):
    rows = [
        {"good": "A.", "bad": "B.", "phenomenon": "p", "id": "1"},
        {"sentence_good": "C.", "sentence_bad": "D.", "field": "syntax", "UID": "anaphor"},
        {"sentence_good": "É.", "sentence_bad": "F.", "linguistic_phenomenon": "accords"},
        {"sen": "G.", "wrong_sen": "H."},
    ]
    path = tmp_path / "mine.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\ufeff" + "\r\n".join(lines) + "\n\n", encoding="utf-8", newline="")
    assert read_pairs(path) == [
        Pair("A.", "B.", "p"), Pair("C.", "D.", "anaphor"), Pair("É.", "F.", "accords"),
        Pair("G.", "H.", "mine"),
    ]  # fmt: skip
    path = tmp_path / "data.tsv"
    path.write_text('sen\twrong_sen\tphenomenon\nIl "dort.\tIls dort.\tSV-#\n', encoding="utf-8")
    assert read_pairs(path) == [Pair('Il "dort.', "Ils dort.", "SV-#")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no minimal pairs"),
        (b"\n\n", "no minimal pairs"),
        (b'{"good": "A.", "bad": "B."}\n{"good": "C.", "ba', "line 2 is not JSON"),
        (b"[" * 100_000, "line 1 is not JSON"),
        (b'["A.", "B."]', "line 1 is not an object"),
        (b'{"good": "A."}', "none of the fields bad, sentence_bad"),
        (b'{"good": 3, "bad": "B."}', "good is not a sentence"),
        (b'{"good": "A.", "bad": " "}', "bad is not a sentence"),
        (b'{"good": "A.", "bad": "A. "}', "both sentences are the same"),
        (b'{"good": "\xe9", "bad": "B."}', "not UTF-8"),
    ],
)
def test_damaged_files(tmp_path, content, message):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_pairs(path)


def test_a_cut_tsv_and_a_missing_file(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("sen\twrong_sen\nA.\tB.\nC.\n", encoding="utf-8")
    with pytest.raises(UserError, match="line 3: wrong_sen is not a sentence"):
        read_pairs(path)
    with pytest.raises(UserError, match="no file"):
        read_pairs(tmp_path / "nothing.jsonl")
