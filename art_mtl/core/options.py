"""Every option that the attacks of all hosts share: its default, its check and its documentation, written once.

An option is one annotated entry of a ``TypedDict``. The groups below are unpacked in the signatures of the attack
classes (``**options: Unpack[MethodOptions]``), so that editors complete them and type checkers see a wrong name; at run
time the same entries are defaults, checks, the text of ``help`` and the reference pages. What has another name in each
host (``max_iter`` and ``steps``) stands in the host's own groups. Nothing of torch is imported here.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from typing_extensions import TypedDict

from art_mtl.core import checks

SCOPES = ("sample", "batch", "dataset")
OBJECTIVES = (
    "loss", "log", "normalized", "relative", "pooled-loss", "pooled-normalized", "pooled-relative", "degradation",
    "population",
)  # fmt: skip
WEIGHTINGS = ("uniform", "alternating", "minmax", "inner-minimiser")
SCHEDULES = ("constant", "linear", "cosine", "auto")
KEEPS = ("last", "best")
PROJECTIONS = ("exact", "box-then-ball", "ball-then-box")
L1_STEPS = ("adaptive", "one-pixel")
SELECTIONS = ("population", "sample")


@dataclass(frozen=True)
class Option:
    """One option of an attack.

    Attributes:
        default: Its value where the user gives none.
        check: Raises where a value will not do; see :mod:`art_mtl.core.checks`.
        doc: What it does, for ``help`` and the reference pages.
        sets: The field of a :class:`~art_mtl.core.method.Method` that it sets, or "weighting.<field>" for a number of
            the weighting; None where the option is no part of a method, or makes one.
        kind: Its type, in words; filled in from the annotation.
    """

    default: Any
    check: Callable[[str, Any], None]
    doc: str
    sets: str | None = None
    kind: str = ""


def optional(check: Callable[[str, Any], None], doc: str, sets: str | None = None) -> Option:
    """An option that is None where the user gives none, so that the method's own value stays."""
    return Option(None, checks.optional(check), doc, sets)


STEP_SIZE = optional(
    checks.radius,
    "Step size, of the same kind as the radius; the size of the *first* step where ``schedule`` falls. None: 2.5 ε/T "
    "(L∞), 2 ε/T (L2), ε (L1) if constant; 2 ε if it falls, 3 ε with momentum.",
)
"""The step size, which each host calls by another name."""
STEPS = "T ≥ 1, the number of steps."
RANDOM_START = Option(False, checks.flag, "Start at a random point of the ball.")


def table(*groups: Any) -> dict[str, Option]:
    """Name to option of some groups, in order.

    Examples:
        >>> sorted(table(Sharing))
        ['weight_group', 'weight_scope']
    """
    found: dict[str, Option] = {}
    for group in groups:
        for name, hint in group.__annotations__.items():
            option: Option = hint.__metadata__[0]
            found[name] = replace(option, kind=_words(hint.__origin__))
    return found


def _words(kind: Any) -> str:
    """A type as documentation shows it.

    Examples:
        >>> _words(Sequence[str] | None)
        'Sequence[str] | None'
    """
    words = kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)
    return words.replace("typing.", "").replace("collections.abc.", "")


class Objectives(TypedDict, total=False):
    """What is ascended, and how tasks are weighted."""

    objective: Annotated[
        str | None,
        optional(
            checks.one_of(*OBJECTIVES),
            'What is ascended: "loss", "log", "normalized", "relative", "degradation", "population" (that of '
            '"worst-task"), or with means over a batch "pooled-loss", "pooled-normalized", "pooled-relative". None: '
            "the method's own.",
            sets="objective",
        ),
    ]
    weighting: Annotated[
        str | Sequence[float] | None,
        optional(
            checks.weighting(*WEIGHTINGS),
            '"uniform", "alternating", "minmax", "inner-minimiser", or a list of one fixed weight for each task. None: '
            "the method's own.",
            sets="weighting",
        ),
    ]
    gamma: Annotated[
        float | None,
        optional(
            checks.number(0),
            'γ, the pull towards equal weights, of the min-max weightings (≥ 0) and of "worst-task": in [0, 1], 0.3; '
            'above 0 with ``weight_scope`` "sample" (0.3) and "batch" (0.1).',
            sets="weighting.gamma",
        ),
    ]
    weight_step: Annotated[
        float | None,
        optional(
            checks.number(0, above=True),
            "α₂, the step size of the weights.",
            sets="weighting.weight_step",
        ),
    ]


