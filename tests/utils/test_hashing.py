"""Digests identify content."""

from semipose.utils.hashing import content_digest


def test_digests_change_with_the_content_alone():
    assert content_digest(b"a") == content_digest(bytes([97]))
    assert len({content_digest(bytes([n])) for n in range(256)}) == 256
    assert len(content_digest(b"")) == 16
    assert int(content_digest(b"a"), 16) < 2**64
