"""The options that have their name from secml-torch, beside those that all hosts share."""

from math import inf
from typing import Annotated, Any

from secmlt.trackers.trackers import Tracker
from typing_extensions import TypedDict

from art_mtl.core import checks
from art_mtl.core import options as core
from art_mtl.core.options import Option


class Host(TypedDict, total=False):
    """What has its name from secml-torch, in its order."""

    perturbation_model: Annotated[str, Option("linf", checks.one_of("linf", "l2", "l1"), "The norm of the ball.")]
    epsilon: Annotated[Any, Option(8 / 255, checks.radius, "Radius of the ball, > 0.")]
    num_steps: Annotated[int, Option(10, checks.integer(1), core.STEPS)]
    step_size: Annotated[Any, core.STEP_SIZE]
    random_start: Annotated[bool, core.RANDOM_START]
    y_target: Annotated[Any, Option(None, checks.nothing, "One target by task; of one task, the target alone.")]
    lb: Annotated[float, Option(0.0, checks.number(-inf), "Smallest allowed input.")]
    ub: Annotated[float, Option(1.0, checks.number(-inf), "Greatest allowed input.")]
    trackers: Annotated[Any, Option(None, checks.optional(checks.objects(Tracker)), "A tracker or a list of them.")]


class Options(Host, core.MethodName, core.Variants, core.Momentum, core.MethodOptions, total=False):
    """What an attack takes, but for what it decides."""


OPTIONS = core.table(Options)
