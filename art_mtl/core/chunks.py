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
    count, units, missing = -(-size // largest), -(-size // multiple), -size % multiple
    each, longer = divmod(units, count)
    most, last = multiple * (each + (longer > 0)), multiple * each - missing
    if most > largest or 2 * last < most:
        return even_parts(size, largest)
    stops = [min(multiple * (k * each + min(k, longer)), size) for k in range(count + 1)]
    return [slice(start, stop) for start, stop in zip(stops, stops[1:], strict=False)]


def chunks(size: int, chunk: int) -> list[slice]:
    """The chunks of a data set of ``size`` samples."""
    return even_parts(size, chunk, _GROUP)


def batches(size: int, batch_size: int, scope: str, group: int | None) -> Iterator[slice]:
    """Cut ``size`` samples into batches.

    With scope "dataset" no batch straddles two chunks. With scope "batch" batches hold whole groups, if they are large
    enough for one, so that their size decides no result; where a batch has weights of its own, all are of about equal
    length.

    Args:
        size: N.
        batch_size: Most samples of a batch.
        scope: Which samples share weights.
        group: Samples of a chunk ("dataset") or of a group ("batch"); None for the default and for all.
    """
    if scope == "batch":
        if group is None or batch_size < group:
            yield from even_parts(size, batch_size)
            return
        batch_size -= batch_size % group
    for chunk in chunks(size, group or DEFAULT_CHUNK) if scope == "dataset" else [slice(0, size)]:
        for start in range(chunk.start, chunk.stop, batch_size):
            yield slice(start, min(start + batch_size, chunk.stop))
