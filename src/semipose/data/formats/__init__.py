"""Readers and writers of annotation files, detections and results."""
