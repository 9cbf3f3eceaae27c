"""A run folder becomes a model folder: everything that transformers and the hub expect.

    AutoModelForCausalLM.from_pretrained("runs/gpt2-tiny")
    AutoTokenizer.from_pretrained("runs/gpt2-tiny")
    pipeline("text-generation", "runs/gpt2-tiny")

load it, and `push_to_hub("runs/gpt2-tiny", "you/gpt2-tiny")` publishes it, with its card, under the
account of `hf auth login`. The weights are those of checkpoints/best, whichever engine trained
them. Each file is written aside and renamed, so a folder that was loadable stays so.
"""

import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from transformers import GenerationConfig
from transformers import logging as hub_logging

from wikigpt.config import Config, CorpusConfig, relative
from wikigpt.errors import UserError
from wikigpt.files import read_json
from wikigpt.model.generate import complete
from wikigpt.model.gpt import GPT
from wikigpt.model.twin import to_transformers
from wikigpt.training import checkpoint
from wikigpt.training.logging import plain_markdown
from wikigpt.training.run_folder import load_run

# What a model card needs to say; data/README.md says more.
CC_BY_SA = "[CC BY-SA {0}](https://creativecommons.org/licenses/by-sa/{0}/)"

MODEL_FILES = [
    "README.md", "config.json", "generation_config.json", "model*.safetensors*", "tokenizer*.json",
]  # fmt: skip


def export_run(folder: str | Path) -> Path:
    """Write config.json, generation_config.json, model.safetensors, tokenizer.json and a model card
    (README.md) into a run's folder.

    Raises:
        UserError: no run there, no checkpoint yet, or a tokenizer that tokenizer.json can't hold.
    """
    folder = Path(folder)
    model, tokenizer, config = load_run(folder)
    hub_tokenizer = tokenizer.to_hub(model_max_length=model.config.block_size)
    twin = to_transformers(model, tokenizer.end_of_text_id)
    twin.generation_config = _generation_config(model, tokenizer, config)
    aside = folder / ".export.partial"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        with no_bars():
            twin.save_pretrained(aside)
        hub_tokenizer.save_pretrained(aside)
        card = model_card(folder, model, tokenizer, config)
        (aside / "README.md").write_text(card, encoding="utf-8")
        for path in sorted(aside.iterdir()):
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


@contextmanager
def no_bars() -> Iterator[None]:
    """transformers draws a progress bar for every model it saves."""
    drawn = hub_logging.is_progress_bar_enabled()
    hub_logging.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            hub_logging.enable_progress_bar()


