"""Label layouts: from what users hold to canonical tensors, with every check on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Target:
    """Canonical labels of one task for a batch.

    Attributes:
        value: Classes ``(B, *S)`` as int64, or values ``(B, C, *S)`` as floats; 0 where not valid.
        valid: ``(B, *S)``, boolean: the places that count.
    """

    value: Tensor
    valid: Tensor

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, index: slice | Tensor) -> Target:
        return Target(self.value[index], self.valid[index])

    def to(self, device: torch.device | str) -> Target:
        """The same labels on another device."""
        return Target(self.value.to(device), self.valid.to(device))

    @property
    def has_label(self) -> Tensor:
        """``(B,)``, boolean: whether the sample has anything valid."""
        return self.valid.flatten(1).any(1) if self.valid.ndim > 1 else self.valid


@dataclass(frozen=True)
class LabelFormat:
    """Labels that are passed through as they are; the base of the layouts below."""

    def decode(self, output: Tensor) -> Tensor:
        """Labels that a raw output stands for."""
        return output

    def encode(self, name: str, y: Tensor, present: Tensor | None) -> Target:
        """Canonical labels; every error names the task, what was expected and what was found."""
        if y.ndim == 0:
            raise ValueError(f"The labels of task {name!r} should have one entry a sample. Found a single number.")
        present = torch.ones(len(y), dtype=torch.bool, device=y.device) if present is None else present
        if present.dtype != torch.bool or tuple(present.shape) != (len(y),):
            raise ValueError(
                f"The mask of present labels of task {name!r} should be boolean of shape ({len(y)},). "
                f"Found {present.dtype} of shape {tuple(present.shape)}."
            )
        present = present.to(y.device)
        blank = present.view(-1, *[1] * (y.ndim - 1))
        y = torch.where(blank, y, torch.zeros_like(y))
        _check_finite(name, y)
        return self._encode(name, y, present)

    def check_output(self, name: str, output: Tensor, target: Target) -> Tensor:
        """The raw output in the layout that losses take; an error where it does not fit the labels."""
        if output.ndim == 0 or len(output) != len(target):
            raise _output_error(name, f"({len(target)}, ...)", output)
        return output

    def _encode(self, name: str, y: Tensor, present: Tensor) -> Target:
        return Target(y.float() if y.is_floating_point() else y, present)


@dataclass(frozen=True)
class Decoded(LabelFormat):
    """Labels as they are, decoded from raw outputs by a function of the user's."""

    decoder: Callable[[Tensor], Tensor]

    def decode(self, output: Tensor) -> Tensor:
        return self.decoder(output)


@dataclass(frozen=True)
class ClassMap(LabelFormat):
    """``(N, H, W)`` of classes; logits ``(N, C, H, W)`` are decoded."""

    num_classes: int
    ignore_index: int

    def decode(self, output: Tensor) -> Tensor:
        return (output.byte() if output.dtype == torch.bool else output).argmax(1)

    def _encode(self, name: str, y: Tensor, present: Tensor) -> Target:
        if y.ndim == 4 and y.shape[1] == self.num_classes:
            y = self.decode(y)
        elif y.ndim == 4 and y.shape[1] == 1:
            y = y[:, 0]
        if y.ndim != 3:
            raise _shape_error(name, f"(N, H, W), or (N, {self.num_classes}, H, W) for raw outputs", y)
        y = _integers(name, y)
        valid = (y != self.ignore_index) & present.view(-1, 1, 1)
        classes = torch.where(valid, y, 0)
        _check_classes(name, classes, self.num_classes, f", or {self.ignore_index} to ignore")
        return Target(classes, valid)

    def check_output(self, name: str, output: Tensor, target: Target) -> Tensor:
        _check_shape(name, output, (len(target), self.num_classes, *target.value.shape[1:]))
        return output


@dataclass(frozen=True)
class ClassIndex(LabelFormat):
    """``(N,)`` of classes, or ``(N, C)`` one-hot, probabilities or logits."""

    num_classes: int

    def decode(self, output: Tensor) -> Tensor:
        return (output.byte() if output.dtype == torch.bool else output).argmax(1)

    def _encode(self, name: str, y: Tensor, present: Tensor) -> Target:
        if y.ndim == 2 and y.shape[1] == self.num_classes:
            y = self.decode(y)
        elif y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.ndim != 1:
            raise _shape_error(name, f"(N,) or (N, {self.num_classes})", y)
        y = _integers(name, y)
        classes = torch.where(present, y, 0)
        _check_classes(name, classes, self.num_classes)
        return Target(classes, present)

    def check_output(self, name: str, output: Tensor, target: Target) -> Tensor:
        _check_shape(name, output, (len(target), self.num_classes))
        return output


