"""Bytes made smaller for the database of a run, and made large again up to a limit."""

from __future__ import annotations

import zlib

_FAST = 1
"""Level of compression: 6, the default, takes several times as long."""

__all__ = ["compressed", "decompressed"]


def compressed(data: bytes) -> bytes:
    """The bytes in fewer."""
    return zlib.compress(data, _FAST)


def decompressed(data: bytes, limit: int) -> bytes:
    """From what :func:`compressed` made.

    Args:
        data: The bytes.
        limit: Bytes that the result may have.

    Raises:
        ValueError: It is damaged, or too large.

    Examples:
        >>> decompressed(compressed(b"seven" * 7), limit=35) == b"seven" * 7
        True
        >>> decompressed(compressed(b"seven" * 7), limit=34)
        Traceback (most recent call last):
        ValueError: it is cut off, or has more than 34 bytes
    """
    unpacker = zlib.decompressobj()
    try:
        found = unpacker.decompress(data, limit)
        rest = b"" if unpacker.eof else unpacker.decompress(unpacker.unconsumed_tail, 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if not unpacker.eof or rest:
        raise ValueError(f"it is cut off, or has more than {limit} bytes")
    return found
