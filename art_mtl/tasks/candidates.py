"""What detectors return before suppression, in one layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from art_mtl.precision import widen

BACKGROUNDS = ("first", "last")
"""Places of "no object" among the scores of a candidate."""


def names_in(output: Any) -> tuple[str, str] | None:
    """What boxes and scores are called in a mapping; None where it has none."""
    if not isinstance(output, Mapping):
        return None
    boxes = [name for name in ("boxes", "pred_boxes") if name in output]
    scores = [name for name in ("scores", "logits", "pred_logits") if name in output]
    return (boxes[0], scores[0]) if boxes and scores else None


def is_table(output: Any, num_classes: int) -> bool:
    """Whether this is one tensor of boxes and scores, in rows or in columns; see :func:`split_candidates`."""
    return isinstance(output, Tensor) and output.ndim == 3 and _width(output, num_classes) is not None


def split_candidates(output: Any, num_classes: int, background: str | None = None) -> tuple[Tensor, Tensor]:
    """Boxes ``(B, A, 4)`` and scores ``(B, A, C)`` in [0, 1] of candidates, in float32 at least.

    Args:
        output: A mapping of boxes ``(B, A, 4)``, ``(B, A, 1, 4)`` or ``(B, 4, A)``, and of scores or logits ``(B, A,
            C)`` or ``(B, C, A)``. Or a tensor of both, ``(B, A, 4 + C)``, ``(B, A, 5 + C)``, whose fifth column says
            whether there is an object and multiplies the scores, or the same with A last.
        num_classes: C, without a background.
        background: "first" or "last" of C + 1 scores or logits is "no object"; logits are softmaxed then. None: C + 1
            logits are softmaxed, and the last one is "no object"; C logits are those of a sigmoid each.

    Returns:
        Both. Where shapes fit none of these, tensors that the caller's check of shapes will refuse.

    Examples:
        >>> table = torch.tensor([[[5.0, 5.0, 2.0, 2.0, 0.5, 0.2, 0.8]]])
        >>> split_candidates(table, 2)[1], split_candidates(table.mT, 2)[1]
        (tensor([[[0.1000, 0.4000]]]), tensor([[[0.1000, 0.4000]]]))
        >>> logits = {"boxes": torch.zeros(1, 1, 4), "logits": torch.tensor([[[0.0, 0.0]]])}
        >>> split_candidates(logits, 1, "first")[1]
        tensor([[[0.5000]]])
    """
    if isinstance(output, Tensor):
        return _split_table(widen(output), num_classes, background)
    names = names_in(output)
    if names is None:
        raise TypeError(f"Candidates should be a tensor or a mapping of boxes and scores. Found {type(output)}.")
    boxes, scores = (widen(output[name]) for name in names)
    if boxes.ndim == 4 and boxes.shape[2:] == (1, 4):
        boxes = boxes.squeeze(2)
    boxes = _candidates_first(boxes, (4,))
    scores = _candidates_first(scores, (num_classes, num_classes + 1))
    wide = scores.ndim == 3 and scores.shape[2] == num_classes + 1
    if "logits" in names[1]:
        background = background or ("last" if wide else None)
        scores = torch.sigmoid(scores) if background is None else scores.softmax(-1)
    return boxes, _without(scores, background)


def _split_table(table: Tensor, num_classes: int, background: str | None) -> tuple[Tensor, Tensor]:
    width = _width(table, num_classes)
    if width is None:
        return table, table
    table = _candidates_first(table, (width,))
    boxes, scores = table[..., :4], table[..., 4:]
    if width == 5 + num_classes and background is None:
        return boxes, scores[..., :1] * scores[..., 1:]
    return boxes, _without(scores, background)


def _width(table: Tensor, num_classes: int) -> int | None:
    """Numbers of a candidate in a table."""
    widths = (4 + num_classes, 5 + num_classes)
    return next((size for size in (table.shape[2], table.shape[1]) if size in widths), None)


def _candidates_first(found: Tensor, widths: tuple[int, ...]) -> Tensor:
    """``(B, A, n)`` of the same or of ``(B, n, A)``, n one of ``widths``."""
    turned = found.ndim == 3 and found.shape[2] not in widths and found.shape[1] in widths
    return found.mT if turned else found


def _without(scores: Tensor, background: str | None) -> Tensor:
    """Without the score of "no object"."""
    if background is None:
        return scores
    return scores[..., 1:] if background == "first" else scores[..., :-1]
