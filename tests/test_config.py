from dataclasses import asdict
from pathlib import Path

import pytest

from wikigpt.config import (
    decoding_config,
    differences,
    load_config,
    parse_overrides,
    save_config,
    with_vocabulary,
)
from wikigpt.errors import UserError

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))


def yaml_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_committed_config_loads(path):
    assert load_config(path).name == path.stem


def test_defaults_then_yaml_then_overrides(tmp_path):
    path = yaml_file(tmp_path, "training: {max_steps: 7, warmup_steps: 3}")
    config = load_config(path, max_steps=9)
    assert (config.training.max_steps, config.training.warmup_steps) == (9, 3)
    assert config.training.micro_batch_size == 16


def test_samples_are_written_at_temperature_07_and_nothing_else():
    """README's samples and those in the notebooks."""
    sampling = load_config().sampling
    assert sampling.decoding == asdict(decoding_config(temperature=0.7))
    assert sampling.decoding == {
        "temperature": 0.7, "top_k": None, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0,
        "no_repeat_ngram_size": 0,
    }  # fmt: skip
    assert load_config(top_k=3, min_p=0.1, temperature=1).sampling.decoding["min_p"] == 0.1


def test_an_override_by_its_full_name_and_in_yaml_notation():
    config = load_config(**parse_overrides(["training.learning_rate=1e-3", "prompts=[a, é]"]))
    # YAML 1.1 reads 1e-3 as a string; it must still arrive as a number.
    assert config.training.learning_rate == 0.001
    assert config.sampling.prompts == ["a", "é"]
    # YAML 1.1 reads the code of Norwegian as false.
    assert load_config(**parse_overrides(["language=no"])).corpus.language == "no"


@pytest.mark.parametrize("name", ["010", "1.10", "2024-01-31", "1_0", "0x10", "12:30", "1e3"])
def test_text_that_looks_like_a_number_stays_as_it_is_written(name):
    if ":" not in name:  # a run's name is a folder's
        assert load_config(**parse_overrides([f"name={name}"])).name == name
    assert load_config(**parse_overrides([f"data_dir={name}"])).data_dir == name
    numbers = parse_overrides(["max_steps=10", "weight_decay=.5", "compile=true", "head_dim=null"])
    config = load_config(**numbers)
    assert (config.training.max_steps, config.training.weight_decay) == (10, 0.5)
    assert config.training.compile is True and config.model.head_dim is None


def test_a_file_is_read_as_an_override_is(tmp_path):
    text = "name: 2024-13-01\ncorpus: {source: kaggle, version: 1.10, language: no}\n"
    text += "base: &steps {max_steps: 010}\n"
    config = load_config(yaml_file(tmp_path, text.replace("base: ", "training: ")))
    assert (config.name, config.corpus.version, config.corpus.language) == (
        "2024-13-01", "1.10", "no",
    )  # fmt: skip
    assert config.training.max_steps == 10
    merged = "training: &t {max_steps: 7, compile: true}\nsampling: {temperature: 0.5}\n"
    merged += "model: {n_layer: 1, head_dim: null}\n"
    config = load_config(yaml_file(tmp_path, merged))
    assert config.training.compile is True and config.model.head_dim is None
    for text in ("seed: no", "seed: 1:30", "training: {max_steps: yes}"):
        with pytest.raises(UserError, match="valid integer"):
            load_config(yaml_file(tmp_path, text))


def test_a_merge_key_is_yaml(tmp_path):
    text = "training:\n  <<: {max_steps: 7, beta2: 0.9}\n  beta2: 0.8\n"
    config = load_config(yaml_file(tmp_path, text))
    assert (config.training.max_steps, config.training.beta2) == (7, 0.8)


