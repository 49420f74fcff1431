"""Training: the loop, its engine, checkpoints, evaluation and monitoring."""
