"""The options that have their name from ART, beside those that all hosts share."""

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
    Seed,
    SparseStep,
    StealthyParts,
    Variants,
    table,
)


class FirstStep(TypedDict, total=False):
    """The step size."""

    eps_step: Annotated[
        Any,
        Option(
            None,
            checks.optional(checks.radius),
            "Step size, of the same kind as ``eps``; the size of the *first* step where ``schedule`` falls. None: 2.5 "
            "ε/T (L∞), 2 ε/T (L2), ε (L1) if constant; 2 ε if it falls, 3 ε with momentum.",
        ),
    ]


class Steps(TypedDict, total=False):
    """How long."""

    max_iter: Annotated[int, Option(100, checks.integer(1), "T ≥ 1, the number of steps.")]


class Aim(TypedDict, total=False):
    """Where to."""

    targeted: Annotated[
        bool,
        Option(
            False,
            checks.flag_of_art,
            "The labels are what the outputs should become. Tasks without a label for any sample are left alone.",
        ),
    ]


class Starts(TypedDict, total=False):
    """From where."""

    num_random_init: Annotated[
        int,
        Option(
            0,
            checks.integer(0),
            "0 starts at ``x``; n > 0 makes n runs from random points of the ball and keeps the best of each sample.",
        ),
    ]


class Batches(TypedDict, total=False):
    """How much at once."""

    batch_size: Annotated[
        int | str,
        Option(
            32,
            checks.batch_size,
            'Samples a batch, or "auto": measured at the first call, before the first step, and kept until a call has '
            "more samples than it could try. It is part of the setting where samples share weights. If memory runs out "
            "later, parts of a batch pass through the network one after another, which changes no result.",
        ),
    ]


class RandomRadius(TypedDict, total=False):
    """ε at random."""

    random_eps: Annotated[
        bool,
        Option(
            False,
            checks.flag,
            "Draw ε, and with it the step size, anew for each call from a truncated normal distribution on (0, ε], as "
            "ART does (but ``eps`` keeps its value). With ``seed`` the draws of call 1, 2, … are the same each time.",
        ),
    ]


class Reporting(TypedDict, total=False):
    """What is shown and logged."""

    verbose: Annotated[bool, Option(True, checks.flag_of_art, "Show a progress bar.")]
    summary_writer: Annotated[
        Any,
        Option(
            False,
            checks.nothing,
            "As in ART: False, True, a folder, or a ``SummaryWriter``. The losses and weights of each task are logged "
            "at every step.",
        ),
    ]


class _Unchosen(Aim, Starts, Batches, RandomRadius, Reporting, total=False):
    """What every attack on single samples takes, however it steps."""


class PGDOptions(Momentum, Steps, _Unchosen, MethodOptions, total=False):
    """Everything that :class:`~art_mtl.attacks.MultiTaskPGD` takes, but its method and its radius."""


class AllTasksOptions(Steps, _Unchosen, AllTasksParts, total=False):
    """What an attack on all tasks takes whose method is settled."""


class AutoPGDOptions(_Unchosen, AutoParts, total=False):
    """What Auto-PGD leaves to choose."""


class StealthyOptions(Steps, _Unchosen, StealthyParts, total=False):
    """What a task-selective attack leaves to choose."""


class UniversalOptions(Aim, Batches, Reporting, SparseStep, Seed, FittedParts, total=False):
    """What the search for one perturbation leaves to choose."""


class PatchOptions(Momentum, Aim, Batches, Reporting, FittedParts, total=False):
    """What the search for a patch leaves to choose."""


OPTIONS = table(MethodName, Variants, Ball, FirstStep, PGDOptions, Place, Ensembles)
"""Every option of this host."""
