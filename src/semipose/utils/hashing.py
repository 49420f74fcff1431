"""Digests that identify content."""

import hashlib


def content_digest(content: bytes) -> str:
    """Returns 16 hexadecimal digits (64 bits of BLAKE2b) that identify `content`."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()