@dataclass(frozen=True)
class Binary(LabelFormat):
    """``(N, L)`` in {0, 1}; logits are decoded."""

    num_labels: int

    def decode(self, output: Tensor) -> Tensor:
        return (output > 0).to(output.dtype)

    def _encode(self, name: str, y: Tensor, present: Tensor) -> Target:
        if y.ndim == 1 and self.num_labels == 1:
            y = y[:, None]
        if y.ndim != 2 or y.shape[1] != self.num_labels:
            raise _shape_error(name, f"(N, {self.num_labels})", y)
        if not ((y == 0) | (y == 1)).all():
            if not y.is_floating_point():
                raise ValueError(
                    f"The labels of task {name!r} should be 0 or 1, or raw outputs. Found values in "
                    f"[{y.min().item()}, {y.max().item()}]."
                )
            if y.min() >= 0 and y.max() <= 1:
                raise ValueError(
                    f"The labels of task {name!r} should be 0 or 1, or raw outputs (logits). "
                    "Found fractions in [0, 1]; threshold probabilities first."
                )
            y = self.decode(y)
        valid = present[:, None].expand_as(y)
        return Target(y.float(), valid)

    def check_output(self, name: str, output: Tensor, target: Target) -> Tensor:
        _check_shape(name, output, (len(target), self.num_labels))
        return output


@dataclass(frozen=True)
class Dense(LabelFormat):
    """``(N, C, H, W)`` of real values; a pixel all channels of which are ``invalid`` does not count."""

    channels: int
    invalid: float

    def _encode(self, name: str, y: Tensor, present: Tensor) -> Target:
        if y.ndim == 3 and self.channels == 1:
            y = y[:, None]
        if y.ndim != 4 or y.shape[1] != self.channels:
            shapes = "(N, 1, H, W) or (N, H, W)" if self.channels == 1 else f"(N, {self.channels}, H, W)"
            raise _shape_error(name, shapes, y)
        y = y.float()
        valid = (y != self.invalid).any(1) & present.view(-1, 1, 1)
        return Target(torch.where(valid[:, None], y, torch.zeros_like(y)), valid)

    def check_output(self, name: str, output: Tensor, target: Target) -> Tensor:
        if output.ndim == 3 and self.channels == 1:
            output = output[:, None]
        _check_shape(name, output, tuple(target.value.shape))
        return output


@dataclass(frozen=True)
class Vector(LabelFormat):
    """``(N, D)`` or ``(N,)`` of real values."""

    def _encode(self, name: str, y: Tensor, present: Tensor) -> Target:
        if y.ndim == 1:
            y = y[:, None]
        if y.ndim != 2:
            raise _shape_error(name, "(N, D) or (N,)", y)
        return Target(y.float(), present)

    def check_output(self, name: str, output: Tensor, target: Target) -> Tensor:
        if output.ndim == 1:
            output = output[:, None]
        _check_shape(name, output, tuple(target.value.shape))
        return output


def _integers(name: str, y: Tensor) -> Tensor:
    if y.is_complex() or y.dtype == torch.bool:
        raise TypeError(f"The labels of task {name!r} should be class numbers. Found dtype {y.dtype}.")
    if y.is_floating_point() and not (y == y.round()).all():
        raise TypeError(f"The labels of task {name!r} should be class numbers. Found fractions, dtype {y.dtype}.")
    return y.long()


def _check_classes(name: str, classes: Tensor, num_classes: int, also: str = "") -> None:
    if classes.numel() == 0:
        return
    least, greatest = (int(extreme) for extreme in torch.aminmax(classes))
    if least < 0 or greatest >= num_classes:
        raise ValueError(
            f"The labels of task {name!r} should be classes in [0, {num_classes - 1}]{also}. "
            f"Found [{least}, {greatest}]."
        )


def _check_finite(name: str, y: Tensor) -> None:
    if y.is_floating_point() and not torch.isfinite(y).all():
        bad = (~torch.isfinite(y)).flatten(1).any(1) if y.ndim > 1 else ~torch.isfinite(y)
        first = bad.nonzero()[0].item()
        raise ValueError(
            f"The labels of task {name!r} should be finite. Found NaN or infinity in {int(bad.sum())} sample(s), "
            f"first at index {first}; mark missing labels with None, a mask of present samples or the task's ignored "
            "value."
        )


def _check_shape(name: str, output: Tensor, expected: tuple[int, ...]) -> None:
    if tuple(output.shape) != expected:
        raise _output_error(name, str(expected), output)


def _output_error(name: str, expected: str, output: Tensor) -> ValueError:
    return ValueError(
        f"The model's output for task {name!r} should have shape {expected} to fit its labels. "
        f"Found {tuple(output.shape)}."
    )


def _shape_error(name: str, expected: str, y: Tensor) -> ValueError:
    return ValueError(f"The labels of task {name!r} should have shape {expected}. Found {tuple(y.shape)}.")
