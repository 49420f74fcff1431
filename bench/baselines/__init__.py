"""The field's usual way of doing the same work, to measure against."""
