import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from conftest import ROOT, tiny_config
from wikigpt.config import Config, load_config
from wikigpt.errors import UserError
from wikigpt.evaluation.reference import (
    T,
    changed,
    comparison,
    comparison_table,
    curve_of,
    decides,
    make_reference,
    read_references,
    verdict,
)
from wikigpt.files import write_json
from wikigpt.training import events, train
from wikigpt.training.run_folder import read_curve

MANIFEST = {"splits": {split: {"bytes": 100, "tokens": 90} for split in ("train", "validation")}}


def run_of(seed=4, scores=(3.0, 2.1), precision="fp32", manifest=MANIFEST, **overrides):
    config = load_config(seed=seed, **{"max_steps": 20, "eval_interval": 10} | overrides)
    records = [{"kind": "step", "step": 20, "seconds": 7.0}]
    records += [
        {"kind": "evaluation", "step": 10 * (i + 1), "bits_per_byte": score}
        for i, score in enumerate(scores)
    ]
    return curve_of(config, manifest, records, precision)


def reference_of(*finals, **overrides):
    runs = [run_of(seed, (3.0 + final / 10, final), **overrides) for seed, final in finals]
    return make_reference("some.yaml", "one core", "2.13.0", runs)


REFERENCE = reference_of((1, 2.0), (2, 2.1), (3, 2.2))


# --- The band -------------------------------------------------------------------------------------


def test_the_band_by_hand():
    last = REFERENCE.curve[-1]
    assert (last.step, last.bits_per_byte) == (20, [2.0, 2.1, 2.2])
    assert last.mean == pytest.approx(2.1)
    # 4.303 * 0.1 * sqrt(4/3) = 0.49687
    assert REFERENCE.band(last) == pytest.approx((1.60313, 2.59687), abs=1e-5)


@pytest.mark.parametrize("degrees", T)
def test_the_quantiles_are_students(degrees):
    """The density, summed up between -t and t, is 95 %."""
    t = T[degrees]
    x = np.linspace(-t, t, 200_001)
    log_norm = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)
    density = math.exp(log_norm) / math.sqrt(degrees * math.pi)
    density = density * (1 + x * x / degrees) ** (-(degrees + 1) / 2)
    assert np.trapezoid(density, x) == pytest.approx(0.95, abs=1e-4)


@pytest.mark.parametrize("n", [2, 3, 6])
def test_one_new_run_in_twenty_is_outside(n):
    """10,000 draws of n runs and one more, from a normal distribution."""
    draws = np.random.default_rng(0).normal(2.0, 0.01, size=(10_000, n + 1))
    inside = 0
    for row in draws.tolist():
        low, high = REFERENCE.band(replace(REFERENCE.curve[-1], bits_per_byte=row[:n]))
        inside += low <= row[n] <= high
    assert inside / len(draws) == pytest.approx(0.95, abs=0.01)  # four standard errors are 0.009


# --- Which settings count -------------------------------------------------------------------------


def test_what_changes_no_loss_is_no_difference():
    same = run_of(
        99, name="other", runs_dir="elsewhere", temperature=0, engine="trainer", device="cpu",
        precision="bf16", micro_batch_size=4, grad_accumulation_steps=4, max_new_tokens=3,
    )  # fmt: skip
    assert changed(REFERENCE, same) == []  # 4 x 4 blocks a step are the default's 16 x 1


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"n_embd": 256}, "model.n_embd: 128 -> 256"),
        ({"learning_rate": 2e-3}, "training.learning_rate: 0.001 -> 0.002"),
        ({"weight_decay": 0.2}, "training.weight_decay: 0.1 -> 0.2"),
        ({"micro_batch_size": 8}, "blocks a step: 16 -> 8"),
        ({"blocks": "streaming"}, "blocks: shards -> streaming"),
        ({"language": "en"}, "corpus.language: fr -> en"),
        ({"kind": "byte"}, "tokenizer.kind: char -> byte"),
    ],
)
def test_what_changes_the_loss_is_named(overrides, says):
    other = run_of(**overrides)
    assert says in changed(REFERENCE, other)
    text = comparison([REFERENCE], other)
    assert "No reference is of this experiment. There are: some.yaml." in text and says in text
    assert "inside" not in text and "another experiment" in text


