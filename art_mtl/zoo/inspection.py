"""A first ``tasks.yaml`` for a model: it is run once, and its outputs tell what they may be."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from art_mtl.core.last_operation import ends_in_linear
from art_mtl.losses import is_distribution
from art_mtl.zoo import user_code
from art_mtl.zoo.model_files import is_model_file, load_model_file, settle_batch
from art_mtl.zoo.ports import ModelFile, Port
from art_mtl.zoo.task_file import FORMAT, VERSION, kinds
from art_mtl.zoo.victims import Victim

__all__ = ["Proposal", "propose"]

_CHANNELS = (1, 3, 4)
_SAMPLES = 2
_SHORT = 1e-3
_BOX_WORDS = "box|loc|reg|coord|delta|rect"
_SOFTMAX_INSIDE = "probabilities (softmax inside): attacked before the softmax"


@dataclass(frozen=True)
class Proposal:
    """What an output may be.

    Attributes:
        path: Where it is in what the model returns.
        shape: Of one sample.
        kind: Of a task; None where nothing fits.
        parameters: Of the kind.
        doubts: What is not sure, a line each.
        shares: Whether these are shares, in [0, 1].
        form: Of four numbers a row, what boxes these may be; "" where they seem to be relative to anchors.
    """

    path: tuple[str | int, ...]
    shape: tuple[int, ...]
    kind: str | None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()
    shares: bool = False
    form: str = ""


def propose(name: str, shape: Sequence[int] | None = None) -> str:
    """A ``tasks.yaml`` for a model, with comments on what is not sure.

    Args:
        name: Path of a model file, or "PATH.py:function", whose function returns a module or a victim. Only that file
            is imported.
        shape: Of one sample of the input, such as (3, 224, 224); None where the file tells.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no model, its input's shape is not known, or it does not run on such an input.
    """
    file, known = _model(name)
    ports = file.inputs or (Port("image"),)
    attacked = next((place for place, port in enumerate(ports) if port.shape is not None and len(port.shape) == 4), 0)
    shapes = [_shape_of(port, shape if place == attacked else None, known) for place, port in enumerate(ports)]
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.rand((_SAMPLES, *one), generator=generator).to(port.dtype)
        for one, port in zip(shapes, ports, strict=True)
    ]
    inputs[attacked].requires_grad_(True)
    try:
        module = settle_batch(file, [x.detach() for x in inputs])
        raw = module(*inputs)
    except Exception as error:  # of whatever kind a network raises
        text = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{name}: expected a model that runs on inputs {', '.join(map(str, shapes))}. Found an error: {text}"
        ) from error
    found = [_guess(path, output, inputs[attacked]) for path, output in _leaves(raw)]
    return _written(name, ports, attacked, shapes, _paired(found))


def _model(name: str) -> tuple[ModelFile, tuple[int, ...] | None]:
    """The model, and the shape of its input where that is known."""
    if is_model_file(name):
        file = load_model_file(name)
        file.module.eval()
        return file, None
    if ".py:" not in name:
        raise ValueError(f"Parameter `model` should be a model file or PATH.py:function. Found {name!r}.")
    made = user_code.call(name)
    if isinstance(made, Victim):
        return ModelFile(made.model), made.input_shape
    module = made[0] if isinstance(made, tuple) and made else made
    if not isinstance(module, nn.Module):
        raise ValueError(f"{name} should return a torch.nn.Module or a Victim. Found {type(made).__name__}.")
    return ModelFile(module.eval()), None


def _shape_of(port: Port, asked: Sequence[int] | None, known: tuple[int, ...] | None) -> tuple[int, ...]:
    """The shape of one sample of an input."""
    if asked is not None:
        return tuple(asked)
    if known is not None:
        return known
    if port.shape is None or any(size is None for size in port.shape[1:]):
        raise ValueError(
            f"Parameter `input` should be the shape of one sample, such as 3x224x224. The model says of its input "
            f"{port.name!r}: {'nothing' if port.shape is None else port.shape}."
        )
    return tuple(int(size) for size in port.shape[1:] if size is not None)


def _leaves(raw: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Tensor]]:
    """The tensors of an output, with where they are."""
    if isinstance(raw, Tensor):
        yield path, raw
    elif isinstance(raw, Mapping):
        for key, part in raw.items():
            yield from _leaves(part, (*path, key))
    elif isinstance(raw, (list, tuple)):
        names = getattr(raw, "_fields", range(len(raw)))
        for key, part in zip(names, raw, strict=True):
            yield from _leaves(part, (*path, key))


def _guess(path: tuple[str | int, ...], output: Tensor, x: Tensor) -> Proposal:
    """What one output may be."""
    shape, word = tuple(output.shape[1:]), _word(path)
    if not output.is_floating_point():
        return Proposal(path, shape, None, doubts=("whole numbers have no gradient: they may be decided classes",))
    doubts = [] if _has_gradient(output, x) else ["no gradient leads from it to the input"]
    flat = output.detach().float()
    # What a matrix product or a convolution returns may lie in [0, 1] by chance.
    shares = bool(((flat >= 0) & (flat <= 1)).all()) and not ends_in_linear(output)
    kind, parameters, more = _kind(word, flat, shape, shares)
    return Proposal(path, shape, kind, parameters, (*doubts, *more), shares, _box_form(flat))


_SOUND = 0.9
"""Share of boxes with a positive size from which these are no differences from anchors."""


def _box_form(output: Tensor) -> str:
    """What boxes rows of four numbers may be; "" where their sizes are of either sign, as differences are."""
    if output.ndim == 4 and output.shape[2:] == (1, 4):
        output = output.squeeze(2)
    if output.ndim == 3 and output.shape[1] == 4 != output.shape[2]:
        output = output.mT
    if output.ndim != 3 or output.shape[2] != 4:
        return ""
    ordered = (output[..., 2:] > output[..., :2]).all(2).float().mean()
    sized = (output[..., 2:] > 0).all(2).float().mean()
    return "xyxy" if ordered >= _SOUND else "cxcywh" if sized >= _SOUND else ""


def _has_gradient(output: Tensor, x: Tensor) -> bool:
    if not output.requires_grad:
        return False
    (gradient,) = torch.autograd.grad(output.sum(), x, retain_graph=True, allow_unused=True)
    # The sum of a softmax is constant; that of squares is not.
    (other,) = torch.autograd.grad(output.square().sum(), x, retain_graph=True, allow_unused=True)
    return any(one is not None and bool((one != 0).any()) for one in (gradient, other))


def _kind(
    word: str, output: Tensor, shape: tuple[int, ...], share: bool
) -> tuple[str | None, dict[str, Any], list[str]]:
    """Kind, parameters and doubts."""
    unit = len(shape) > 0 and bool(((output.norm(dim=1) - 1).abs() < _SHORT).all())
    if len(shape) == 3 and shape[2] < min(shape[:2]) and shape[0] >= shape[2]:
        kind, parameters, doubts = _kind(word, output.movedim(-1, 1), (shape[2], *shape[:2]), share)
        return kind, {**parameters, "layout": "NHWC"}, doubts
    if len(shape) == 3:
        return _map_kind(word, output, shape[0], unit, share)
    if len(shape) == 2 and shape[1] == 2 and not re.search("box", word):
        return "keypoints", {"num_points": shape[0]}, ["points (x, y)? In pixels, or in shares of the picture?"]
    if len(shape) == 2:
        return _table_kind(output, shape)
    if shape in ((), (1,)):
        if share or re.search("logit|prob|is_|has_", word):
            return "binary", {}, ["one yes-or-no answer? Else kind: regression"]
        return "regression", {}, ["one number? Else kind: binary, of one logit"]
    size = shape[0]
    if re.search("landmark|keypoint|kpt|points", word) and size % 2 == 0:
        return "keypoints", {"num_points": size // 2}, ["points (x, y) one after the other?"]
    if bool(is_distribution(output).all()):
        return "classification", {"num_classes": size}, [_SOFTMAX_INSIDE]
    if unit and size >= 16:
        return "embedding", {"threshold": 0.5}, ["vectors of length 1; at which distance is somebody verified?"]
    if share:
        return "multilabel", {"num_labels": size, "probabilities": True}, ["probabilities of labels (sigmoid inside)?"]
    other = f"Else multilabel with num_labels: {size}, or regression of {size} numbers"
    return "classification", {"num_classes": size}, [f"logits of {size} classes, one of which is right? {other}"]


def _table_kind(output: Tensor, shape: tuple[int, ...]) -> tuple[str | None, dict[str, Any], list[str]]:
    """Kind, parameters and doubts of rows of numbers: boxes and scores in one, where that is what they look like."""
    rows = output if shape[1] <= shape[0] else output.mT
    form = _box_form(rows[..., :4])
    scores = rows[..., 4:]
    if scores.shape[2] == 0 or not form or not bool(((scores >= 0) & (scores <= 1)).all()):
        return None, {}, [f"{shape[0]} rows of {shape[1]} numbers"]
    classes = scores.shape[2]
    doubts = [
        f"{rows.shape[1]} candidates before suppression: a box in pixels and a score for each of {classes} classes?"
    ]
    if classes > 1:
        doubts.append(
            f"whether there is an object, and {classes - 1} classes? Then num_classes: {classes - 1}. One of the "
            f"classes is 'nothing'? Then num_classes: {classes - 1} and background: first or last"
        )
    return "detection", {"num_classes": classes, "boxes": form}, doubts


def _map_kind(
    word: str, output: Tensor, channels: int, unit: bool, share: bool
) -> tuple[str, dict[str, Any], list[str]]:
    """Kind, parameters and doubts of a map of so many channels."""
    if channels == 1:
        if "disp" in word:
            return "disparity", {}, ["columns: maps; what is not valid is -1 (invalid)"]
        if share or re.search("mask|edge|salien|lane|drivable|road", word):
            return "binary_segmentation", {}, ["one logit or probability a pixel? Else depth"]
        return "depth", {}, ["one number a pixel? Else disparity, or binary_segmentation of one logit"]
    if channels == 3 and (unit or "normal" in word):
        return "surface_normals", {}, [] if unit else ["vectors that are scaled to length 1?"]
    if bool(is_distribution(output).all()):
        return "segmentation", {"num_classes": channels}, [_SOFTMAX_INSIDE]
    if share:
        doubt = "probabilities of masks that may overlap (sigmoid inside)? Else segmentation, of num_classes"
        return "multilabel_segmentation", {"num_labels": channels, "probabilities": True}, [doubt]
    return "segmentation", {"num_classes": channels}, [f"logits of {channels} classes a pixel? Else image, of numbers"]


def _paired(found: Sequence[Proposal]) -> list[Proposal]:
    """The same, boxes put together with the scores of as many candidates."""
    left = list(found)
    # Of two outputs of four numbers a candidate, the name tells which are the boxes; else the first.
    for box in sorted(found, key=lambda one: not re.search(_BOX_WORDS, _word(one.path))):
        count = _boxes_in(box.shape)
        scores = next((one for one in left if one is not box and _are_scores(one, count)), None)
        if scores is None or box not in left:
            continue
        left = [one for one in left if one is not box and one is not scores]
        classes = math.prod(scores.shape) // count
        output = {"boxes": _key(box.path), "scores" if scores.shares else "logits": _key(scores.path)}
        doubts = ["decoded boxes in pixels, before suppression, and a score a class? Is one of the classes 'nothing'?"]
        if classes > 1:
            doubts.append(f"if so, num_classes: {classes - 1} and background: first or last")
        if box.form == "cxcywh":
            doubts.append("widths and heights in place of corners? Then boxes: cxcywh, or xywh")
        if not box.form:
            doubts[0] = "boxes before suppression, and a score a class? Is one of the classes 'nothing'?"
            doubts.append(
                f"boxes relative to {count} anchors? Then anchors: FILE.npy, or sizes, ratios, strides and "
                "image_size, and box_coding: ssd, faster-rcnn, retinanet, fcos, yolov3 or yolov5"
            )
        left.append(Proposal((), box.shape, "detection", {"num_classes": classes, "output": output}, tuple(doubts)))
    return left


def _are_scores(one: Proposal, count: int) -> bool:
    """Whether an output may hold the scores of so many candidates; not one that was put together."""
    return one.path != () and 0 < len(one.shape) < 3 and count > 0 and count in one.shape


def _boxes_in(shape: tuple[int, ...]) -> int:
    """How many rows or columns of four numbers an output of a sample has; 0 where it is none."""
    if len(shape) == 3 and shape[1:] == (1, 4):
        return shape[0]
    if len(shape) == 2 and 4 in shape:
        return shape[0] if shape[1] == 4 else shape[1]
    return 0


def _word(path: Sequence[str | int]) -> str:
    return "_".join(map(str, path)).lower()


def _key(path: Sequence[str | int]) -> Any:
    return path[0] if len(path) == 1 else list(path)


def _written(
    name: str, ports: Sequence[Port], attacked: int, shapes: Sequence[tuple[int, ...]], found: Sequence[Proposal]
) -> str:
    """The file."""
    lines = [
        f"# Proposed for {json.dumps(name)} by `art-mtl inspect`. Check what is marked with a question mark.",
        f"format: {FORMAT}",
        f"version: {VERSION}",
        "input:",
    ]
    lines += [f"  {line}" for line in _input_lines(ports[attacked], shapes[attacked])]
    others = [(port, shape) for place, (port, shape) in enumerate(zip(ports, shapes, strict=True)) if place != attacked]
    if others:
        lines.append("given:  # inputs that are not attacked; which columns of the table hold them?")
        for port, shape in others:
            named = json.dumps(port.name)
            lines.append(f"- {{name: {named}, columns: [{named}]}}  # {shape}")
    lines += ["data:", "  images: image  # column of the table with the paths of the pictures?", "tasks:"]
    known = kinds()
    titles: list[str] = []
    for place, one in enumerate(found):
        lines += _task_lines(one, place, known, titles)
    return "\n".join(lines) + "\n"


def _input_lines(port: Port, shape: tuple[int, ...]) -> Iterator[str]:
    yield f"name: {json.dumps(port.name)}"
    if len(shape) == 3:
        last = shape[0] not in _CHANNELS and shape[-1] in _CHANNELS
        channels, size = (shape[-1], shape[:2]) if last else (shape[0], shape[1:])
        if channels in _CHANNELS:
            yield f"channels: {channels}"
        yield f"size: [{size[0]}, {size[1]}]"
        if last:
            yield "layout: NHWC"
    yield "range: [0, 1]  # black and white, the scale of epsilon; [0, 255] for a model of grey levels?"
    yield "# mean: [0.485, 0.456, 0.406]  # what is subtracted before the model, if it does not do so itself?"
    yield "# std: [0.229, 0.224, 0.225]   # what the difference is divided by?"


def _task_lines(one: Proposal, place: int, known: Mapping[str, Any], titles: list[str]) -> Iterator[str]:
    """The entry of a task, as a comment where it is of no kind that there is."""
    title = re.sub(r"\W+", "_", str(one.path[-1] if one.path and isinstance(one.path[-1], str) else "")).strip("_")
    title = title or f"task{place}"
    title = title if title not in titles else f"{title}{place}"
    usable = one.kind in known
    mark = "" if usable else "# "
    yield f"# output{' ' + json.dumps(_key(one.path)) if one.path else ''}: {one.shape} a sample"
    for doubt in one.doubts:
        yield f"# {doubt}"
    if one.kind is None:
        return
    if usable:
        titles.append(title)
    yield f"{mark}- kind: {one.kind}"
    yield f"{mark}  name: {json.dumps(title)}  # also the column of its labels; else columns: …"
    if one.path:
        yield f"{mark}  output: {json.dumps(_key(one.path))}"
    for key, value in one.parameters.items():
        yield f"{mark}  {key}: {json.dumps(value)}"
