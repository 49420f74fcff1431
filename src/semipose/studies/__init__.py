"""Studies: grids of trainings that become tables, and the demo."""
