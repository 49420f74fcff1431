"""Fault injection: breaks things on purpose and counts what does not survive."""
