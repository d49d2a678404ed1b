"""Who hears of a run while it goes on."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from art_mtl.core import checks
from art_mtl.core.warn import warn
from art_mtl.evaluation.attack import AttackInfo
from art_mtl.evaluation.examples import Examples
from art_mtl.evaluation.experiment import Experiment
from art_mtl.evaluation.results import AttackResult, Rows

if TYPE_CHECKING:
    from art_mtl.core.context import StepRecord

__all__ = ["Callback", "CallbackList", "RunPlan", "UnitReport"]


@dataclass(frozen=True)
class RunPlan:
    """What a run is going to do. Its unit of work is one attack on one chunk of the data.

    Attributes:
        experiment: What was asked for.
        victim: Name of the model and its data.
        tasks: Names of the K tasks, in the order of all figures.
        attacks: In the order of the results.
        samples: N.
        done: Units that an earlier session has finished.
        total: All units, attacks × chunks.
        gradient_evaluations: Of each attack, for each sample; None where they are not known before it runs.
    """

    experiment: Experiment
    victim: str
    tasks: tuple[str, ...]
    attacks: tuple[AttackInfo, ...]
    samples: int
    done: int
    total: int
    gradient_evaluations: tuple[int | None, ...]


@dataclass(frozen=True)
class UnitReport:
    """One unit of work that has been stored: an attack on a chunk of the data.

    Attributes:
        attack: Which; None for the clean inputs.
        chunk: Number of the chunk, from 0.
        samples: In the chunk.
        seconds: That the attack took.
        weights: Mean weight of each task at each step, ``(T, K)``; None where the attack does not tell.
        losses: Mean loss of each task at each step that was asked for, ``(T, K)``, None elsewhere.
        done: Units that are finished, attacks × chunks.
        total: All units, attacks × chunks.
    """

    attack: AttackInfo | None
    chunk: int
    samples: int
    seconds: float
    weights: Rows | None
    losses: Rows | None
    done: int
    total: int


class Callback:
    """Base class of callbacks. A callback hears of a run while it goes on; override what you need.

    All methods are called in the process that called :func:`art_mtl.evaluation.evaluate`. With ``ray=`` other processes
    compute the units: then :meth:`on_step` is not called, and the means of the steps come with :meth:`on_unit`.

    Attributes:
        losses_every: The losses of every n-th step are computed and come with each unit; 0 for none. They cost time.
        errors: What happens if the callback raises an exception. "raise" ends the run, and what is stored stays. "warn"
            gives a warning, and the run goes on without the callback.

    Examples:
        >>> class Progress(Callback):
        ...     def on_unit(self, report):
        ...         print(f"{report.done} of {report.total}")
        >>> Progress().on_unit(UnitReport(None, 0, 8, 0.5, None, None, done=0, total=2))
        0 of 2
    """

    losses_every: int = 0
    errors: Literal["raise", "warn"] = "raise"

    def on_begin(self, plan: RunPlan) -> None:
        """The run begins."""

    def on_step(self, attack: AttackInfo, chunk: int, record: StepRecord) -> None:
        """An attack makes a step on a batch of a chunk.

        The call itself does not wait for the device, and all tensors are there. A copy to the host, as by ``.item()``,
        ``.cpu()`` or ``print``, waits until the device has computed it. The tensors belong to the attack: read them,
        and do not write into them. ``record.losses`` is computed when it is first read.

        Attacks of this package call it; attacks of other packages do not.

        Args:
            attack: Which.
            chunk: Number of the chunk, from 0.
            record: The step: its number, the weights ``(B, K)``, the inputs ``(B, ...)`` and more.
        """

    def on_unit(self, report: UnitReport) -> None:
        """A unit has been stored."""

    def on_attack(self, result: AttackResult, examples: Examples) -> None:
        """An attack has finished all chunks. Attacks that an earlier session has finished come first.

        Args:
            result: Its figures, with intervals and cost.
            examples: Its adversarial inputs of the samples that it degrades least and most, at most three of each.
        """

    def on_end(self, run: Any) -> None:
        """The run is complete: a :class:`~art_mtl.evaluation.Run`."""

    def on_exception(self, error: BaseException) -> None:
        """The run ends by this exception, or goes on without this callback, which has raised it. Ctrl-C is a
        KeyboardInterrupt.
        """


class CallbackList(Callback):
    """Callbacks as one.

    Args:
        callbacks: One, or several, which hear of everything in this order.

    Raises:
        TypeError: One is no callback.
        ValueError: An attribute of one is out of its range.
    """

    def __init__(self, callbacks: Callback | Iterable[Callback] = ()) -> None:
        self._callbacks: list[Callback] = []
        self._has_begun = False
        self._held: dict[tuple[type[Warning], str], warnings.WarningMessage] = {}
        for one in callbacks if isinstance(callbacks, Iterable) else [callbacks]:
            self.append(one)

    def append(self, callback: Callback) -> None:
        """Add one at the end."""
        if not isinstance(callback, Callback):
            found = f"the class {callback.__name__}" if isinstance(callback, type) else type(callback).__name__
            raise TypeError(f"Parameter `callbacks` should hold objects of Callback. Found {found}.")
        checks.integer(0)("losses_every", callback.losses_every)
        checks.one_of("raise", "warn")("errors", callback.errors)
        self._callbacks.append(callback)
        self.losses_every = math.gcd(self.losses_every, callback.losses_every)

    @property
    def hears_steps(self) -> bool:
        """Whether a callback wants to hear of steps."""
        return any(map(_hears_steps, self._callbacks))

    def on_begin(self, plan: RunPlan) -> None:
        self._has_begun = True
        self._tell("on_begin", plan)

    def on_step(self, attack: AttackInfo, chunk: int, record: StepRecord) -> None:
        # While an attack runs, warnings become part of its result. Those of callbacks are held back until it has ended.
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self._tell("on_step", attack, chunk, record)
        for one in caught:
            self._held.setdefault((one.category, str(one.message)), one)

    def on_unit(self, report: UnitReport) -> None:
        self._warn_of_steps()
        self._tell("on_unit", report)

    def on_attack(self, result: AttackResult, examples: Examples) -> None:
        self._tell("on_attack", result, examples)

    def on_end(self, run: Any) -> None:
        self._tell("on_end", run)

    def on_exception(self, error: BaseException) -> None:
        self._warn_of_steps()
        for one in self._callbacks:
            _dismiss(one, error)

    @contextmanager
    def hearing_of_exceptions(self) -> Iterator[None]:
        """Tell of what ends the run."""
        try:
            yield
        except BaseException as error:
            if self._has_begun:
                self.on_exception(error)
            raise

    def _tell(self, hook: str, *what: object) -> None:
        for one in tuple(self._callbacks):
            if hook == "on_step" and not _hears_steps(one):
                continue
            try:
                getattr(one, hook)(*what)
            except Exception as error:
                if one.errors == "raise":
                    raise RuntimeError(f"{_failure(one, hook, error)} What is stored stays.") from error
                self._callbacks.remove(one)
                _dismiss(one, error)
                warn(f"{_failure(one, hook, error)} The run goes on without it.", RuntimeWarning)

    def _warn_of_steps(self) -> None:
        held = list(self._held.values())
        self._held.clear()
        for one in held:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def _hears_steps(callback: Callback) -> bool:
    return getattr(callback.on_step, "__func__", None) is not Callback.on_step


def _dismiss(callback: Callback, error: BaseException) -> None:
    try:
        callback.on_exception(error)
    except Exception as another:  # the first one is what the user should see
        warn(_failure(callback, "on_exception", another), RuntimeWarning)


def _failure(callback: Callback, hook: str, error: Exception) -> str:
    what = f"{type(error).__name__} in {hook}: {str(error).rstrip('.')}"
    return f"Callback {type(callback).__name__} should raise no exception. Found {what}."
