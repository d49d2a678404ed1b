"""Keypoints: named points of a face, a hand or a body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from art_mtl import losses, metrics
from art_mtl.metrics import Metric
from art_mtl.metrics.statistics import valid_values
from art_mtl.precision import widen
from art_mtl.tasks.colours import Array, point_picture
from art_mtl.tasks.elementwise import ElementwiseTask
from art_mtl.tasks.label_checks import (
    check_count,
    check_image_size,
    check_positive,
    is_number,
    output_error,
    shape_error,
)
from art_mtl.tasks.picking import OutputPicker, pick
from art_mtl.tasks.target import DenseTarget, PlacedTarget


def _is_list(outputs: Any) -> bool:
    """Whether this is one dict of detections with their points per sample."""
    names = {"keypoints", "keypoints_scores", "scores"}
    rows = outputs if isinstance(outputs, list) else []
    return bool(rows) and all(isinstance(one, Mapping) and names <= one.keys() for one in rows)


if TYPE_CHECKING:
    import torchmetrics


def keypoints(
    name: str,
    num_points: int,
    normalise: float | tuple[int, int] | str = "box",
    output: OutputPicker = None,
    *,
    pck: float | None = None,
    stride: float = 1.0,
    image_size: tuple[float, float] | None = None,
) -> Keypoints:
    """Named points, x before y: output ``(B, P, 2)``, ``(B, 2P)`` or heatmaps ``(B, P, H, W)``, labels ``(N, P, 2)``.

    Labels may be ``(N, 2P)`` too, or ``(N, P, 3)``, of which the third number is COCO's visibility: 0 is a point that
    is not labelled. So is a point with NaN. A heatmap becomes the mean of its places under its softmax (soft-argmax:
    Sun et al., ECCV 2018).

    An output may also be a list of one dict per sample, "keypoints" ``(M, P, 3)``, "keypoints_scores" ``(M, P)`` and
    "scores" ``(M,)``, as torchvision's Keypoint R-CNN returns: points are those of the detection with the best score.
    Where nothing is detected, each point is one length off (see ``normalise``), which is never right by ``pck``. The
    model's own predictions have the points of a score above 0 as labels. torchvision takes points off heatmaps by
    arg-max, so that gradients run through the detection's box alone.

    Loss, error and metric (NME): the distance of each visible point, divided by a length of the sample; mean over all
    visible points. With ``pck`` the metric is the share of points that are right, and the score the closeness
    ``2 ** (-distance / pck)``.

    Args:
        name: Name of the task.
        num_points: P.
        normalise: The length: that between two points (such as the eyes), ``(36, 45)``; "box", √(width · height) of the
            box around the visible points; or a number, 1 for distances in the unit of the labels.
        output: See :class:`art_mtl.tasks.Task`.
        pck: Share of the length within which a point is right (PCK: Yang & Ramanan, TPAMI 2013); None for NME.
        stride: Of heatmaps: pixels of the image from one of their places to the next. The first is at 0.
        image_size: Height and width of the image in the unit of the labels, for pictures and patches; None for pixels.
            With ``ignore_patch`` a point under an adversarial patch does not count.

    Raises:
        ValueError: An argument is not one of these.

    Examples:
        >>> task = keypoints("eyes", num_points=2, normalise=(0, 1))
        >>> target = task.targets(np.array([[[0.0, 0.0], [10.0, 0.0]]]))
        >>> task.loss(task.check_output(torch.tensor([[[0.0, 1.0], [13.0, 4.0]]]), target), target)
        tensor([0.3000])
    """
    return Keypoints(
        name=name,
        num_points=num_points,
        normalise=normalise,
        output=output,
        pck=pck,
        stride=stride,
        image_size=image_size,
    )


@dataclass(frozen=True, kw_only=True)
class Keypoints(ElementwiseTask):
    """See :func:`keypoints`. Canonical labels hold x, y and the length of the sample, ``(B, 3, P)``."""

    kind: ClassVar[str] = "keypoints"
    is_map: ClassVar[bool] = True
    picture_key: ClassVar[str] = "a colour each point"
    over_image: ClassVar[bool] = True

    num_points: int
    normalise: float | tuple[int, int] | str = "box"
    pck: float | None = None
    stride: float = 1.0
    image_size: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "num_points", check_count("num_points", self.num_points, least=1))
        object.__setattr__(self, "normalise", self._checked_length())
        for argument in ("pck", "stride"):
            if getattr(self, argument) is not None:
                object.__setattr__(self, argument, check_positive(self.name, argument, getattr(self, argument)))
        object.__setattr__(self, "image_size", check_image_size(self.name, self.image_size))

    def _checked_length(self) -> float | tuple[int, int] | str:
        given: Any = self.normalise
        if isinstance(given, str) and given == "box":
            return "box"
        if is_number(given) and given > 0:
            return float(given)
        if isinstance(given, (tuple, list)) and len(given) == 2:
            pair = tuple(check_count("normalise", place, least=0) for place in given)
            if pair[0] != pair[1] and max(pair) < self.num_points:
                return pair[0], pair[1]
        raise ValueError(
            f"Parameter `normalise` of task {self.name!r} should be 'box', a positive number or two different points "
            f"in [0, {self.num_points - 1}]. Found {given!r}."
        )

    @property
    def decides(self) -> bool:
        """Whether points are right or wrong."""
        return self.pck is not None

    @cached_property
    def metric(self) -> Metric:
        """NME or PCK."""
        if self.pck is None:
            return metrics.mean_of("NME", losses.normalised_distance, higher_is_better=False, scale=100.0)
        return _pck(self.pck)

    @property
    def further_metrics(self) -> Mapping[str, Metric]:
        """See :meth:`Task.further_metrics`."""
        nme = metrics.mean_of("NME", losses.normalised_distance, higher_is_better=False, scale=100.0)
        return {"nme": nme, **{f"pck-{share:g}": _pck(share) for share in (0.05, 0.1, 0.2)}}

    def torchmetrics_arguments(self, output: Any, target: Any, like: torchmetrics.Metric) -> tuple[Any, ...]:
        """See :meth:`Task.torchmetrics_arguments`: predicted and true points that are visible, ``(M, 2)``."""
        return valid_values(output, target.value[:, :2], target.valid)

    @property
    def score_floor(self) -> float:
        """In lengths of the sample, or a closeness."""
        return 1e-3 if self.pck is None else 0.01

    @property
    def loss_floor(self) -> float:
        """In lengths of the sample."""
        return 1e-3

    def select(self, outputs: Any, position: int, count: int | None = None) -> Any:
        """See :meth:`Task.select`; of a list of detections the best one of each sample, ``(B, P, 3)``: x, y, and the
        score of the point as a probability, 0 where nothing is detected.
        """
        whole = self.output is None and _is_list(outputs)
        chosen = outputs if whole else pick(outputs, self.name, self.output, position, count)
        if _is_list(chosen):
            chosen = torch.stack([self._best(one) for one in chosen])
        self.check_selected(chosen)
        return chosen

    def _best(self, one: Mapping[str, Tensor]) -> Tensor:
        """The points of the best detection of one sample, ``(P, 3)``."""
        points, point_scores = widen(one["keypoints"]), widen(one["keypoints_scores"])
        if points.ndim != 3 or points.shape[1] != self.num_points:
            raise output_error(self.name, f"(M, {self.num_points}, 3)", points)
        if not len(points):
            return points.new_zeros(self.num_points, 3)
        best = one["scores"].argmax()
        seen = point_scores[best].sigmoid().clamp(min=torch.finfo(points.dtype).tiny)
        return torch.cat([points[best, :, :2], seen[:, None]], 1)

    def encode(self, y: Tensor, present: Tensor) -> PlacedTarget:
        """``(N, P, 2)``, ``(N, 2P)``, ``(N, P, 3)`` with visibility, or heatmaps, which are decoded."""
        seen = torch.ones(len(y), self.num_points, dtype=torch.bool, device=y.device)
        if y.ndim == 3 and tuple(y.shape[1:]) == (self.num_points, 3):
            y, seen = y[..., :2], (y[..., 2] > 0) | y[..., 2].isnan()
            self._check_seen(seen, present)
        points = self._points(y)
        if points is None:
            found = f"(N, {self.num_points}, 2), (N, {2 * self.num_points}) or (N, {self.num_points}, 3)"
            raise shape_error(self.name, found, y)
        points = points.float()
        valid = seen & ~points.isnan().any(1) & present[:, None]
        points = torch.where(valid[:, None], points, torch.zeros_like(points))
        length = self._lengths(points, valid)
        value = torch.cat([points, length[:, None, None].expand(-1, 1, self.num_points)], 1)
        return PlacedTarget(value, valid, image_size=self.image_size)

    def _check_seen(self, seen: Tensor, present: Tensor) -> None:
        hidden = (present & ~seen.any(1)).nonzero()[:, 0]
        if len(hidden):
            raise ValueError(
                f"The labels of task {self.name!r} should have a visible point in each sample, or None for a sample "
                f"without. Found none in sample {int(hidden[0])}."
            )

    def _lengths(self, points: Tensor, valid: Tensor) -> Tensor:
        """The length of each sample, ``(N,)``; 1 where nothing is valid."""
        if isinstance(self.normalise, float):
            return points.new_full((len(points),), self.normalise)
        known = valid.any(1)
        if isinstance(self.normalise, tuple):
            first, second = self.normalise
            length = (points[:, :, first] - points[:, :, second]).square().sum(1).sqrt()
            good = valid[:, first] & valid[:, second] & (length > 0)
            what = f"the points {first} and {second} visible and apart"
        else:
            high = torch.where(valid[:, None], points, -torch.inf).amax(2)
            low = torch.where(valid[:, None], points, torch.inf).amin(2)
            length = torch.where(known[:, None], high - low, 1.0).prod(1).sqrt()
            good, what = length > 0, "visible points that span a box"
        bad = (known & ~good).nonzero()[:, 0]
        if len(bad):
            raise ValueError(
                f"The labels of task {self.name!r} should have {what}, since distances are divided by their extent "
                f"(normalise={self.normalise!r}). Found none in sample {int(bad[0])}."
            )
        return torch.where(known, length, 1.0)

    @property
    def missing_mark(self) -> float:
        """NaN."""
        return float("nan")

    def check_labels(self, y: Tensor) -> None:
        """Raise ValueError unless all labels are finite, but for those that are NaN."""
        super().check_labels(torch.where(y.isnan(), 0.0, y) if y.is_floating_point() else y)

    def _points(self, tensor: Tensor) -> Tensor | None:
        """Outputs or labels as ``(B, 2, P)``; None where they are of another shape."""
        if tensor.ndim == 4 and tensor.shape[1] == self.num_points:
            return losses.soft_argmax(widen(tensor)) * self.stride
        if self._has_scores(tensor):
            tensor = tensor[..., :2]
        if tensor.ndim == 2 and tensor.shape[1] == 2 * self.num_points:
            tensor = tensor.reshape(-1, self.num_points, 2)
        return tensor.mT if tensor.ndim == 3 and tuple(tensor.shape[1:]) == (self.num_points, 2) else None

    def lay_out(self, output: Tensor, target: DenseTarget) -> Tensor:
        """``(B, 2, P)``."""
        points = self._points(output)
        if points is None or len(points) != len(target):
            count, p = len(target), self.num_points
            raise output_error(self.name, f"({count}, {p}, 2), ({count}, {2 * p}) or ({count}, {p}, H, W)", output)
        if not self._has_scores(output):
            return points
        length = F.pad(target.value[:, 2:], (0, 0, 0, 1))  # to the right
        return torch.where(output[:, None, :, 2] > 0, points, (target.value[:, :2] + length).to(points.dtype))

    def _has_scores(self, output: Tensor) -> bool:
        """Whether it is points of detections, with their scores."""
        return output.ndim == 3 and tuple(output.shape[1:]) == (self.num_points, 3)

    def decode(self, output: Any) -> Any:
        """Points ``(B, P, 2)``; heatmaps by soft-argmax. Of detections, points whose score is not above 0 are NaN."""
        points = self._points(output) if isinstance(output, Tensor) else None
        if points is None:
            return output
        return torch.where(output[..., 2:] > 0.5, points.mT, torch.nan) if self._has_scores(output) else points.mT

    def loss_elements(self, output: Tensor, value: Tensor) -> Tensor:
        """Distance over the length of the sample."""
        return losses.normalised_distance(output, value)

    def score_elements(self, output: Tensor, value: Tensor) -> Tensor:
        """The same, or with ``pck`` the closeness."""
        distance = losses.normalised_distance(output, value)
        return distance if self.pck is None else losses.closeness(distance, self.pck)

    def margin_elements(self, output: Tensor, value: Tensor) -> Tensor:
        """By how much a point is within the distance that is right."""
        if self.pck is None:
            return super().margin_elements(output, value)
        return self.pck - losses.normalised_distance(output, value)

    @property
    def metric_is_mean_score(self) -> bool:
        """Of NME."""
        return self.pck is None

    def shown(self, target: DenseTarget) -> Array:
        """``(N, P, 2)``, NaN where a point is not visible."""
        points = torch.where(target.valid[:, None], target.value[:, :2], float("nan"))
        return points.mT.cpu().numpy()

    def picture(self, label: Array, limits: tuple[float, float] | None = None, image: Array | None = None) -> Array:
        """A square over the image for each point, of a colour of its own."""
        points = np.asarray(label, dtype=float).reshape(self.num_points, 2)
        return point_picture(points, self.image_size, image)

    def caption(self, label: Array, unit: str = "") -> str:
        """How many points are visible."""
        return f"{int((~np.isnan(label).any(-1)).sum())} of {self.num_points} points"


def _pck(threshold: float) -> Metric:
    """Share of the points that are right."""
    within = metrics.Bound(losses.is_near, threshold=threshold)
    return metrics.mean_of(f"PCK@{threshold:g}", within, higher_is_better=True, scale=100.0)