def test_every_setting_is_either_free_or_counts():
    """Of the config's leaves, those that are left out are the ones that are listed as free."""
    flat = {}
    for name, value in asdict(Config()).items():
        flat |= {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {
            name: value
        }  # fmt: skip
    left_out = {key for key in flat if key not in decides(Config(), MANIFEST)}
    assert {key for key in left_out if not key.startswith(("sampling.", "training."))} == {
        "name", "seed", "data_dir", "runs_dir", "corpus.files",
    }  # fmt: skip


def test_another_text_is_another_experiment():
    other = {"splits": MANIFEST["splits"] | {"validation": {"bytes": 101, "tokens": 90}}}
    assert changed(REFERENCE, run_of(manifest=other)) == [
        "bytes of the validation split: 100 -> 101"
    ]


def test_a_setting_newer_than_the_reference_was_what_its_default_is():
    older = {key: v for key, v in REFERENCE.decides.items() if key != "training.schedule"}
    older = replace(REFERENCE, decides=older)
    assert changed(older, run_of()) == []
    assert "training.schedule: cosine -> wsd" in changed(older, run_of(schedule="wsd"))


# --- The answer -----------------------------------------------------------------------------------


def test_inside_above_and_below():
    for final, place, answer in (
        (2.59, "inside", "your loss is normal"),
        (2.60, "above", "worse here than another seed explains"),
        (1.60, "below", "better here than another seed explains"),
    ):
        run = run_of(scores=(3.2, final))
        line = comparison_table(REFERENCE, run).splitlines()[-1]
        assert line.split() == [
            "20", f"{final:.3f}", "2.100", f"{final - 2.1:+.3f}", "1.603", "to", "2.597", place,
        ]  # fmt: skip
        said = verdict(REFERENCE, run)
        assert answer in said and "(1.603 to 2.597)" in said
        assert said.startswith(f"At step 20 {final:.3f} bits/byte is {place}")


def test_a_run_that_is_not_finished_is_compared_as_far_as_it_is():
    run = run_of(scores=(3.21,))
    assert len(comparison_table(REFERENCE, run).splitlines()) == 2
    assert verdict(REFERENCE, run).startswith("At step 10 of 20 3.210 bits/byte is inside")


def test_a_run_looked_at_at_other_steps():
    run = replace(run_of(), bits_per_byte={7: 2.0})
    assert "nothing to compare" in comparison([REFERENCE], run)


def test_the_nearest_of_several_is_taken_and_precisions_are_named():
    wide = reference_of((1, 1.0), (2, 1.1), n_embd=256)
    wide = replace(wide, config="wide.yaml", precision="bf16")
    text = comparison([wide, REFERENCE], run_of())
    assert "some.yaml: seeds 1, 2, 3, fp32, 7 s, one core, torch 2.13.0" in text
    assert "note" not in text
    assert "(bf16 and fp32)" in comparison([wide, REFERENCE], run_of(n_embd=256))
    far = comparison([wide, REFERENCE], run_of(n_embd=64))
    assert "wide.yaml, some.yaml" in far


# --- Mistakes -------------------------------------------------------------------------------------


def test_runs_that_make_no_reference():
    one, two = run_of(1), run_of(2)
    for runs, says in (
        ([one], "2 to 10 runs, not 1"),
        ([one, run_of(1)], "not all different"),
        ([one, run_of(2, n_embd=64)], "model.n_embd: 128 -> 64"),
        ([one, run_of(2, scores=(3.0,))], "up to the last"),
        ([run_of(1, scores=(3.0,)), run_of(2, scores=(3.0,))], "up to the last"),
        ([one, run_of(2, precision="bf16")], "trained in fp32 and bf16"),
    ):
        with pytest.raises(UserError, match=says):
            make_reference("some.yaml", "one core", "2.13.0", runs)
    assert len(make_reference("some.yaml", "one core", "2.13.0", [one, two]).curve) == 2


def test_runs_are_added_to_a_reference():
    """As if all had been trained at once, but for where."""
    finals = {1: 2.2, 2: 2.0, 3: 2.1, 4: 2.05}
    more = [run_of(seed, (3.0 + finals[seed] / 10, finals[seed])) for seed in (3, 4)]
    earlier = reference_of(*list(finals.items())[:2])
    added = make_reference("some.yaml", "two cores", "2.14.0", more, earlier)
    assert added.curve == reference_of(*finals.items()).curve
    assert [run.seed for run in added.runs] == [1, 2, 3, 4]
    text = comparison([added], run_of())
    assert "seeds 1, 2, 3, 4, fp32, 7 s, one core and two cores, torch 2.13.0 and 2.14.0" in text
    assert len(make_reference("some.yaml", "", "", more[:1], earlier).runs) == 3
    for run, says in (
        (run_of(2), r"\[1, 2, 2\] are not all different"),
        (run_of(3, n_embd=64), "model.n_embd: 128 -> 64"),
        (run_of(3, scores=(3.0,)), "up to the last"),
        (run_of(3, precision="bf16"), "seeds 1 and 3 were trained in fp32 and bf16"),
    ):
        with pytest.raises(UserError, match=says):
            make_reference("some.yaml", "one core", "2.13.0", [run], earlier)


def test_a_run_without_evaluations_and_one_of_masked_tokens():
    with pytest.raises(UserError, match="no evaluation yet; its first is at step 10"):
        run_of(scores=())
    with pytest.raises(UserError, match="masked tokens"):
        run_of(objective="mlm", engine="trainer")


def test_a_file_is_read_back_and_a_damaged_one_is_named(tmp_path):
    assert read_references(tmp_path / "nowhere") == []
    write_json(tmp_path / "some.json", asdict(REFERENCE))
    assert read_references(tmp_path) == [REFERENCE]
    for text in ("{", "[]", json.dumps(asdict(REFERENCE) | {"curve": [1]}), '{"config": "a"}'):
        (tmp_path / "bad.json").write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=r"bad\.json is no reference curve"):
            read_references(tmp_path)
    with pytest.raises(UserError, match="no reference curve in configs/reference"):
        comparison([], run_of())


