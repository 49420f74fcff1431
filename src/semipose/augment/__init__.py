"""Easy and hard views, and the augmentations of hard views."""
