"""Callbacks that log a run with TensorBoard, MLflow and Weights & Biases."""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from art_mtl.evaluation.attack import AttackInfo
from art_mtl.evaluation.callbacks import Callback, RunPlan, UnitReport
from art_mtl.evaluation.examples import Examples
from art_mtl.evaluation.report.frames import figures_of, with_interval
from art_mtl.evaluation.results import AttackResult, Number

_LONGEST = 500
"""Characters of a parameter that every version of MLflow takes."""
_AT_ONCE = 1000
"""Metrics that MLflow takes in one call."""

__all__ = ["MLflowCallback", "TensorBoardCallback", "TrackerCallback", "WandbCallback"]


class TrackerCallback(Callback, ABC):
    """Base class of callbacks that log a run with an experiment tracker.

    Subclasses say how a tracker is opened, how it logs numbers, and how it is closed. No subclass hears of steps, so
    none of them can make a step wait for the device; all of them work with ``ray=`` too.

    After each unit they log ``progress/share`` and ``progress/seconds``. After each attack they log

    - ``delta_mtl/<attack>`` and ``delta_wor/<attack>``, with the ends of their intervals (``delta_wor_low/<attack>``);
    - ``per_image_worst``, ``perturbation``, ``gradient_evaluations``, ``forward_evaluations``, ``seconds``, likewise;
    - ``delta/<attack>/<task>`` with its interval, and ``attacked/<attack>/<task>``, the metric under the attack;
    - ``weights/<attack>/<task>`` and ``losses/<attack>/<task>``, the means of each step.

    ``<attack>`` is the name, norm and radius of an attack, such as ``worst-task_linf_0.05``. Characters that trackers
    do not take are replaced.

    Args:
        losses_every: Steps between two logged losses; 0 logs none. They cost time.
        errors: "warn" lets the run go on without the callback if the tracker fails; "raise" ends the run.

    Examples:
        >>> import numpy as np, torch
        >>> from art_mtl import tasks
        >>> from art_mtl.evaluation import evaluate
        >>> class Names(TrackerCallback):
        ...     def open(self, plan):
        ...         self.seen = []
        ...     def log(self, numbers, step):
        ...         self.seen += numbers
        ...     def close(self, error):
        ...         self.seen.append("closed")
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
        >>> x = np.random.default_rng(0).uniform(size=(8, 1, 2, 2)).astype(np.float32)
        >>> names = Names()
        >>> run = evaluate((net, [tasks.classification("kind", 3)]), ["equal"], (x, np.arange(8) % 3), eps=[0.5],
        ...     steps=2, callbacks=names, progress=False)
        >>> names.seen[0], names.seen[2], names.seen[-2:]
        ('progress/share', 'delta_mtl/equal_linf_0.5', ['weights/equal_linf_0.5/kind', 'closed'])
    """

    def __init__(self, *, losses_every: int = 0, errors: Literal["raise", "warn"] = "warn") -> None:
        self.losses_every, self.errors = losses_every, errors
        self._attacks: dict[AttackInfo, str] = {}
        self._tasks: list[str] = []

    @abstractmethod
    def open(self, plan: RunPlan) -> None:
        """Begin to log a run."""

    @abstractmethod
    def log(self, numbers: Mapping[str, float], step: int | None) -> None:
        """Log numbers by name.

        Args:
            numbers: What to log.
            step: Number of the unit or of the step; None for numbers that a run has once.
        """

    @abstractmethod
    def close(self, error: BaseException | None) -> None:
        """The run is over.

        Args:
            error: What ended it; None if it is complete.
        """

    def on_begin(self, plan: RunPlan) -> None:
        infos = dict.fromkeys(plan.attacks)
        self._attacks = dict(zip(infos, _log_names([_title(info) for info in infos]), strict=True))
        self._tasks = _log_names(plan.tasks)
        self.open(plan)

    def on_unit(self, report: UnitReport) -> None:
        if report.attack is not None:
            numbers = {"progress/share": report.done / report.total, "progress/seconds": report.seconds}
            self.log(numbers, report.done)

    def on_attack(self, result: AttackResult, examples: Examples) -> None:
        attack = self._attacks[AttackInfo(**{one.name: getattr(result, one.name) for one in fields(AttackInfo)})]
        self._log(attack, figures_of(result))
        for k, task in enumerate(self._tasks):
            interval = with_interval("delta", result.deltas[k], result.delta_intervals[k])
            self._log(f"{attack}/{task}", {"attacked": result.values[k], **interval})
        for step, row in enumerate(result.weights or ()):
            self._log_tasks("weights", attack, row, step)
        for step, row in enumerate(result.losses or ()):
            self._log_tasks("losses", attack, row, step)

    def on_end(self, run: Any) -> None:
        self.close(None)

    def on_exception(self, error: BaseException) -> None:
        self.close(error)

    def _log(self, what: str, numbers: Mapping[str, Number]) -> None:
        self.log({f"{name}/{what}": number for name, number in numbers.items() if number is not None}, None)

    def _log_tasks(self, name: str, attack: str, row: Sequence[Number], step: int) -> None:
        pairs = zip(self._tasks, row, strict=True)
        numbers = {f"{name}/{attack}/{task}": number for task, number in pairs if number is not None}
        if numbers:
            self.log(numbers, step)