def test_what_the_repository_carries_can_be_read_and_is_of_its_configs():
    for reference in read_references(ROOT / "configs" / "reference"):
        config = load_config(ROOT / "configs" / reference.config)
        manifest = {"splits": {
            split: {unit: reference.decides[f"{unit} of the {split} split"]
                    for unit in ("bytes", "tokens")}
            for split in ("train", "validation")
        }}  # fmt: skip
        assert reference.decides == decides(config, manifest), reference.config
        assert reference.curve[-1].step == config.training.max_steps


# --- Real runs ------------------------------------------------------------------------------------


def test_real_runs_of_either_engine(small_corpus, tmp_path):
    folders = []
    for seed in (1, 2, 3):
        config = tiny_config(small_corpus, tmp_path, name=f"s{seed}", seed=seed)
        list(train(config, say=lambda _: None))
        folders.append(config.run_path)
    reference = make_reference("tiny.yaml", "one core", "2.13.0", list(map(read_curve, folders)))
    assert [point.step for point in reference.curve] == [4, 8, 12]
    assert reference.precision == "fp32"
    assert [run.seed for run in reference.runs] == [1, 2, 3]
    # The same seed by the other engine has the same losses, so it is where the first run is.
    config = tiny_config(small_corpus, tmp_path, name="other", seed=1, engine="trainer")
    for event in train(config, say=lambda _: None):
        if isinstance(event, events.Step) and event.step == 10:
            break
    curve = read_curve(config.run_path)
    assert curve.precision == "fp32" and changed(reference, curve) == []
    assert list(curve.bits_per_byte) == [4, 8]
    for step, score in curve.bits_per_byte.items():
        assert score == pytest.approx(read_curve(folders[0]).bits_per_byte[step], rel=1e-4)
    assert "inside" in verdict(reference, curve)
    with pytest.raises(UserError, match="not a run folder"):
        read_curve(tmp_path)
