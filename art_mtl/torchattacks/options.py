"""The options that have their name from torchattacks, beside those that all hosts share."""

from typing import Annotated, Any

from typing_extensions import TypedDict

from art_mtl.core import checks
from art_mtl.core import options as core
from art_mtl.core.options import Option


class Host(TypedDict, total=False):
    """What stands by name in the signatures of the attacks."""

    alpha: Annotated[Any, core.STEP_SIZE]
    steps: Annotated[int, Option(10, checks.integer(1), core.STEPS)]
    random_start: Annotated[bool, core.RANDOM_START]
    verbose: Annotated[bool, Option(False, checks.flag, "Show how far a call has come, or what came of it.")]


class Threat(core.Norm, total=False):
    """What is allowed, and how often it is tried."""

    bounds: Annotated[
        Any, Option((0, 1), checks.bounds, "Smallest and largest allowed input, each broadcastable to the inputs.")
    ]
    restarts: Annotated[
        int, Option(1, checks.integer(1), "Random starts, the best of which is kept; above 1 needs ``random_start``.")
    ]


class Batches(TypedDict, total=False):
    """How much at once."""

    batch_size: Annotated[int, Option(32, checks.fixed_batch_size, "Images a step.")]


class PGDOptions(Threat, core.Momentum, core.MethodOptions, total=False):
    """What :class:`~art_mtl.torchattacks.MultiTaskPGD` takes beside its positional arguments."""


class AllTasksOptions(Threat, core.AllTasksParts, total=False):
    """What an attack on all tasks takes whose method is settled."""


class AutoPGDOptions(Threat, core.AutoParts, total=False):
    """What Auto-PGD leaves to choose."""


class StealthyOptions(Threat, core.StealthyParts, total=False):
    """What a task-selective attack leaves to choose."""


class PatchOptions(core.Place, Batches, core.Momentum, core.Seed, core.FittedParts, total=False):
    """What the search for a patch leaves to choose."""


class UniversalOptions(core.SparseStep, Batches, core.Momentum, core.Seed, core.FittedParts, total=False):
    """What the search for one perturbation leaves to choose."""


OPTIONS = core.table(core.MethodName, core.Variants, core.Ball, Host, Batches, PGDOptions, core.Place, core.Ensembles)
"""Every option of this host."""
