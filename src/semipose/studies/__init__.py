"""Studies, which train a grid of runs and write tables, and the demo."""
