"""semipose: train 2D human pose networks from few labels and many unlabeled images."""

__version__ = "0.1.0"
