"""A YAML file and overrides -> a Config, and back.

Defaults < YAML file < overrides. An unknown key is an error that names the nearest known one.
Rejected: configs that are executed as code (they cannot be checked or compared).
"""

import difflib
import re
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from wikigpt.config.fields import Config, DecodingConfig, GPTConfig
from wikigpt.config.root import find_root
from wikigpt.errors import UserError
from wikigpt.files import atomic_write


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a key may stand only once (PyYAML silently takes the last), and numbers, dates
    and words stay text, for the field to read.

    YAML 1.1 makes 1.1 of a version 1.10, 8 of 010, 90 of 1:30, and a false of `no`.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [
            self.construct_object(key, deep=True)
            for key, _ in node.value
            if key.tag != "tag:yaml.org,2002:merge"
        ]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {twice[0]!r} is there twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag.rpartition(":")[2] in ("null", "merge")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def load_config(path: str | Path | None = None, /, **overrides: Any) -> Config:
    """Read a YAML file (relative to the root, or to here) and apply overrides.

    An override names a field by its bare name, `learning_rate=1e-3`, or in full,
    `**{"training.learning_rate": 1e-3}`.

    Raises:
        UserError: the file is missing or not YAML, a key is unknown, a value is out of range.
    """
    values = read_yaml(path) if path is not None else {}
    given: dict[str, str] = {}
    for key, value in overrides.items():
        name = _full_name(key)
        if name in given:
            raise UserError(f"{given[name]} and {key} are the same setting; leave one out.")
        given[name] = key
        *sections, leaf = name.split(".")
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
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold keys and values, not a {type(values).__name__}.")
    return values


def parse_overrides(arguments: list[str]) -> dict[str, Any]:
    """A command line's `["files=[a.jsonl]"]` -> `{"files": ["a.jsonl"]}`; values are read as YAML.

    Raises:
        UserError: no key, a value that is no YAML, or a key that is there twice.
    """
    overrides: dict[str, Any] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise UserError(
                f"{argument!r} is not an override; write key=value, as in max_steps=500."
            )
        if key in overrides:
            raise UserError(f"{key} is given twice; leave one out.")
        try:
            overrides[key] = yaml.load(value, _StrictLoader)
        except (yaml.YAMLError, ValueError, AttributeError, RecursionError):
            raise UserError(f"The value of {key} can't be read: {value[:200]!r}.") from None
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
    known, key = _known_keys(), key.lower()
    if key in known:  # in a file, where the sections are keys
        return f"; write {key.split('.')[-1]} below {key.split('.')[0]}:."
    by_leaf = {k.split(".")[-1]: k for k in known}
    near = difflib.get_close_matches(key, {*known, *(k.split(".")[0] for k in known)}, n=1)
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
