"""Pose networks: backbones, heads and pretrained weights."""
