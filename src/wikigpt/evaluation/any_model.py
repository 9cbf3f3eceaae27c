"""One face for whatever predicts the next token: our GPT, and any AutoModelForCausalLM.

Each brings its own tokenizer, so models meet only in bits per byte of the same texts. What would
falsify such a figure without a word is refused here: a model that sees the tokens it should predict
(BERT loads as a causal model, with a warning), weights that the folder lacks and that transformers
fills with noise, and a tokenizer that it lacks, in whose place transformers puts an empty one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from wikigpt.errors import UserError
from wikigpt.model.gpt import GPT

# What transformers raises for a folder that is not there, not whole or not a language model's.
BROKEN = (
    OSError, ValueError, TypeError, KeyError, RuntimeError, ImportError, SafetensorError,
    StrictDataclassError,
)  # fmt: skip


@dataclass(frozen=True)
class AnyModel:
    """A causal language model and the tokenizer that belongs to it."""

    module: torch.nn.Module
    logits: Callable[[torch.Tensor], torch.Tensor]
    """ids_BT -> logits_BTV."""
    encode: Callable[[str], list[int]]
    """No special token is added, and none is found in a text that spells one."""
    decode: Callable[[list[int]], str]
    start_id: int
    """Stands before a document, and is given: nobody pays for it."""
    end_id: int
    """Stands after a document, and is paid for. With one token for both, it ends a document and
    starts the next, as in our shards."""
    block_size: int
    vocab_size: int


def our_model(model: GPT, tokenizer: Any) -> AnyModel:
    """What `load_run` gives, for `evaluate_texts`."""
    c, end = model.config, tokenizer.end_of_text_id
    return AnyModel(
        model, model, tokenizer.encode, tokenizer.decode, end, end, c.block_size, c.vocab_size
    )


def hub_model(name: str | Path, block_size: int | None = None) -> AnyModel:
    """A model in a folder or on the Hugging Face hub, with its tokenizer, in fp32 on the CPU.

    Code that comes with a model is not run.

    Args:
        block_size: its longest context; left out, what the model's config says.

    Raises:
        UserError: not there, not whole, not causal, or without what `AnyModel` needs; a
            block_size beyond its context.
    """
    # Here, because it takes seconds, and who trains has no need of it.
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        module, loading = AutoModelForCausalLM.from_pretrained(
            name, dtype=torch.float32, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(name)
    except BROKEN as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{name} can't be loaded as a causal language model: {reason}") from None
    if missing := sorted(loading["missing_keys"]):
        raise UserError(f"{name} lacks the weights {missing[0]}: it is no whole language model.")
    ends = [i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None]
    if not ends:
        raise UserError(f"The tokenizer of {name} has no token that starts or ends a document.")
    config = module.config.get_text_config()
    longest = getattr(config, "max_position_embeddings", None) or block_size
    block_size = longest if block_size is None else block_size
    if not longest:
        raise UserError(f"{name} doesn't say how long its context is; give a block_size.")
    if not 1 <= block_size <= longest:
        raise UserError(
            f"block_size is {block_size}; the context of {name} is 1 to {longest} tokens."
        )
    model = AnyModel(
        module=module.eval(),
        logits=lambda ids_BT: module(ids_BT).logits,
        encode=lambda text: tokenizer(
            text, add_special_tokens=False, split_special_tokens=True, verbose=False
        )["input_ids"],
        decode=lambda ids: tokenizer.decode(ids, clean_up_tokenization_spaces=False),
        start_id=ends[0],
        end_id=ends[-1],
        block_size=block_size,
        vocab_size=config.vocab_size,
    )
    if not model.encode("a"):
        raise UserError(f"There is no tokenizer in {name}; save the one it was trained with there.")
    if _looks_ahead(model):
        raise UserError(f"{name} sees the tokens that it should predict; it is no causal model.")
    return model


@torch.inference_mode()
def _looks_ahead(model: AnyModel) -> bool:
    """Whether the tokens that follow change what is predicted before them."""
    follow = torch.arange(min(8, model.block_size - 1))
    rows = (follow % model.vocab_size, (follow + 3) % model.vocab_size)
    start = torch.tensor([model.start_id])
    first_V, second_V = model.logits(torch.stack([torch.cat([start, row]) for row in rows]))[:, 0]
    return bool((first_V - second_V).abs().max() > 1e-4 * first_V.std())
