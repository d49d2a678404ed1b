"""The options that have their name from ART, beside those that all hosts share."""

from dataclasses import replace
from typing import Annotated, Any

from typing_extensions import TypedDict

from art_mtl.core import checks
from art_mtl.core import options as core
from art_mtl.core.options import Option


class FirstStep(TypedDict, total=False):
    """The step size."""

    eps_step: Annotated[Any, core.STEP_SIZE]


class Steps(TypedDict, total=False):
    """How long."""

    max_iter: Annotated[int, Option(100, checks.integer(1), core.STEPS)]


class Calls(TypedDict, total=False):
    """What every attack takes that is told a method: where to, how much at once, what is shown and logged."""

    targeted: Annotated[
        bool,
        Option(
            False,
            checks.flag_of_art,
            "The labels are what the outputs should become. Tasks without a label for any sample are left alone.",
        ),
    ]
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


class Samples(Calls, total=False):
    """What every attack on single samples takes, however it steps."""

    num_random_init: Annotated[
        int, Option(0, checks.integer(0), "0 starts at ``x``; n > 0 makes n random starts and keeps the best of each.")
    ]
    random_eps: Annotated[
        bool,
        Option(
            False,
            checks.flag,
            "Draw ε, and with it the step size, anew for each call from a truncated normal distribution on (0, ε], as "
            "ART does (but ``eps`` keeps its value). With ``seed`` the draws of call 1, 2, … are the same each time.",
        ),
    ]


class AllTasksOptions(Steps, Samples, core.AllTasksParts, total=False):
    """What an attack on all tasks takes whose method is settled."""


class AutoPGDOptions(Samples, core.AutoParts, total=False):
    """What Auto-PGD leaves to choose."""


class StealthyOptions(Steps, Samples, core.StealthyParts, total=False):
    """What a task-selective attack leaves to choose."""


class UniversalOptions(Calls, core.SparseStep, core.Seed, core.FittedParts, total=False):
    """What the search for one perturbation leaves to choose."""


class PatchOptions(core.Place, Calls, core.Momentum, core.Seed, core.FittedParts, total=False):
    """What the search for a patch leaves to choose."""


OPTIONS = core.table(
    core.MethodName, core.Variants, core.Ball, FirstStep, core.Momentum, Steps, Samples, core.MethodOptions, core.Place,
    core.Ensembles,
)  # fmt: skip
"""Every option of this host."""

FIXED_BATCHES = {
    **OPTIONS,
    "batch_size": replace(
        OPTIONS["batch_size"],
        check=checks.fixed_batch_size,
        doc="Samples a batch, and so of each step where one perturbation is found for all.",
    ),
}
"""The same where a batch size is part of the setting, so that it cannot be measured."""
