"""Data: annotations, images, crops, splits and batches."""
