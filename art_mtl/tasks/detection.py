"""Detection: boxes of objects, as many as an image has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from art_mtl import metrics
from art_mtl.metrics import Metric, further
from art_mtl.precision import widen
from art_mtl.structure import map_tensors, tensors_in
from art_mtl.tasks.anchors import Anchors, make_anchors
from art_mtl.tasks.base import Measures, Task, sample_sum
from art_mtl.tasks.boxes import FORMS, from_corners, overlaps, suppress, to_corners
from art_mtl.tasks.candidates import BACKGROUNDS, is_table, names_in, split_candidates
from art_mtl.tasks.colours import Array, box_picture
from art_mtl.tasks.label_checks import check_choice, check_count, check_image_size, check_present, check_share, integers
from art_mtl.tasks.picking import OutputPicker, describe
from art_mtl.tasks.target import DenseTarget, PlacedTarget

METRICS = {
    "map": metrics.mean_average_precision,
    "map_50": metrics.mean_average_precision_50,
    "recall": metrics.recall_of_objects,
}
IGNORED, NOTHING = -1, -2
"""Classes of a region that does not count, and of an image in which nothing is to be found."""

OVERLAP = 0.5
"""IoU from which a candidate lies on an object."""
_LEAST_SCORE, _MOST, _MOST_CANDIDATES = 0.05, 100, 1000
"""What suppression leaves out and keeps, as torchvision's detectors do; COCO's metric takes 100 boxes an image."""
_SMALLEST = 1e-4
"""Score whose logarithm is the greatest loss of an image in which no object is found."""
_SLACK = 0.01
"""Share of the image by which rounded boxes may reach over its edge."""

DetectionLoss = Callable[[Any, Sequence[Mapping[str, Tensor]]], Tensor]
"""``(raw output, one dict of boxes and labels a sample) -> (B,)``"""


def detection(
    name: str,
    num_classes: int,
    boxes: str = "xyxy",
    output: OutputPicker = None,
    *,
    image_size: tuple[float, float] | None = None,
    score_threshold: float = 0.5,
    metric: str = "map",
    loss: DetectionLoss | None = None,
    background: str | None = None,
    anchors: Any = None,
    box_coding: str | Sequence[float] | None = None,
    strides: Any = None,
) -> Detection:
    """Boxes of objects: labels are one dict ``{"boxes": (M, 4), "labels": (M,)}`` a sample, None where there is none.

    An output is one of these:

    - a mapping of candidates before suppression: "boxes" ``(B, A, 4)``, and "scores" ``(B, A, C)`` in [0, 1] or
      "logits" ``(B, A, C)``, of which the sigmoid is taken. With C + 1 logits it is the softmax, whose last class is
      "no object"; ``background`` says otherwise. The names of DETR, "pred_boxes" and "pred_logits", are taken too.
    - a tensor of both ``(B, A, 4 + C)``, or ``(B, A, 5 + C)`` whose fifth column says whether there is an object and
      multiplies the scores, as exported YOLO detectors return. In tensors and mappings A may come last.
    - a list of one dict a sample, "boxes" ``(M, 4)``, "labels" and "scores" ``(M,)``, as torchvision's detectors return
      in evaluation mode; then the candidates are what they have kept.

    ``output=`` may be a callable that makes either of what the model returns.

    Score of an image: the mean over its objects of the best score of the right class among the candidates that lie on
    the object, with an IoU of at least 0.5; in [0, 1]. Loss: −log of the score, plus log(1 + Σ) over the scores of
    false alarms: of each candidate the best score of a class that no object under it has. Metric: mAP by torchmetrics,
    or recall. In the attack loop "objects found" stands for it: the share of objects whose best score reaches
    ``score_threshold``. An image without objects is out of play.

    Attacks towards targets take other boxes; :meth:`Detection.nothing` makes targets without any object. Boxes where
    there are none, and other classes, need candidates: in a list there is no score of what suppression has dropped.
    With ``ignore_patch`` an object that an adversarial patch covers wholly does not count: it is hidden, not missed. An
    object that is covered in part counts.

    Args:
        name: Name of the task.
        num_classes: C; labels are in [0, C). Where labels count a background, as those of torchvision do, so does C.
        boxes: Form of the boxes in labels and outputs: "xyxy" corners, "xywh" a corner and a size, "cxcywh" the centre
            and a size. In pixels or shares of the image, in both alike.
        output: See :class:`art_mtl.tasks.Task`. By default also the whole output, where it is of one of these layouts.
        image_size: Height and width of the image in the unit of the boxes, ``(1, 1)`` for shares. Boxes outside are
            refused. None: only coordinates below 0 are refused, and pictures take boxes for pixels.
        score_threshold: From which score on an object is found, and a candidate a prediction of the model.
        metric: "map" (mean over IoU of 0.5, 0.55, …, 0.95), "map_50" (IoU of 0.5) or "recall" (share of objects found).
        loss: The model's own loss, ``(output, labels) -> (B,)``, in place of the one above: of the output as ``output``
            picks it, and of one dict of boxes (in the form of ``boxes``) and labels a sample.
        background: "first" or "last" of C + 1 scores or logits of a candidate is "no object", which is no class; logits
            are softmaxed. None: see above.
        anchors: Of candidates whose boxes are relative to them, as heads return before they are decoded: ``(A, 4)`` in
            the form of ``boxes``. Or arguments of :func:`~art_mtl.tasks.anchors.grid_anchors`, ``{"sizes": …, "ratios":
            …, "strides": …, "image_size": …}``, or with "scales" those of SSD's
            :func:`~art_mtl.tasks.anchors.default_boxes`. None: boxes are decoded.
        box_coding: How boxes are relative to anchors, see :func:`~art_mtl.tasks.anchors.decode_boxes`: "faster-rcnn"
            (None), "ssd", "retinanet", "fcos", "yolov3", "yolov5", or four weights of differences (dx, dy, dw, dh).
        strides: Of anchors that are an array, sizes of their cells, for the codings of YOLO.

    Raises:
        ValueError: An argument is not one of these.

    Examples:
        >>> task = detection("cars", num_classes=2)
        >>> target = task.targets([{"boxes": [[0, 0, 10, 10]], "labels": [1]}, None])
        >>> output = {"boxes": torch.tensor([[[0.0, 0, 10, 9], [20, 20, 30, 30]]] * 2),
        ...           "scores": torch.tensor([[[0.0, 0.8], [0.5, 0.0]]] * 2)}
        >>> output = task.check_output(output, target)
        >>> task.score(output, target), task.statistics(output, target).tolist()
        (tensor([0.8000, 0.0000]), [[1.0, 1.0], [0.0, 0.0]])
    """
    return Detection(
        name=name,
        num_classes=num_classes,
        boxes=boxes,
        output=output,
        image_size=image_size,
        score_threshold=score_threshold,
        reported=metric,
        own_loss=loss,
        background=background,
        anchors=make_anchors(name, anchors, box_coding, strides, boxes),
    )


@dataclass(frozen=True, kw_only=True)
class Detection(Task):
    """See :func:`detection`.

    Canonical labels are a :class:`~art_mtl.tasks.target.PlacedTarget`: ``value`` ``(B, 5, M)`` holds corners and the
    class of each object, padded to the most objects of an image; ``valid`` ``(B, M)`` says which of them count. A
    checked output is a dict: "boxes" ``(B, A, 4)`` as corners, "scores" ``(B, A, C)``, and "final", whether these are
    predictions that suppression has left; with a loss of one's own "raw" too.
    """

    kind: ClassVar[str] = "detection"
    is_map: ClassVar[bool] = True
    picture_key: ClassVar[str] = "a colour each class"
    over_image: ClassVar[bool] = True

    num_classes: int
    boxes: str = "xyxy"
    image_size: tuple[float, float] | None = None
    score_threshold: float = 0.5
    reported: str = "map"
    own_loss: DetectionLoss | None = None
    background: str | None = None
    anchors: Anchors | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "num_classes", check_count("num_classes", self.num_classes, least=1))
        check_choice(self.name, "boxes", self.boxes, FORMS)
        check_choice(self.name, "metric", self.reported, METRICS)
        if self.background is not None:
            check_choice(self.name, "background", self.background, BACKGROUNDS)
        object.__setattr__(self, "score_threshold", check_share(self.name, "score_threshold", self.score_threshold))
        object.__setattr__(self, "image_size", check_image_size(self.name, self.image_size))
        if self.own_loss is not None and not callable(self.own_loss):
            raise TypeError(f"Parameter `loss` of task {self.name!r} should be a callable. Found {self.own_loss!r}.")

    @cached_property
    def metric(self) -> Metric:
        """mAP or recall."""
        return METRICS[self.reported]()

    @property
    def score_floor(self) -> float:
        """A score in [0, 1]."""
        return 0.01

    @property
    def loss_floor(self) -> float:
        """In nats."""
        return 0.01

    # --- outputs ---

    def select(self, outputs: Any, position: int, count: int | None = None) -> Any:
        """See :meth:`Task.select`; the whole output, where ``output`` is None and it is of a layout that is taken."""
        whole = self.output is None and (_is_list(outputs) or names_in(outputs) is not None)
        return outputs if whole else super().select(outputs, position, count)

    def check_selected(self, output: Any) -> None:
        """Raise ValueError unless it is one of the layouts of :func:`detection`."""
        if not _is_list(output) and names_in(output) is None and not is_table(output, self.num_classes):
            rows = f"(B, A, {4 + self.num_classes}) or (B, A, {5 + self.num_classes})"
            raise ValueError(
                f"The model's output for task {self.name!r} should be a mapping with 'boxes' and 'scores' or 'logits', "
                f"a tensor {rows} of both, or a list of one dict a sample with 'boxes', 'labels' and 'scores'. "
                f"Found {describe(output)}."
            )

    def check_size(self, output: Any, size: int) -> None:
        """Raise ValueError unless the output is of ``size`` samples."""
        if isinstance(output, list):
            if len(output) != size:
                raise ValueError(
                    f"The model's output for task {self.name!r} should have one entry for each of {size} samples. "
                    f"Found {len(output)}."
                )
        else:
            super().check_size(output, size)

    def slice_output(self, output: Any, rows: slice | Tensor | int) -> Any:
        """The output of some of the samples."""
        if not isinstance(output, list):
            return super().slice_output(output, rows)
        if isinstance(rows, Tensor):
            places = rows.nonzero()[:, 0] if rows.dtype == torch.bool else rows
            return [output[i] for i in places.tolist()]
        return output[rows]

    def join_outputs(self, parts: Sequence[Any]) -> Any:
        """The output of a batch from those of its parts."""
        if isinstance(parts[0], list):
            return [sample for part in parts for sample in part]
        return super().join_outputs(parts)

    def check_output(self, output: Any, target: Any) -> dict[str, Any]:
        """Candidates of one layout, in float32 at least; see the class."""
        found = self._candidates(output)
        boxes, scores = found["boxes"], found["scores"]
        expected = (len(target), boxes.shape[1], self.num_classes)
        if boxes.ndim != 3 or boxes.shape[::2] != (len(target), 4) or tuple(scores.shape) != expected:
            more = f"or logits of {self.num_classes + 1} classes with 'no object'; `background` says which that is"
            if self.background is not None:
                more = f"and one for 'no object', the {self.background}"
            shapes = " and ".join(str(tuple(one.shape)) for one in tensors_in(output))
            raise ValueError(
                f"The model's output for task {self.name!r} should have boxes of shape ({len(target)}, A, 4) and "
                f"scores of shape ({len(target)}, A, {self.num_classes}), {more}. Found {shapes}."
            )
        return found if self.own_loss is None else {**found, "raw": map_tensors(output, widen)}

    def finite(self, output: Any) -> Tensor:
        """See :meth:`Task.finite`."""
        if isinstance(output, list):
            return torch.stack([torch.isfinite(one["boxes"].sum() + one["scores"].sum()) for one in output])
        names = names_in(output)
        if names is None:
            return super().finite(output)
        boxes, scores = (sample_sum(output[name].detach()) for name in names)
        return torch.isfinite(boxes + scores)

    def _candidates(self, output: Any) -> dict[str, Any]:
        if isinstance(output, list):
            return self._from_list(output)
        self.check_selected(output)
        boxes, scores = split_candidates(output, self.num_classes, self.background)
        if self.anchors is None and boxes.ndim == 3 and boxes.shape[1] == 0 and scores.ndim == 3:
            boxes, scores = boxes.new_zeros(len(boxes), 1, 4), scores.new_zeros(len(boxes), 1, scores.shape[2])
        return {"boxes": self._corners(boxes), "scores": scores, "final": False}

    def _corners(self, boxes: Tensor) -> Tensor:
        """Corners of candidates."""
        if self.anchors is None:
            return to_corners(boxes, self.boxes)
        if boxes.ndim != 3 or boxes.shape[1:] != (len(self.anchors), 4):
            raise ValueError(
                f"The model's output for task {self.name!r} should have boxes of shape (B, {len(self.anchors)}, 4), "
                f"one an anchor. Found {tuple(boxes.shape)}."
            )
        return self.anchors.decode(boxes)

    def _from_list(self, output: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
        """Predictions of one dict a sample, padded with scores of 0."""
        boxes, scores = [], []
        for one in output:
            labels = one["labels"].long()
            if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < self.num_classes:
                raise ValueError(
                    f"The model's output for task {self.name!r} should have classes in [0, {self.num_classes - 1}]. "
                    f"Found [{int(labels.min())}, {int(labels.max())}]; `num_classes` counts a background too."
                )
            score = widen(one["scores"])
            each = score.new_zeros(len(labels), self.num_classes).scatter(1, labels[:, None], score[:, None])
            boxes.append(to_corners(widen(one["boxes"]), self.boxes))
            scores.append(each)
        return {"boxes": _padded(boxes), "scores": _padded(scores), "final": True}

    # --- labels ---

    def targets(self, y: Any, present: np.ndarray | Tensor | None = None) -> PlacedTarget:
        """One dict a sample; see :func:`detection`.

        Raises:
            TypeError: Classes are no integers.
            ValueError: A box is outside the image, or its corners are in the wrong order; a class is out of range.
        """
        rows = list(y)
        known = check_present(self.name, torch.zeros(len(rows)), present)
        parts = [
            self._row(i, row) if row is not None and here else torch.zeros(5, 0)
            for i, (row, here) in enumerate(zip(rows, known.tolist(), strict=True))
        ]
        most = max([1, *(part.shape[1] for part in parts)])
        value, valid = torch.zeros(len(rows), 5, most), torch.zeros(len(rows), most, dtype=torch.bool)
        value[:, 4] = IGNORED
        for i, part in enumerate(parts):
            value[i, :, : part.shape[1]] = part
            valid[i, : part.shape[1]] = part[4] != IGNORED
        return PlacedTarget(value, valid, boxes=True, image_size=self.image_size)

    def _row(self, sample: int, row: Any) -> Tensor:
        """The objects of one sample, corners and class ``(5, M)``; IGNORED where one does not count."""
        if isinstance(row, Mapping) and names_in(row) is not None:
            row = self._decoded(self._one(row), form=self.boxes)
        if not isinstance(row, Mapping) or not {"boxes", "labels"} <= row.keys():
            raise self._bad("a dict with 'boxes' and 'labels' for each sample", describe(row), sample)
        boxes, labels = _filled(row["boxes"], np.nan).float(), _filled(row["labels"], IGNORED)
        if boxes.numel() == 0 and labels.numel() == 0:
            return torch.zeros(5, 0)
        if boxes.ndim != 2 or boxes.shape[1] != 4 or tuple(labels.shape) != (len(boxes),):
            found = f"{tuple(boxes.shape)} and {tuple(labels.shape)}"
            raise self._bad("boxes of shape (M, 4) and labels of shape (M,)", found, sample)
        unknown = boxes.isnan().any(1)
        if labels.is_floating_point():
            labels = labels.nan_to_num(nan=IGNORED)
        labels = integers(self.name, labels)
        if "valid" in row:
            labels = torch.where(_filled(row["valid"], False).bool(), labels, IGNORED)
        boxes, labels = to_corners(boxes[~unknown], self.boxes), labels[~unknown]
        self._check_boxes(boxes[labels != NOTHING], sample)
        wrong = labels[(labels >= self.num_classes) | (labels < NOTHING)]
        if len(wrong):
            raise self._bad(
                f"of classes in [0, {self.num_classes - 1}], or {IGNORED} to ignore", f"{wrong.tolist()}", sample
            )
        return torch.cat([boxes, labels[:, None].float()], 1).T

    def _check_boxes(self, boxes: Tensor, sample: int) -> None:
        if not bool((boxes[:, 2:] > boxes[:, :2]).all()):
            bad = boxes[(boxes[:, 2:] <= boxes[:, :2]).any(1)][0].tolist()
            raise self._bad("boxes with x1 < x2 and y1 < y2", f"{bad} as corners", sample)
        height, width = (np.inf, np.inf) if self.image_size is None else self.image_size
        far = torch.tensor([width, height, width, height])
        slack = _SLACK * (far if self.image_size is not None else boxes.flatten().amax() if len(boxes) else 0)
        outside = (boxes < -slack) | (boxes > far + slack) | boxes.isinf()
        if bool(outside.any()):
            where = "" if self.image_size is None else f" of height {height:g} and width {width:g}"
            found = f"{boxes[outside.any(1)][0].tolist()} as corners"
            raise self._bad(f"boxes inside the image{where}", found, sample)

    def _bad(self, expected: str, found: str, sample: int) -> ValueError:
        return ValueError(f"The labels of task {self.name!r} should be {expected}. Found {found} in sample {sample}.")

    def from_pixels(self, label: Any, size: tuple[int, int] | None) -> Any:
        """See :meth:`Task.from_pixels`: boxes in the unit of ``image_size`` and the form of ``boxes``.

        Examples:
            >>> task = detection("cars", num_classes=2, boxes="cxcywh", image_size=(1, 1))
            >>> task.from_pixels({"boxes": np.array([[0.0, 0.0, 8.0, 4.0]]), "labels": np.array([1])}, (16, 16))
            {'boxes': array([[0.25 , 0.125, 0.5  , 0.25 ]], dtype=float32), 'labels': array([1])}
        """
        boxes = torch.as_tensor(label["boxes"], dtype=torch.float32).reshape(-1, 4)
        if self.image_size is not None and size is not None:
            boxes = boxes * torch.tensor([self.image_size[1] / size[1], self.image_size[0] / size[0]] * 2)
        return {**label, "boxes": from_corners(boxes, self.boxes).numpy()}

    def nothing(self, count: int) -> list[dict[str, Array]]:
        """Targets of ``count`` samples for an attack towards images in which nothing is found.

        Their score is one less the best score of any candidate.

        Examples:
            >>> task = detection("cars", num_classes=2)
            >>> task.targets(task.nothing(3)).has_label
            tensor([True, True, True])
        """
        return [{"boxes": np.zeros((1, 4), np.float32), "labels": np.array([NOTHING])} for _ in range(count)]

    def decode(self, output: Any) -> list[dict[str, Tensor]]:
        """What the model finds in each sample: boxes and labels of candidates that suppression leaves."""
        found = self._candidates(output)
        return [self._decoded(self.slice_output(found, i), self.boxes) for i in range(len(found["boxes"]))]

    def _one(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The candidates of one sample's raw output."""
        tensors = {key: torch.as_tensor(value) for key, value in row.items() if not isinstance(value, (str, bool))}
        names = names_in(row)
        listed = names is None or tensors[names[1]].ndim == 1
        batch = [tensors] if listed else {name: tensors[name][None] for name in names or ()}
        found: dict[str, Any] = self.slice_output(self._candidates(batch), 0)
        return found

    def _decoded(self, sample: Mapping[str, Any], form: str) -> dict[str, Tensor]:
        final = self._final(sample)
        height, width = (np.inf, np.inf) if self.image_size is None else self.image_size
        boxes = final["boxes"].clamp(min=0).minimum(final["boxes"].new_tensor([width, height, width, height]))
        # What lies outside the image, or has no area, is no label.
        sure = (final["scores"] >= self.score_threshold) & (boxes[:, 2:] > boxes[:, :2]).all(1)
        return {"boxes": from_corners(boxes[sure], form), "labels": final["labels"][sure]}

    @staticmethod
    def _final(sample: Mapping[str, Any]) -> dict[str, Tensor]:
        """At most 100 predictions of one sample, in corners: candidates that suppression leaves, the best first."""
        boxes, scores = sample["boxes"].detach(), sample["scores"].detach()
        least = 0.0 if sample["final"] else _LEAST_SCORE
        place, label = (scores > least).nonzero(as_tuple=True)
        confidence = scores[place, label]
        order = confidence.argsort(descending=True, stable=True)[:_MOST_CANDIDATES]
        place, label, confidence = place[order], label[order], confidence[order]
        if not sample["final"]:
            kept = suppress(boxes[place], confidence, label, OVERLAP)
            place, label, confidence = place[kept], label[kept], confidence[kept]
        return {"boxes": boxes[place[:_MOST]], "scores": confidence[:_MOST], "labels": label[:_MOST]}

    # --- what is attacked and reported ---

    def loss(self, output: Any, target: DenseTarget) -> Tensor:
        """See :func:`detection`."""
        if self.own_loss is not None:
            return self._model_loss(output, target)
        best, alarms = self._found(output, target)
        value = torch.log1p(alarms) - _mean(best, target.valid).clamp(min=_SMALLEST).log()
        return torch.where(target.has_label, value, torch.zeros_like(value))

    def _model_loss(self, output: Any, target: DenseTarget) -> Tensor:
        if self.own_loss is None:
            raise ValueError(f"Task {self.name!r} has no loss of its own.")
        labels = [
            {"boxes": from_corners(value.T[real, :4], self.boxes), "labels": value[4, real].long()}
            for value, real in zip(target.value, target.valid & (target.value[:, 4] >= 0), strict=True)
        ]
        value: Any = self.own_loss(output["raw"], labels)
        if not isinstance(value, Tensor) or tuple(value.shape) != (len(target),):
            found = str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"The loss of task {self.name!r} should have shape ({len(target)},), one value a sample. Found {found}."
            )
        return torch.where(target.has_label, value, torch.zeros_like(value))

    def score(self, output: Any, target: DenseTarget) -> Tensor:
        """See :func:`detection`."""
        return _mean(self._found(output, target)[0], target.valid)

    def statistics(self, output: Any, target: DenseTarget) -> Tensor:
        """Objects found, and objects: ``(B, 2)``."""
        return self._count(self._found(self.detach_output(output), target)[0], target)

    def measure(self, output: Any, target: DenseTarget, margins: bool = True) -> Measures:
        """See :meth:`Task.measure`."""
        best = self._found(output, target)[0]
        return Measures(None, None, _mean(best, target.valid), self._count(best.detach(), target))

    def _count(self, best: Tensor, target: DenseTarget) -> Tensor:
        nothing = target.value[:, 4] == NOTHING
        found = torch.where(nothing, best > 1 - self.score_threshold, best >= self.score_threshold)
        return torch.stack([(found & target.valid).sum(1), target.valid.sum(1)], 1).double()

    def _found(self, output: Any, target: DenseTarget) -> tuple[Tensor, Tensor]:
        """The best score of each object, ``(B, M)``, and the sum of the scores of false alarms, ``(B,)``."""
        scores, label = output["scores"], target.value[:, 4].long()
        objects = target.valid & (label >= 0)
        crowd = (label == IGNORED) & (target.value[:, 2] > target.value[:, 0])
        on = overlaps(output["boxes"], target.value[:, :4].mT.to(scores.dtype)) >= OVERLAP
        index = label.clamp(min=0)[:, None].expand(*on.shape)
        own = torch.where(on & objects[:, None], scores.gather(2, index), 0.0)
        # What lies on an object has its class, and what lies on a region that does not count may have any.
        one_hot = torch.zeros(*label.shape, self.num_classes, dtype=scores.dtype, device=scores.device)
        one_hot.scatter_(2, label.clamp(min=0)[..., None], objects[..., None].to(scores.dtype))
        allowed = (on.to(scores.dtype) @ one_hot > 0) | (on & crowd[:, None]).any(2, keepdim=True)
        alarms = torch.where(allowed, 0.0, scores).amax(2)
        best = torch.where(label == NOTHING, 1 - alarms.amax(1, keepdim=True), own.amax(1))
        return torch.where(target.valid, best, 0.0), alarms.sum(1)

    def metric_arguments(self, output: Any, target: DenseTarget) -> tuple[Any, ...]:
        """Predictions and labels of the samples that count, in the form of torchmetrics; for recall the statistics."""
        return self.further_arguments(self.metric, output, target)

    @property
    def further_metrics(self) -> Mapping[str, Metric]:
        """See :meth:`Task.further_metrics`."""
        return {
            "map": metrics.mean_average_precision(),
            "map-50": metrics.mean_average_precision_50(),
            "map-75": further.mean_average_precision_75(),
            "recall": metrics.recall_of_objects(),
        }

    def further_arguments(self, metric: Metric, output: Any, target: DenseTarget) -> tuple[Any, ...]:
        """See :meth:`Task.further_arguments`."""
        if not metric.entry:  # recall, which is additive
            return (self.statistics(output, target),)
        return self.torchmetrics_arguments(output, target)

    def torchmetrics_arguments(self, output: Any, target: DenseTarget, like: Any = None) -> tuple[Any, ...]:
        """See :meth:`Task.torchmetrics_arguments`: predictions and labels of the samples that count, a dict each."""
        counted = target.has_label.nonzero()[:, 0].tolist()
        predicted = [self._final(self.slice_output(output, i)) for i in counted]
        return predicted, [_for_coco(target.value[i], target.valid[i]) for i in counted]

    # --- how it is shown ---

    def shown(self, target: DenseTarget) -> list[dict[str, Array]]:
        """The objects of each sample, as labels hold them."""
        found = []
        for value in target.value:
            real = (value[4] >= IGNORED) & (value[2] > value[0])
            found.append(
                {"boxes": from_corners(value[:4, real].T, self.boxes).cpu().numpy(),
                 "labels": value[4, real].long().cpu().numpy()}
            )  # fmt: skip
        return found

    def picture(self, label: Any, limits: tuple[float, float] | None = None, image: Array | None = None) -> Array:
        """Frames over the image, in a colour for each class; grey where an object does not count."""
        if label is None:
            label = {"boxes": np.zeros((0, 4)), "labels": np.zeros(0, int)}
        boxes = to_corners(torch.as_tensor(np.asarray(label["boxes"]).reshape(-1, 4)), self.boxes).numpy()
        return box_picture(boxes, np.asarray(label["labels"]), self.image_size, image)

    def classes_in(self, label: Any) -> Array:
        """See :meth:`Drawn.classes_in`."""
        return super().classes_in(label) if label is None else np.unique(label["labels"])

    def answer(self, label: Any, class_names: Sequence[str] = ()) -> str:
        """How many objects there are."""
        return "?" if label is None else f"{len(label['labels'])} objects"

    def caption(self, label: Any, unit: str = "") -> str:
        """How many objects there are."""
        return self.answer(label)


