"""The typed experiment config: its fields, how it is read, and where the repository lies."""

from wikigpt.config.fields import (
    Config,
    CorpusConfig,
    DecodingConfig,
    GPTConfig,
    SamplingConfig,
    TokenizerConfig,
    TrainingConfig,
)
from wikigpt.config.reading import (
    decoding_config,
    differences,
    load_config,
    parse_overrides,
    read_yaml,
    save_config,
    with_vocabulary,
)
from wikigpt.config.root import find_root, relative

__all__ = [
    "Config",
    "CorpusConfig",
    "DecodingConfig",
    "GPTConfig",
    "SamplingConfig",
    "TokenizerConfig",
    "TrainingConfig",
    "decoding_config",
    "differences",
    "find_root",
    "load_config",
    "parse_overrides",
    "read_yaml",
    "relative",
    "save_config",
    "with_vocabulary",
]
