"""Ids -> training batches."""
