"""Skeletons, instances, batches and predictions."""