def test_a_setting_that_is_given_twice_is_told():
    with pytest.raises(UserError, match="max_steps is given twice"):
        parse_overrides(["max_steps=3", "max_steps=4"])
    with pytest.raises(UserError, match=r"max_steps and training\.max_steps are the same setting"):
        load_config(**parse_overrides(["max_steps=5", "training.max_steps=7"]))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("training.max_steps: 5", "'training.max_steps'; write max_steps below training:."),
        ("trainning: {max_steps: 5}", "did you mean 'training'?"),
        ("LEARNING_RATE: 1", "did you mean 'training.learning_rate'?"),
        ("training: {learning_rat: 1}", "did you mean 'training.learning_rate'?"),
        ("learning_rate: 1", "did you mean 'training.learning_rate'?"),
        ("modle: {n_layer: 1}", "unknown config key 'modle'"),
        (
            "training: {max_steps: 0}",
            "training.max_steps: input should be greater than 0, not '0'.",
        ),
        ("training: {max_steps: many}", "training.max_steps: input should be a valid integer"),
        ("model: {n_head: 3, n_embd: 128}", "n_head=3 must divide n_embd=128"),
        ("model: {arch: gtp2}", "model.arch: input should be 'gpt2' or 'modern', not 'gtp2'."),
        ("model: {n_kv_head: 1}", "model: n_kv_head=1 means nothing with arch=gpt2"),
        ("model: {arch: modern, n_kv_head: 0}", "model.n_kv_head: input should be greater than 0"),
        ("model: {activation: gelu}", "model.activation: input should be 'silu' or 'relu2'"),
        ("training: {embedding_learning_rate: 1}", "means nothing with optimizer=adamw"),
        ("training: {vector_learning_rate: 1}", "means nothing with optimizer=adamw"),
        (
            "training: {decay_fraction: 0.5}",
            "means nothing with schedule=cosine; take schedule=wsd",
        ),
        ("training: {schedule: wsd, decay_fraction: 0}", "should be greater than 0, not '0'."),
        ("training: {learning_rate: 0}", "should be greater than 0, not '0'."),
        ("name: ../elsewhere", "name:"),
        ("training: [", "is not valid YAML"),
        ("seed: 1\nseed: 2", "the key 'seed' is there twice"),
        ("training: {learning_rate: .inf}", "valid number"),
        ("sampling: {prompts: []}", "at least 1 item"),
        ("sampling: {top_p: 0}", "sampling.top_p: input should be greater than 0, not '0'."),
        ("sampling: {repetition_penalty: 0.5}", "sampling.repetition_penalty: input should be"),
        ("sampling: {temperature: 0, min_p: 0.1}", "sampling: min_p can't change what"),
        ("seed: -1", "greater than or equal to 0"),
        ("- a\n- b", "must hold keys and values, not a list"),
        ("training: 3", "training"),
        ("name: !!timestamp x", "is not valid YAML"),
        (
            "corpus: {files: [a.jsonl]}",
            "source=wikipedia-leads; take source=files",
        ),
        ("corpus: {max_files: 2}", "take source=kaggle or source=hub for it"),
        (
            "corpus: {source: files, dataset: a/b, version: 7}",
            "version=7 means nothing",
        ),
    ],
)
def test_a_wrong_config_is_one_sentence(tmp_path, text, says):
    with pytest.raises(UserError) as error:
        load_config(yaml_file(tmp_path, text))
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_section_that_is_no_section_is_told_before_an_override_is_applied(tmp_path):
    with pytest.raises(UserError, match="training must hold keys and values"):
        load_config(yaml_file(tmp_path, "training: 3"), max_steps=2)


@pytest.mark.parametrize("arguments", [["max_step=3"], ["maxsteps=3"]])
def test_an_unknown_override_names_the_nearest_key(arguments):
    with pytest.raises(UserError, match=r"did you mean 'training\.max_steps'"):
        load_config(**parse_overrides(arguments))


@pytest.mark.parametrize("argument", ["path=x", "corpus=3"])
def test_what_is_no_key_at_all(argument):
    with pytest.raises(UserError, match="Unknown config key") as error:
        load_config(**parse_overrides([argument]))
    assert not str(error.value).endswith("?.")


@pytest.mark.parametrize("value", ["2024-13-01", "0x_"])
def test_what_only_looks_like_a_date_or_a_number_is_text(value):
    assert load_config(**parse_overrides([f"name={value}"])).name == value


@pytest.mark.parametrize("argument", ["name=!!int x", "name=!!timestamp x", "seed=" + "9" * 5000])
def test_a_value_that_can_not_be_read_is_one_sentence(argument):
    with pytest.raises(UserError) as error:
        load_config(**parse_overrides([argument]))
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_bare_word_are_told():
    with pytest.raises(UserError, match=r"no config file nowhere\.yaml"):
        load_config("nowhere.yaml")
    with pytest.raises(UserError, match="write key=value"):
        parse_overrides(["max_steps"])


def test_a_saved_config_loads_as_the_same_experiment(tmp_path):
    config = load_config(name="é-1", prompts=["« »", "\u00a0"], seed=3)
    save_config(config, tmp_path / "c.yaml")
    assert load_config(tmp_path / "c.yaml") == config
    assert differences(config, load_config(tmp_path / "c.yaml", data_dir="elsewhere")) == []
    assert differences(config, load_config(tmp_path / "c.yaml", seed=4)) == ["seed: 3 -> 4"]


def test_the_vocabulary_must_be_the_tokenizers():
    assert with_vocabulary(load_config().model, 300).vocab_size == 300
    with pytest.raises(UserError, match=r"leave model\.vocab_size out"):
        with_vocabulary(load_config(**{"model.vocab_size": 100}).model, 300)