class Sharing(TypedDict, total=False):
    """Which samples share weights."""

    weight_scope: Annotated[
        str | None,
        optional(
            checks.one_of(*SCOPES),
            'Which samples share weights: "sample", "batch" or "dataset". None: the method\'s own.',
            sets="scope",
        ),
    ]
    weight_group: Annotated[
        int | None,
        optional(
            checks.fixed_batch_size,
            'With ``weight_scope`` "batch": how many neighbours share weights. With "dataset": the samples of a chunk, '
            "the part of a data set over which weights are shared (256).",
            sets="group",
        ),
    ]


class Schedule(TypedDict, total=False):
    """How the step size falls."""

    schedule: Annotated[
        str | None,
        optional(
            checks.one_of(*SCHEDULES),
            'Step size: "constant", "linear" (to 0), "cosine", or "auto": the rule of Auto-PGD, which has its own step '
            "size and momentum and returns the best iterate. None: the method's own.",
            sets="schedule",
        ),
    ]


class SparseStep(TypedDict, total=False):
    """The step of L1."""

    l1_step: Annotated[
        str,
        Option(
            "adaptive",
            checks.one_of(*L1_STEPS),
            'The step for L1: "adaptive" (Croce & Hein 2021) or "one-pixel" (that of ART).',
        ),
    ]


class Result(TypedDict, total=False):
    """What is returned."""

    keep: Annotated[
        str | None,
        optional(
            checks.one_of(*KEEPS),
            'Return the "last" iterate or the "best" one of each sample, which costs one more forward pass. None: the '
            "method's own.",
            sets="keep_best",
        ),
    ]


class Projection(TypedDict, total=False):
    """How iterates are projected."""

    projection: Annotated[
        str | None,
        optional(
            checks.one_of(*PROJECTIONS),
            '"exact" (the Euclidean projection onto ball ∩ box), "box-then-ball" (the order of ART) or "ball-then-box" '
            "(that of torchattacks). For L∞ all three agree. None: the method's own.",
            sets="projection",
        ),
    ]


class Preserved(TypedDict, total=False):
    """Which tasks are preserved."""

    preserved: Annotated[
        str | Sequence[str] | None,
        optional(
            checks.names_of_tasks,
            'Of "stealthy" and "smta": name of the task that should not change, or a list of several. None: all that '
            "are not attacked.",
        ),
    ]


class Selective(Preserved, total=False):
    """Which tasks are degraded and which preserved."""

    attacked: Annotated[
        str | Sequence[str] | None,
        optional(
            checks.names_of_tasks,
            'Of "stealthy" and "smta": name of the task to degrade, or a list of several.',
        ),
    ]
    tolerance: Annotated[
        float | None,
        optional(
            checks.number(0, above=True, below=1),
            'Of "stealthy": the largest relative change of a preserved task, in (0, 1); 0.05.',
        ),
    ]
    penalty: Annotated[
        float | None,
        optional(checks.number(0), 'Of "smta": the weight of the preserved tasks, ≥ 0; 1.'),
    ]


class Seed(TypedDict, total=False):
    """Randomness."""

    seed: Annotated[
        int | None,
        Option(
            None,
            checks.seed,
            "The seed of everything that the attack draws at random. None: torch's global generator.",
        ),
    ]


class Prepared(TypedDict, total=False):
    """What steps run on."""

    prepare: Annotated[
        Any,
        Option(
            None,
            checks.preparation,
            'What the gradient steps run on. None or "exact": the model itself. "fp32", "bf16" or "fp16", and behind '
            'it any of ",memory-efficient", ",compile" and ",graphs", or a :class:`~art_mtl.prepared.Preparation`: a '
            "private copy that computes the same at less cost. The copy is kept, and made anew when the model changes.",
        ),
    ]


class Running(Seed, Prepared, total=False):
    """How an attack runs."""


class Momentum(TypedDict, total=False):
    """The momentum."""

    decay: Annotated[
        float | None,
        optional(
            checks.number(0),
            'Momentum of the gradient (Dong et al. 2018). None: the method\'s own, which is 0.5 for "worst-task" and '
            '"worst-image", 0.9 for "stealthy" and none for the others.',
        ),
    ]


class Variants(TypedDict, total=False):
    """Which min-max."""

    variant: Annotated[
        str,
        Option(
            "paper",
            checks.one_of("paper", "official"),
            '"paper" is Algorithm 1: the raw losses of each sample, weights for each sample, updated at the *new* '
            'perturbation. "official" is the loop that the authors published: relative losses of batch means, '
            "weights shared by each 4 neighbours, both updates from the same forward pass, projection by scaling to "
            "the ball, then clamping to the box.",
        ),
    ]


