"""What every attack for ART stands on: arrays in, :mod:`art_mtl.core.engine` does the work, an array out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
from art.attacks.attack import EvasionAttack
from art.estimators.classification import PyTorchClassifier
from art.estimators.estimator import BaseEstimator, LossGradientsMixin
from art.exceptions import EstimatorError
from art.summary_writer import SummaryWriter, SummaryWriterDefault
from scipy.stats import truncnorm
from torch import Tensor

from art_mtl.attacks.options import OPTIONS
from art_mtl.attacks.reports import Reports
from art_mtl.core import checks
from art_mtl.core.batch_size import BatchSize
from art_mtl.core.config import AttackConfig
from art_mtl.core.engine import Call, Engine
from art_mtl.core.front import Front
from art_mtl.estimators import PyTorchMultiTaskEstimator
from art_mtl.estimators.checks import check_inputs
from art_mtl.tasks import Task

FloatArray = npt.NDArray[np.float32]
Estimator: TypeAlias = PyTorchMultiTaskEstimator | PyTorchClassifier


class MultiTaskAttack(Front, EvasionAttack):  # type: ignore[misc]
    """Base of the attacks for ART."""

    attack_params = EvasionAttack.attack_params
    option_table = OPTIONS
    host_arguments = {
        "estimator": "A :class:`~art_mtl.estimators.PyTorchMultiTaskEstimator`, or a stock ART ``PyTorchClassifier`` "
        "(one task)."
    }
    core_names = {"step_size": "eps_step", "steps": "max_iter", "restarts": "num_random_init", "momentum": "decay"}
    other_names = {
        "model": "`estimator`", "alpha": "`eps_step`", "steps": "`max_iter`", "epsilon": "`eps`",
        "random_start": "`num_random_init`", "restarts": "`num_random_init`", "momentum": "`decay`",
        "loss": "`objective`", "weights": "`weighting`", "bounds": "`clip_values` of the estimator",
        "tasks": "`tasks` of the estimator",
    }  # fmt: skip
    _always_shown: ClassVar[tuple[str, ...]] = ("method", "norm", "eps", "max_iter")
    _estimator_requirements = (BaseEstimator, LossGradientsMixin)
    estimator: PyTorchMultiTaskEstimator
    _summary_writer: SummaryWriter | None
    _summary_writer_arg: str | bool | SummaryWriter

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.attack_params = list(cls.options)

    def __init__(self, estimator: Estimator, **options: Any) -> None:
        self._engine = Engine()
        self.observer = None
        if isinstance(estimator, PyTorchClassifier):
            estimator = PyTorchMultiTaskEstimator.from_classifier(estimator)
        if not isinstance(estimator, PyTorchMultiTaskEstimator):
            wanted = [*self._estimator_requirements, (PyTorchMultiTaskEstimator, PyTorchClassifier)]
            raise EstimatorError(type(self), wanted, estimator)
        super().__init__(estimator=estimator, summary_writer=_checked_writer(options.get("summary_writer")))
        with self._types_before_values(options):
            self._configure(**options)

    @property
    def measured(self) -> BatchSize | None:
        """What the batch size "auto" has found."""
        return self._engine.measured

    @property
    def summary_writer(self) -> SummaryWriter | None:
        """Where losses and weights are logged, or None."""
        return self._summary_writer

    @summary_writer.setter
    def summary_writer(self, writer: str | bool | SummaryWriter | None) -> None:
        writer = _checked_writer(writer)
        if writer is self._summary_writer:
            return  # What ART has made stays its own.
        self._summary_writer_arg = writer
        if isinstance(writer, SummaryWriter):
            self._summary_writer = writer
        else:
            self._summary_writer = SummaryWriterDefault(writer) if writer else None

    def set_params(self, **options: Any) -> None:
        measured = self._engine.measured
        try:
            with self._types_before_values(options):
                super().set_params(**options)
        except BaseException:
            self._engine.measured = measured
            raise

    @contextmanager
    def _types_before_values(self, given: Mapping[str, Any]) -> Iterator[None]:
        """A wrong value is a TypeError, as in ART, where a number stands beside an array too."""
        try:
            yield
        except ValueError as error:
            radii = [given.get(name, getattr(self, name, None)) for name in ("eps", "eps_step")]
            arrays = [radius for radius in radii if isinstance(radius, np.ndarray)]
            if len(arrays) == 1 and (arrays[0] <= 0).any():
                raise TypeError(str(error)) from error
            raise

    def generate(
        self, x: npt.NDArray[Any], y: Any = None, mask: npt.NDArray[Any] | None = None, **kwargs: Any
    ) -> FloatArray:
        """Attack ``x``.

        Args:
            x: ``(N, *input_shape)``, floating point, inside the estimator's ``clip_values``.
            y: Labels in any form of :meth:`art_mtl.MultiTaskLabels.of`. None: the model's own clean predictions, which
                is not possible for a targeted attack. A targeted attack leaves tasks alone that ``y`` does not name;
                "stealthy" and "smta" need targets of the attacked tasks and the true labels of the preserved ones.
            mask: 0 where nothing may change, broadcastable to ``x``.
            **kwargs: None is known.

        Returns:
            Adversarial inputs, ``(N, *input_shape)``, float32, within ε of ``x`` and inside the box.

        Raises:
            ValueError: Shapes, values or labels do not fit; the message says which, what was expected and what was
                found.
            TypeError: Wrong dtype, or an unknown keyword.
        """
        if kwargs:
            raise TypeError(f"generate() knows `x`, `y` and `mask`. Found {sorted(kwargs)}.")
        self._check_params()
        inputs = self._inputs(x)
        search, config, model = self._search(inputs), self._config(**self._radii()), self.estimator.attacked_model()
        call = Call(model, inputs, y, self._bounds(), mask=mask, callbacks=Reports(self), settings=self._settings)
        found: FloatArray = self._engine.run(search, config, call).numpy()
        self._keep(search)
        return found

    def _inputs(self, x: Any) -> Tensor:
        """Inputs, checked, float32 on the host, in memory of their own."""
        if not isinstance(x, np.ndarray):
            raise TypeError(f"Parameter `x` should be a NumPy array. Found {type(x).__name__}.")
        return check_inputs(x, tuple(self.estimator.input_shape)).float()

    def _bounds(self) -> tuple[Tensor, Tensor]:
        return self.estimator.bounds

    def _attacked_tasks(self) -> tuple[Task, ...]:
        return self.estimator.tasks

    def _config(self, **settled: Any) -> AttackConfig:
        return super()._config(random_start=self.num_random_init > 0, **settled)

    def _radii(self) -> dict[str, Any]:
        """ε and the step size of the next call, where they are drawn at random: both scaled alike."""
        if not self.random_eps:
            return {}
        size = None if np.ndim(self.eps) == 0 else np.shape(self.eps)
        source = None if self.seed is None else np.random.default_rng([int(self.seed), self._engine.calls])
        # A truncated normal with standard deviation ε/2 on (0, ε]: in units of ε the same for every ε.
        share = truncnorm.rvs(0, 2, scale=0.5, size=size, random_state=source)
        share = np.maximum(share, np.finfo(np.float32).eps)
        return {"eps": self.eps * share, "step_size": None if self.eps_step is None else self.eps_step * share}

    def _check_params(self) -> None:
        if self.eps_step is not None:
            checks.same_kind("eps_step", self.eps_step, "eps", self.eps)
        checks.bounds("clip_values", self._bounds())
        super()._check_params()

    def _store(self, name: str, value: Any) -> None:
        if name in ("batch_size", "prepare"):
            self._engine.measured = None
        super()._store(name, value)

    def __getstate__(self) -> dict[str, Any]:
        # A copy has a writer of its own where ART made it.
        own = {} if isinstance(self._summary_writer_arg, SummaryWriter) else {"_summary_writer": None}
        return {**super().__getstate__(), **own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._store("summary_writer", self._summary_writer_arg)


def _checked_writer(writer: Any) -> str | bool | SummaryWriter:
    """What ART takes as a summary writer; None is False, as an attack without one shows it.

    Raises:
        ValueError: It is none; as ART raises it.
    """
    if writer is not None and not isinstance(writer, (bool, str, SummaryWriter)):
        raise ValueError(f"Parameter `summary_writer` should be a bool, a folder or a SummaryWriter. Found {writer!r}.")
    return False if writer is None else writer
