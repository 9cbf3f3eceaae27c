"""Logits -> how good is it."""