def _is_list(output: Any) -> bool:
    """Whether this is one dict of predictions a sample."""
    return isinstance(output, list) and all(
        isinstance(one, Mapping) and {"boxes", "labels", "scores"} <= one.keys() for one in output
    )


def _padded(parts: Sequence[Tensor]) -> Tensor:
    """``(M_i, D)`` to ``(B, A, D)`` with the greatest of the M_i, at least 1, for A; zeros are added."""
    most = max([1, *(len(part) for part in parts)])
    return torch.stack([torch.cat([part, part.new_zeros(most - len(part), part.shape[1])]) for part in parts])


def _filled(values: Any, mark: float) -> Tensor:
    """An array or tensor of which ``mark`` stands where it is masked."""
    if isinstance(values, np.ma.MaskedArray):
        values = values.filled(mark)
    return values.detach().cpu() if isinstance(values, Tensor) else torch.as_tensor(np.array(values))


def _mean(best: Tensor, valid: Tensor) -> Tensor:
    return best.sum(1) / valid.sum(1).clamp(min=1)


def _for_coco(value: Tensor, valid: Tensor) -> dict[str, Tensor]:
    """The objects of one sample for torchmetrics; regions that do not count are crowds."""
    crowd = (value[4] == IGNORED) & (value[2] > value[0])
    real = crowd | (valid & (value[4] >= 0))
    return {
        "boxes": value[:4, real].T,
        "labels": value[4, real].long().clamp(min=0),
        "iscrowd": crowd[real].long(),
    }
