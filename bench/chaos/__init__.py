"""Harnesses that break things on purpose and count what does not survive."""