class TensorBoardCallback(TrackerCallback):
    """Logs a run for TensorBoard. Look at it with ``tensorboard --logdir FOLDER``.

    Args:
        log_dir: Folder of the event files; made if needed.
        losses_every: See :class:`TrackerCallback`.
        errors: See :class:`TrackerCallback`.

    Raises:
        ImportError: tensorboardX is missing.

    Examples:
        >>> from art_mtl.evaluation import evaluate
        >>> run = evaluate("digits", ["worst-task"], limit=8, steps=2, progress=False,
        ...     callbacks=TensorBoardCallback("results/logs"))  # doctest: +SKIP
    """

    def __init__(
        self, log_dir: str | Path, *, losses_every: int = 0, errors: Literal["raise", "warn"] = "warn"
    ) -> None:
        super().__init__(losses_every=losses_every, errors=errors)
        self._package = _imported("tensorboardX", "tensorboard")
        self.log_dir = Path(log_dir)
        self._writer: Any = None

    def open(self, plan: RunPlan) -> None:
        self._writer = self._package.SummaryWriter(str(self.log_dir))
        lines = [f"    {line}" for line in plan.experiment.to_yaml().splitlines()]
        self._writer.add_text("experiment", "\n".join(lines))

    def log(self, numbers: Mapping[str, float], step: int | None) -> None:
        for name, number in numbers.items():
            self._writer.add_scalar(name, number, step or 0)

    def close(self, error: BaseException | None) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class MLflowCallback(TrackerCallback):
    """Logs a run with MLflow, as a run of its own; the active run of the program is left alone.

    Args:
        tracking_uri: Where MLflow keeps runs: the address of a server, or a local store such as "sqlite:///mlflow.db".
            None: the one that MLflow is set to.
        experiment_name: MLflow's experiment; made if needed.
        run_name: Name of the run; None for the victim's.
        losses_every: See :class:`TrackerCallback`.
        errors: See :class:`TrackerCallback`.

    Attributes:
        run_id: MLflow's mark of the run; None before.

    Raises:
        ImportError: mlflow is missing.

    Examples:
        >>> from art_mtl.evaluation import evaluate
        >>> run = evaluate("digits", ["worst-task"], limit=8, steps=2, progress=False,
        ...     callbacks=MLflowCallback("http://localhost:5000"))  # doctest: +SKIP
    """

    def __init__(
        self,
        tracking_uri: str | None = None,
        experiment_name: str = "art_mtl",
        run_name: str | None = None,
        *,
        losses_every: int = 0,
        errors: Literal["raise", "warn"] = "warn",
    ) -> None:
        super().__init__(losses_every=losses_every, errors=errors)
        self._package = _imported("mlflow", "mlflow")
        self.tracking_uri, self.experiment_name, self.run_name = tracking_uri, experiment_name, run_name
        self.run_id: str | None = None
        self._client: Any = None

    def open(self, plan: RunPlan) -> None:
        client = self._package.MlflowClient(self.tracking_uri)
        found = client.get_experiment_by_name(self.experiment_name)
        place = client.create_experiment(self.experiment_name) if found is None else found.experiment_id
        self.run_id = client.create_run(place, run_name=self.run_name or plan.victim).info.run_id
        self._client = client
        parameter = self._package.entities.Param
        parameters = [parameter(name, str(value)[:_LONGEST]) for name, value in _settings(plan).items()]
        client.log_batch(self.run_id, params=parameters)

    def log(self, numbers: Mapping[str, float], step: int | None) -> None:
        now = int(1000 * time.time())
        metric = self._package.entities.Metric
        metrics = [metric(name, number, now, step or 0) for name, number in numbers.items()]
        for first in range(0, len(metrics), _AT_ONCE):
            self._client.log_batch(self.run_id, metrics=metrics[first : first + _AT_ONCE])

    def close(self, error: BaseException | None) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            interrupted = isinstance(error, KeyboardInterrupt)
            client.set_terminated(self.run_id, "FINISHED" if error is None else "KILLED" if interrupted else "FAILED")


