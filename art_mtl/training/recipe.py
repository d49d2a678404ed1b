"""What decides the weights that training ends with."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from art_mtl.data._base import check_count

__all__ = ["PRECISIONS", "Cosine", "Recipe"]

PRECISIONS = ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Cosine:
    """A learning rate that falls from ``peak`` to almost 0 along half a cosine, one value an epoch.

    Loshchilov and Hutter, "SGDR" (ICLR 2017), eq. 5, without restarts.

    Attributes:
        peak: rate of the first epoch.
        epochs: after how many it would be 0.

    Examples:
        >>> schedule = Cosine(peak=0.1, epochs=200)
        >>> schedule(0), round(schedule(100), 6), schedule(199) < 1e-5
        (0.1, 0.05, True)
    """

    peak: float
    epochs: int

    def __call__(self, epoch: int) -> float:
        """The rate of an epoch, counted from 0."""
        return self.peak * (1 + math.cos(math.pi * epoch / self.epochs)) / 2


@dataclass(frozen=True)
class Recipe:
    """How the paper's victims are trained: from scratch, by SGD, all tasks with the same weight.

    The defaults are those of the victims of Guo et al. (ICASSP 2025), which follow Liu et al. (Auto-Lambda, 2022).
    Everything here, and nothing else, decides what comes out: runs resume only with the same recipe.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step, of all processes together.
        rate: learning rate at the start; see :class:`Cosine`.
        momentum: of SGD, in [0, 1).
        decay: weight decay.
        augment: whether training images are enlarged, cropped and mirrored at random; else they are taken whole.
        crop: (height, width) of an augmented image; None takes the data set's own.
        precision: "fp32", "bf16" or "fp16" of the network's passes (autocast); weights, losses and metrics stay fp32.
        seed: of the initial weights, the order of the images and their augmentation; from 0 up.
        validate_every: epochs from one validation to the next; the last epoch is always validated.
        limit: first images of each split to use; None means all.

    Raises:
        ValueError: A number is out of range.

    Examples:
        >>> Recipe().rate, Recipe(epochs=10, batch_size=8).schedule(5)
        (0.1, 0.05)
    """

    epochs: int = 200
    batch_size: int = 4
    rate: float = 0.1
    momentum: float = 0.9
    decay: float = 1e-4
    augment: bool = True
    crop: tuple[int, int] | None = None
    precision: str = "fp32"
    seed: int = 0
    validate_every: int = 1
    limit: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("seed", 0), ("validate_every", 1)):
            check_count(name, getattr(self, name), least)
        if self.limit is not None:
            check_count("limit", self.limit)
        _check_between("rate", self.rate, 0, math.inf, open_below=True)
        _check_between("momentum", self.momentum, 0, 1)
        _check_between("decay", self.decay, 0, math.inf)
        if self.crop is not None and (len(self.crop) != 2 or min(self.crop) < 1):
            raise ValueError(
                f"Parameter `crop` should be (height, width), each at least 1, or None. Found {self.crop!r}."
            )
        if self.crop is not None and not self.augment:
            raise ValueError(
                f"Parameter `crop` is for augmented images; with augment=False they are whole. Found {self.crop!r}."
            )
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"Parameter `precision` should be one of {', '.join(PRECISIONS)}. Found {self.precision!r}."
            )

    @property
    def schedule(self) -> Cosine:
        """The learning rate by epoch."""
        return Cosine(self.rate, self.epochs)

    def validates(self, epoch: int) -> bool:
        """Whether an epoch, counted from 0, ends with a validation."""
        return (epoch + 1) % self.validate_every == 0 or epoch + 1 == self.epochs

    def as_settings(self) -> dict[str, Any]:
        """All of it as JSON values."""
        settings = asdict(self)
        settings["crop"] = None if self.crop is None else list(self.crop)
        return settings


def _check_between(name: str, value: float, low: float, high: float, open_below: bool = False) -> None:
    if not (low < value < high or (value == low and not open_below)):
        lower = f"above {low}" if open_below else f"at least {low}"
        upper = "finite" if high == math.inf else f"below {high}"
        raise ValueError(f"Parameter `{name}` should be {lower} and {upper}. Found {value!r}.")
