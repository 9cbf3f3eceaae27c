"""Batches + model -> a trained model, as a generator of events."""

from wikigpt.training.loop import train

__all__ = ["train"]