def push_to_hub(folder: str | Path, repository: str) -> str:
    """Publish an exported run as `repository` ("you/name") of the Hugging Face hub.

    Only what belongs to the model goes there: no checkpoints, no logs. Returns the address.

    Raises:
        UserError: not exported yet, nobody is logged in, or the hub refuses.
    """
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    folder = Path(folder)
    if not (folder / "model.safetensors").is_file():
        raise UserError(f"{relative(folder)} holds no model; export the run first.")
    api = HfApi()
    try:
        api.create_repo(repository, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=MODEL_FILES,
            ignore_patterns=["checkpoints/*", "tokenizer/*"],
            commit_message="A run of wikigpt",
        )
    except (HfHubHTTPError, HFValidationError, httpx2.HTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise UserError(
            f"The hub did not take {repository!r} ({reason}); check the name and your login "
            "(`hf auth login`, with a token that may write)."
        ) from None
    return commit.commit_url


def _generation_config(model: GPT, tokenizer: Any, config: Config) -> GenerationConfig:
    """It ends by itself at an end-of-text, or where the learned positions end."""
    end, settings = tokenizer.end_of_text_id, config.sampling.decoding
    if config.sampling.is_greedy:
        sampling = {name: settings[name] for name in ("repetition_penalty", "no_repeat_ngram_size")}
    else:  # a top_k that is left out would be 50
        sampling = settings | {"do_sample": True, "top_k": settings["top_k"] or 0}
    return GenerationConfig(
        bos_token_id=end, eos_token_id=end, pad_token_id=end,
        max_length=model.config.block_size, **sampling,
    )  # fmt: skip


def model_card(folder: Path, model: GPT, tokenizer: Any, config: Config) -> str:
    """What it is, what it was made of, what it reached, what it writes; Markdown."""
    manifest = read_json(folder / "corpus.json")
    best = _best(folder)
    train, validation = (manifest["splits"][split] for split in ("train", "validation"))
    licence, whose = licence_of(config.corpus)
    front = {
        "language": config.corpus.language,
        "license": licence,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["wikipedia", "pretrained-from-scratch", "wikigpt"],
    }
    shape = model.config
    twin = {"gpt2": "GPT-2", "modern": "Qwen3"}[shape.arch]
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    samples = "\n\n".join(
        f"> **{prompt.strip()}** {_quoted(_write(model, tokenizer, prompt, config))}"
        for prompt in config.sampling.prompts
    )
    source = config.corpus.dataset or config.corpus.source
    return f"""---
{yaml.safe_dump(front, sort_keys=False, allow_unicode=True).strip()}
---

# {config.name}

A {twin} model of {model.n_parameters:,} parameters ({shape.n_layer} layers, {shape.n_head} heads, \
width {shape.n_embd}, context {shape.block_size}), trained from scratch with \
wikigpt to continue text. It knows no instructions, and what it writes is not to be taken for true.

## Use

```python
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

where = "{config.name}"  # this folder, or its name on the hub
tokenizer = AutoTokenizer.from_pretrained(where)
model = AutoModelForCausalLM.from_pretrained(where)
# A document begins after an end-of-text; begin yours like that.
ids = [tokenizer.bos_token_id, *tokenizer({config.sampling.prompts[0]!r}).input_ids]
print(tokenizer.decode(model.generate(torch.tensor([ids]))[0]))
```

## Data and licence

{source}, language {config.corpus.language}: {train["documents"]:,} articles, {train["bytes"]:,} \
bytes, {train["tokens"]:,} tokens to train on; {validation["documents"]:,} articles, \
{validation["bytes"]:,} bytes to validate on. {whose}

Tokenizer: {tokenizer.kind}, {tokenizer.vocab_size:,} tokens.

## Numbers

| on the whole validation split, after {best["step"]:,} of {config.training.max_steps:,} steps | |
|---|---|
| bits per byte | {best["bits_per_byte"]:.3f} |
| nats per character | {best["nats_per_char"]:.3f} |
| nats per token | {best["nats_per_token"]:.3f} |

Trained with Python {platform.python_version()}, {packages}, engine `{config.training.engine}`, \
seed {config.seed}. All settings are in config.yaml.

## Samples

{config.sampling.in_words.capitalize()}, seed {config.seed}, not chosen by hand:

{samples}
"""


def licence_of(corpus: CorpusConfig) -> tuple[str, str]:
    """The hub's name of the licence, and a sentence on whose text it is."""
    if corpus.source == "files":
        return "other", "Trained on files of its maker; ask them under which licence."
    plain = corpus.source == "hub" and corpus.dataset in ("", "wikimedia/wikipedia")
    number = "3.0" if plain else "4.0"
    return f"cc-by-sa-{number}", (
        f"Text of Wikipedia by its authors, {CC_BY_SA.format(number)}, parts also under the GFDL. "
        "What the model writes may repeat passages of it: name Wikipedia when you publish them."
    )


def _best(folder: Path) -> dict[str, Any]:
    checkpoints = folder / "checkpoints"
    which = "best" if checkpoint.find(checkpoints / "best") else "last"
    best = checkpoint.load_state(checkpoints / which)["progress"]["best"]
    if best is None:
        raise UserError(f"{folder} has not been evaluated yet; train on.")
    return best


def _write(model: GPT, tokenizer: Any, prompt: str, config: Config) -> str:
    settings = config.sampling
    return "".join(
        complete(
            model, tokenizer, prompt, settings.max_new_tokens,
            seed=config.seed, **settings.decoding,
        )
    )  # fmt: skip


def _quoted(text: str) -> str:
    return plain_markdown(text).strip().replace("\n", "\n> ")
