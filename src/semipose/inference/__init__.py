"""Inference with trained networks: load, predict, evaluate, suggest, export."""
