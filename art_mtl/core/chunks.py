"""How a data set is cut: into chunks that share weights, and these into batches."""

from __future__ import annotations

from collections.abc import Iterator

DEFAULT_CHUNK = 256
"""Samples of a chunk, the part of a data set over which weights are shared, where the method does not say."""
_GROUP = 4
"""The neighbours that share weights in the authors' published loop: chunks hold whole groups of them."""


def even_parts(size: int, largest: int, multiple: int = 1) -> list[slice]:
    """Neighbouring parts of ``size`` samples, of about equal length, each of at most ``largest``.

    A last part of one or two samples would be attacked with weights of its own, which is much weaker.

    Args:
        size: N ≥ 0.
        largest: At least 1.
        multiple: Parts hold a multiple of as many samples, but for the last one, where that keeps them even.

    Examples:
        >>> [part.stop - part.start for part in even_parts(257, 256, multiple=4)]
        [132, 125]
    """
    if size == 0:
        return []
    count = -(-size // largest)
    length = -(-size // count)
    rounded = -(-length // multiple) * multiple
    last = size - (count - 1) * rounded
    if rounded <= largest and 2 * last >= rounded:
        return [slice(start, min(start + rounded, size)) for start in range(0, size, rounded)]
    longer = size - count * (size // count)
    stops = [k * (size // count) + min(k, longer) for k in range(count + 1)]
    return [slice(start, stop) for start, stop in zip(stops, stops[1:], strict=False)]


def chunks(size: int, chunk: int) -> list[slice]:
    """The chunks of a data set of ``size`` samples."""
    return even_parts(size, chunk, _GROUP)


def batches(size: int, batch_size: int, scope: str, group: int | None) -> Iterator[slice]:
    """Cut ``size`` samples into batches.

    With scope "dataset" no batch straddles two chunks. With scope "batch" batches hold whole groups, if they are large
    enough for one, and are of about equal length, since each has weights of its own.

    Args:
        size: N.
        batch_size: Most samples of a batch.
        scope: Which samples share weights.
        group: Samples of a chunk ("dataset") or of a group ("batch"); None for the default and for all.
    """
    if scope == "batch":
        whole = group or 1
        largest = batch_size - batch_size % whole if batch_size >= whole else batch_size
        yield from even_parts(size, largest, whole)
        return
    for chunk in chunks(size, group or DEFAULT_CHUNK) if scope == "dataset" else [slice(0, size)]:
        for start in range(chunk.start, chunk.stop, batch_size):
            yield slice(start, min(start + batch_size, chunk.stop))
