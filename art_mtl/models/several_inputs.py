"""Models of several inputs, of which some are attacked and the others are given with each sample."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["SeveralInputs"]

Shape = tuple[int, ...]


class SeveralInputs(nn.Module):
    """A model of several inputs as a model of one, which attacks, estimators and evaluations take.

    The one input holds all of them: as channels ``(C, H, W)``, one behind the other, where all are pictures of one
    size, as a vector ``(D,)`` elsewhere. :attr:`attackable` is 0 at the inputs that are only given; attacks of this
    package change nothing there. For attacks of other packages the gradient is 0 there, and an evaluation restores what
    they change in spite of that, by a random start for instance.

    Args:
        model: Called with the inputs, by position or by keyword.
        shapes: Of one sample of each input, by name, in the order of the model's arguments.
        attacked: Names of the inputs that may be changed: one, or several, which then share ε.
        by_name: Whether the model takes its inputs as keywords.

    Raises:
        ValueError: ``attacked`` names no input.

    Examples:
        >>> class Both(nn.Module):
        ...     def forward(self, image, table):
        ...         return image.mean((1, 2, 3)) + table.sum(1)
        >>> net = SeveralInputs(Both(), {"image": (1, 2, 2), "table": (3,)}, attacked="image")
        >>> x = net.pack(image=np.ones((5, 1, 2, 2)), table=np.zeros((5, 3)))
        >>> x.shape, net(torch.tensor(x)).tolist()
        ((5, 7), [1.0, 1.0, 1.0, 1.0, 1.0])
        >>> net.attackable.tolist()
        [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    """

    attackable: Tensor

    def __init__(
        self,
        model: nn.Module,
        shapes: Mapping[str, Shape],
        attacked: str | Sequence[str],
        *,
        by_name: bool = False,
    ) -> None:
        super().__init__()
        names = [attacked] if isinstance(attacked, str) else list(attacked)
        if not names or not set(names) <= set(shapes):
            raise ValueError(f"Parameter `attacked` should name some of the inputs {list(shapes)}. Found {names}.")
        self.model, self.by_name, self.attacked = model, by_name, tuple(names)
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        sizes = {shape[1:] if len(shape) == 3 else None for shape in self.shapes.values()}
        self.pictures = len(sizes) == 1 and None not in sizes
        marks = {name: np.full((1, *shape), name in names, np.float32) for name, shape in self.shapes.items()}
        self.register_buffer("attackable", torch.from_numpy(self.pack(**marks)[0]), persistent=False)

    @property
    def input_shape(self) -> Shape:
        """Shape of one packed sample."""
        return tuple(self.attackable.shape)

    def pack(self, **inputs: Any) -> NDArray[np.float32]:
        """All inputs of some samples as one array.

        Args:
            **inputs: By name, ``(N, *shape)`` each.

        Raises:
            ValueError: An input is missing, unknown, or of another shape.
        """
        if set(inputs) != set(self.shapes):
            raise ValueError(f"Expected the inputs {list(self.shapes)}. Found {list(inputs)}.")
        arrays = {name: np.asarray(value, np.float32) for name, value in inputs.items()}
        for name, array in arrays.items():
            if array.shape[1:] != self.shapes[name]:
                raise ValueError(f"Input {name!r} should have shape (N, *{self.shapes[name]}). Found {array.shape}.")
        parts = [arrays[name] if self.pictures else arrays[name].reshape(len(arrays[name]), -1) for name in self.shapes]
        return np.asarray(np.concatenate(parts, axis=1))

    def pack_sample(self, inputs: Mapping[str, Any]) -> NDArray[np.float32]:
        """:meth:`pack` of one sample."""
        found: NDArray[np.float32] = self.pack(**{name: np.asarray(value)[None] for name, value in inputs.items()})[0]
        return found

    def bounds(self, low: float, high: float, given: float = 1e6) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Least and greatest value of each place of the packed input, as ``clip_values`` and ``bounds`` take them.

        Args:
            low: Of what is attacked.
            high: Of what is attacked.
            given: Greatest size of what is only given.
        """
        mask = self.attackable.cpu().numpy()
        return np.where(mask > 0, low, -given).astype(np.float32), np.where(mask > 0, high, given).astype(np.float32)

    def unpack(self, x: Tensor) -> list[Tensor]:
        """The inputs in order, ``(B, *shape)`` each, of packed ones ``(B, *input_shape)``; without a graph those that
        are only given.
        """
        lengths = [shape[0] if self.pictures else math.prod(shape) for shape in self.shapes.values()]
        parts = torch.split(x, lengths, dim=1)
        return [
            (part if name in self.attacked else part.detach()).reshape(len(x), *shape)
            for part, (name, shape) in zip(parts, self.shapes.items(), strict=True)
        ]

    def forward(self, x: Tensor) -> Any:
        """What the model returns of packed inputs ``(B, *input_shape)``."""
        parts = self.unpack(x)
        return self.model(**dict(zip(self.shapes, parts, strict=True))) if self.by_name else self.model(*parts)
