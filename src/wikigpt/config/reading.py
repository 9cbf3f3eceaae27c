"""A YAML file and overrides -> a Config, and back.

Defaults < YAML file < overrides. An unknown key is an error that names the nearest known one.
Rejected: configs that are executed as code (they cannot be checked or compared).
"""

import difflib
from dataclasses import asdict, fields, is_dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from wikigpt.config.fields import Config, DecodingConfig, GPTConfig
from wikigpt.config.root import find_root
from wikigpt.errors import UserError
from wikigpt.files import atomic_write


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a key may stand only once; PyYAML silently takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {twice[0]!r} is there twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


def load_config(path: str | Path | None = None, /, **overrides: Any) -> Config:
    """Read a YAML file (relative to the root, or to here) and apply overrides.

    An override names a field by its bare name, `learning_rate=1e-3`, or in full,
    `**{"training.learning_rate": 1e-3}`.

    Raises:
        UserError: the file is missing or not YAML, a key is unknown, a value is out of range.
    """
    values = read_yaml(path) if path is not None else {}
    for key, value in overrides.items():
        *sections, leaf = _full_name(key).split(".")
        target = values
        for section in sections:
            if not isinstance(target.setdefault(section, {}), dict):
                raise UserError(f"{path}: {section} must hold keys and values.")
            target = target[section]
        target[leaf] = value
    try:
        return TypeAdapter(Config).validate_python(values)
    except ValidationError as error:
        raise UserError(_sentence(error, path)) from None


def decoding_config(**settings: Any) -> DecodingConfig:
    """
    Raises:
        UserError: a setting is unknown or out of range.
    """
    try:
        return TypeAdapter(DecodingConfig).validate_python(settings)
    except ValidationError as error:
        raise UserError(_sentence(error, None)) from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The keys and values of a YAML file (relative to here, or to the root).

    Raises:
        UserError: the file is missing or not YAML, or holds something else.
    """
    file = Path(path) if Path(path).is_file() else find_root() / path
    if not file.is_file():
        raise UserError(f"There is no config file {path}; the folder configs/ has some.")
    try:
        values = yaml.load(file.read_text(encoding="utf-8"), _StrictLoader) or {}
    except (yaml.YAMLError, ValueError, AttributeError) as error:  # ValueError: a 13th month
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold keys and values, not a {type(values).__name__}.")
    return values


def parse_overrides(arguments: list[str]) -> dict[str, Any]:
    """A command line's `["files=[a.jsonl]"]` -> `{"files": ["a.jsonl"]}`; values are read as YAML.

    But for numbers and dates, which stay text for the field to read: a version 1.10 is not 1.1.
    """
    overrides = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise UserError(
                f"{argument!r} is not an override; write key=value, as in max_steps=500."
            )
        try:
            typed = yaml.safe_load(value)
        except ValueError:
            typed = value  # it looks like a date or a number, and is none: a 13th month
        except (yaml.YAMLError, AttributeError):
            raise UserError(f"The value of {key} can't be read: {value!r}.") from None
        # YAML 1.1 takes `no`, the code of Norwegian, for a false.
        is_word = isinstance(typed, int | float | date) and value.lower() not in ("true", "false")
        overrides[key] = value if is_word else typed
    return overrides


def save_config(config: Config, path: Path) -> None:
    text = yaml.safe_dump(asdict(config), allow_unicode=True, sort_keys=False)
    with atomic_write(path) as file:
        file.write(text.encode())


def with_vocabulary(config: GPTConfig, vocab_size: int) -> GPTConfig:
    """The model's shape once the tokenizer is known."""
    if config.vocab_size not in (0, vocab_size):
        raise UserError(
            f"model.vocab_size is {config.vocab_size}, but the tokenizer has {vocab_size} tokens; "
            "leave model.vocab_size out of the config."
        )
    return replace(config, vocab_size=vocab_size)


def differences(a: Config, b: Config) -> list[str]:
    """What differs between two experiments, as `key: a -> b`.

    Where they are stored, and who reads the data, changes no number and is ignored.
    """
    left, right = _flatten(asdict(a)), _flatten(asdict(b))
    free = {"data_dir", "runs_dir", "training.data_workers"}
    return [f"{k}: {left[k]} -> {right[k]}" for k in left if k not in free and left[k] != right[k]]


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in values.items():
        nested = isinstance(value, dict)
        flat |= _flatten(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return flat


def _known_keys(cls: type = Config, prefix: str = "") -> list[str]:
    keys = []
    for f in fields(cls):
        if is_dataclass(f.type):
            keys += _known_keys(f.type, f"{prefix}{f.name}.")
        else:
            keys.append(prefix + f.name)
    return keys


def _full_name(key: str) -> str:
    """A key by its bare or full name -> its full name."""
    known = _known_keys()
    matches = [k for k in known if k == key or k.split(".")[-1] == key]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise UserError(f"{key!r} could be {' or '.join(matches)}; write it in full.")
    raise UserError(f"Unknown config key {key!r}{_nearest(key)}")


def _nearest(key: str) -> str:
    known = _known_keys()
    by_leaf = {k.split(".")[-1]: k for k in known}
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    leaf = difflib.get_close_matches(key.split(".")[-1], by_leaf, n=1, cutoff=0.5)
    guess = near or [by_leaf[k] for k in leaf]
    if guess:
        return f"; did you mean {guess[0]!r}?"
    return "; see src/wikigpt/config/fields.py for all keys."


def _sentence(error: ValidationError, path: str | Path | None) -> str:
    where = f"{path}: " if path else ""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{where}unknown config key {key!r}{_nearest(key)}"
    message = first["msg"].removeprefix("Value error, ")
    given = f", not {first['input']!r}" if not isinstance(first["input"], dict) else ""
    return f"{where}{key or 'config'}: {message[0].lower()}{message[1:]}{given}."
