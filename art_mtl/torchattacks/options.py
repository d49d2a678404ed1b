"""The options that have their name from torchattacks, beside those that all hosts share."""

from typing import Annotated, Any

from typing_extensions import TypedDict

from art_mtl.core import checks
from art_mtl.core.options import (
    AllTasksParts,
    AutoParts,
    Ball,
    Ensembles,
    FittedParts,
    MethodName,
    MethodOptions,
    Momentum,
    Option,
    Place,
    SparseStep,
    StealthyParts,
    Variants,
    table,
)


class Verbosity(TypedDict, total=False):
    """Progress."""

    verbose: Annotated[bool, Option(False, checks.flag, "Show how far a call has come, or what came of it.")]


class Alpha(TypedDict, total=False):
    """The step size."""

    alpha: Annotated[
        Any,
        Option(
            None,
            checks.optional(checks.radius),
            "Step size; the size of the *first* step where ``schedule`` falls. None: 2.5 ε/T (L∞), 2 ε/T (L2), ε (L1) "
            "if constant; 2 ε if it falls, 3 ε with momentum.",
        ),
    ]


class Steps(TypedDict, total=False):
    """How long."""

    steps: Annotated[int, Option(10, checks.integer(1), "T ≥ 1, the number of steps.")]


class Start(TypedDict, total=False):
    """From where."""

    random_start: Annotated[bool, Option(False, checks.flag, "Start at a random point of the ball.")]


class Restarts(TypedDict, total=False):
    """How often."""

    restarts: Annotated[
        int,
        Option(
            1,
            checks.integer(1),
            "Independent random starts, the best of which is kept for each sample; more than 1 needs ``random_start``.",
        ),
    ]


class Bounds(TypedDict, total=False):
    """The range of the inputs."""

    bounds: Annotated[
        Any,
        Option(
            (0, 1),
            checks.bounds,
            "Smallest and largest allowed input, numbers or tensors broadcastable to the inputs.",
        ),
    ]


class Batches(TypedDict, total=False):
    """How much at once."""

    batch_size: Annotated[int, Option(32, checks.fixed_batch_size, "Images a step.")]


class PGDOptions(Restarts, Momentum, MethodOptions, total=False):
    """What :class:`~art_mtl.torchattacks.MultiTaskPGD` takes beside its positional arguments."""


class AllTasksOptions(Restarts, AllTasksParts, total=False):
    """What an attack on all tasks takes whose method is settled."""


class AutoPGDOptions(Restarts, AutoParts, total=False):
    """What Auto-PGD leaves to choose."""


class StealthyOptions(Restarts, StealthyParts, total=False):
    """What a task-selective attack leaves to choose."""


class UniversalOptions(SparseStep, FittedParts, total=False):
    """What the search for one perturbation leaves to choose."""


OPTIONS = table(
    MethodName, Variants, Ball, Alpha, Steps, Start, Bounds, Batches, Verbosity, PGDOptions, Place, Ensembles
)
"""Every option of this host."""
