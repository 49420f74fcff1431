"""Metrics of predicted poses, their registry and bootstrap intervals."""