class MethodName(TypedDict, total=False):
    """Which method."""

    method: Annotated[
        str,
        Option(
            "equal",
            checks.nothing,
            '"equal" (Σ L_i: Mao et al. 2020), "normalize" (Σ L_i/L_i⁰), "dgba" (Σ log L_i: Zhang et al. 2023), '
            '"alternate" (one task a step: Ghamizi et al. 2022), "single:<task>", "minmax", "minmax-official", '
            '"worst-task", "stealthy" and "smta" (degrade the ``attacked`` tasks, preserve the others) or '
            '"jd:<aggregator>" (TorchJD). "equal-official" and "normalize-official" are those of the paper\'s authors; '
            '"worst-image" is "worst-task" with weights for each image.',
        ),
    ]


class Norm(TypedDict, total=False):
    """How the size of a perturbation is measured."""

    norm: Annotated[
        float | str, Option(math.inf, checks.norm, 'The norm of the ball: infinity, 2 or 1; or "Linf", "L2", "L1".')
    ]


class Ball(Norm, total=False):
    """What the attacker may do."""

    eps: Annotated[
        Any,
        Option(
            0.3,
            checks.radius,
            "Radius of the ball, > 0, in the unit of the inputs before any normalisation: a number, or an array that "
            "is broadcastable to the inputs, of one value a sample, ``(N, 1, 1, 1)``, or for L∞ one a pixel.",
        ),
    ]


class Place(TypedDict, total=False):
    """Where a patch lies."""

    size: Annotated[
        tuple[int, int] | None,
        optional(
            checks.pair_of_integers(1),
            "Height and width of the patch, in pixels; or give ``mask``.",
        ),
    ]
    location: Annotated[
        tuple[int, int] | None,
        optional(
            checks.pair_of_integers(0),
            "Row and column of its upper left corner. None: the middle of the image.",
        ),
    ]
    mask: Annotated[Any, Option(None, checks.nothing, "``(H, W)``, not 0 where the patch is; in place of a rectangle.")]
    transforms: Annotated[
        Sequence[Callable[..., Any]],
        Option(
            (),
            checks.callables,
            "Callables over whose random draws the degradation is averaged, such as "
            ":class:`~art_mtl.core.searches.transforms.Translate`, :class:`~art_mtl.core.searches.transforms.Scale` "
            "and :class:`~art_mtl.core.searches.transforms.Brightness`; see :mod:`art_mtl.core.searches.transforms`.",
        ),
    ]
    shared: Annotated[bool, Option(True, checks.flag, "One patch for all samples; else each sample gets its own.")]
    ignore_patch: Annotated[
        bool,
        Option(
            True,
            checks.flag,
            "Labels under the patch (where it lies untransformed) do not count, so that what is degraded is the rest "
            "of the image.",
        ),
    ]


class Ensembles(TypedDict, total=False):
    """What an ensemble of attacks does."""

    version: Annotated[
        str,
        Option(
            "standard",
            checks.one_of("standard", "fast"),
            '"standard": 100 steps for each member, and a Square search of 1000 queries. "fast": 20 steps and 200 '
            "queries, without the members that attack single images or go for a wrong class.",
        ),
    ]
    selection: Annotated[
        str,
        Option(
            "population",
            checks.one_of(*SELECTIONS),
            'What the worst case is. "population": the members are chosen so that the least degraded task of *all* '
            "samples is degraded most; this figure, Δ_Wor of the paper's tables, is never weaker than that of any "
            'member. "sample": for each sample the member with the greatest *least* degradation over its tasks, and '
            "among equals the one with the greater degradation of smooth scores; no sample is less degraded than by "
            "any member.",
        ),
    ]


class MethodOptions(Objectives, Sharing, Schedule, Result, Projection, Selective, SparseStep, Running, total=False):
    """Everything that a method can be told, beside its radius and its steps."""


class AllTasksParts(Momentum, Objectives, Sharing, Schedule, Result, Projection, SparseStep, Running, total=False):
    """What an attack on all tasks takes whose method is settled."""


class AutoParts(Objectives, Sharing, Projection, Selective, Running, total=False):
    """What the rule of Auto-PGD leaves to choose."""


class StealthyParts(Momentum, Sharing, Schedule, Result, Projection, Preserved, SparseStep, Running, total=False):
    """What a task-selective attack leaves to choose."""


class FittedParts(Objectives, Schedule, Prepared, total=False):
    """What the search for one perturbation or patch leaves to choose."""


METHOD_PARTS = table(Objectives, Sharing, Schedule, Result, Projection, Selective)
"""The options that :func:`art_mtl.core.assembly.make_method` takes."""


def describe(options: Mapping[str, Option], indent: str = "        ") -> str:
    """The options as the "Args" section of a docstring, wrapped at 120 columns."""
    import textwrap

    entries = [
        f"{name} ({option.kind}): {option.doc}" if option.kind else f"{name}: {option.doc}"
        for name, option in options.items()
    ]
    return "\n".join(
        textwrap.fill(entry, 120, initial_indent=indent, subsequent_indent=indent + "    ") for entry in entries
    )