class WandbCallback(TrackerCallback):
    """Logs a run with Weights & Biases, as a run of its own; the active run of the program is left alone.

    Args:
        losses_every: See :class:`TrackerCallback`.
        errors: See :class:`TrackerCallback`.
        **settings: Arguments of ``wandb.init``, such as ``project``, ``name`` and ``mode="offline"``.

    Raises:
        ImportError: wandb is missing.

    Examples:
        >>> from art_mtl.evaluation import evaluate
        >>> run = evaluate("digits", ["worst-task"], limit=8, steps=2, progress=False,
        ...     callbacks=WandbCallback(project="robustness", mode="offline"))  # doctest: +SKIP
    """

    def __init__(self, *, losses_every: int = 0, errors: Literal["raise", "warn"] = "warn", **settings: Any) -> None:
        super().__init__(losses_every=losses_every, errors=errors)
        self._package = _imported("wandb", "wandb")
        self.settings = settings
        self._run: Any = None

    def open(self, plan: RunPlan) -> None:
        config = {**_settings(plan), **self.settings.get("config", {})}
        own = {"project": "art_mtl", "reinit": "create_new", **self.settings, "config": config}
        self._run = self._package.init(**own)
        for group in ("progress", "weights", "losses"):
            self._run.define_metric(f"{group}/*", step_metric="step")

    def log(self, numbers: Mapping[str, float], step: int | None) -> None:
        if step is None:
            self._run.summary.update(dict(numbers))
        else:
            self._run.log({**numbers, "step": step})

    def close(self, error: BaseException | None) -> None:
        if self._run is not None:
            run, self._run = self._run, None
            run.finish(exit_code=int(error is not None))


def _imported(package: str, extra: str) -> Any:
    try:
        return import_module(package)
    except ImportError as error:
        raise ImportError(
            f"A run that is logged with {package} should have it: pip install '.[{extra}]'. Found it missing."
        ) from error


def _settings(plan: RunPlan) -> dict[str, Any]:
    """What was asked for, as plain values."""
    given = {name: value for name, value in vars(plan.experiment).items() if value is not None}
    texts = {name: ", ".join(value) for name, value in given.items() if isinstance(value, tuple)}
    return {**given, **{name: str(value) for name, value in given.items() if isinstance(value, Path)}, **texts}


def _title(info: AttackInfo) -> str:
    known = [info.name, *([] if info.norm is None else [info.norm]), *([] if info.eps is None else [f"{info.eps:.4g}"])]
    return " ".join(known)


def _log_names(names: Sequence[str]) -> list[str]:
    """Names that every tracker takes, each its own.

    Examples:
        >>> _log_names(["a|b", "a<b", "Δ 1"])
        ['a_b', 'a_b-2', 'Δ_1']
    """
    found: list[str] = []
    for name in names:
        plain = re.sub(r"[^\w.-]+", "_", name).strip(".") or "_"
        own, count = plain, 1
        while own in found:
            count += 1
            own = f"{plain}-{count}"
        found.append(own)
    return found
