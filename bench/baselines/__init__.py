"""The usual implementations of the same work, to compare with."""
