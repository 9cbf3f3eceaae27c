"""Ids -> logits."""

from wikigpt.config import GPTConfig
from wikigpt.model.gpt import GPT

__all__ = ["GPT", "GPTConfig"]
