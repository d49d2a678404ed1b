"""What the attack classes of every host have in common, beside their options."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from art_mtl.core.assembly import make_method
from art_mtl.core.config import AttackConfig
from art_mtl.core.configurable import Configurable
from art_mtl.core.context import StepRecord
from art_mtl.core.engine import Engine, Evaluations, Search
from art_mtl.core.methods import find_method
from art_mtl.core.searches.per_sample import PerSampleSearch
from art_mtl.core.session import content
from art_mtl.tasks import Task


class Front(Configurable, ABC):
    """Base of the attack classes.

    A host gives the names of its options, its tasks, and turns what it is called with into a call of the engine.

    Attributes:
        observer: None, or a function that is given a :class:`~art_mtl.core.StepRecord` at every step.
    """

    core_names: ClassVar[Mapping[str, str]] = {}
    """The core's names of options to the host's, where they differ."""
    observer: Callable[[StepRecord], None] | None
    tasks: tuple[Task, ...]
    method: str
    variant: str
    _engine: Engine

    @property
    def name(self) -> str:
        """The method's name, as tables print it."""
        return self._config().assemble(self._attacked_tasks()).name

    @property
    def evaluations(self) -> Evaluations:
        """On how many samples the last call evaluated the model: with a gradient, and without."""
        return self._engine.evaluations

    def reset(self) -> None:
        """Forget the batches that were attacked so far, and count calls anew."""
        self._engine.reset()

    def _attacked_tasks(self) -> tuple[Task, ...]:
        """K tasks."""
        return self.tasks

    @abstractmethod
    def _bounds(self) -> tuple[Any, Any]:
        """Lower and upper bound of the inputs."""

    def _settings(self) -> Any:
        """Everything beside the model that decides a result: after a change running statistics start anew."""
        return tuple((name, content(getattr(self, name))) for name in self.options), self._attacked_tasks()

    def _search(self, inputs: Tensor) -> Search:
        """What is done with a call on these inputs."""
        return PerSampleSearch()

    def _keep(self, search: Any) -> None:
        """Keep what a search has found beside its result."""

    def _config(self, **settled: Any) -> AttackConfig:
        """The options, with the core's names."""
        return AttackConfig.of(self, self.core_names, **{"method": self._method_name(), **settled})

    def _method_name(self) -> str:
        variants = {"paper": "minmax", "official": "minmax-official"}
        return variants[self.variant] if "variant" in self.options else self.method

    def _check_option(self, name: str, value: Any) -> None:
        super()._check_option(name, value)
        if name == "method" and find_method(value, self._attacked_tasks())[1]:
            # One with a task or an aggregator says all that it needs. Others may be the first of two assignments.
            make_method(value, self._attacked_tasks())

    def _check_params(self) -> None:
        """Raise where options do not go together, or one was changed in place; warn of a radius in grey levels."""
        for name in self.options:
            if _can_be_written(getattr(self, name)):
                self.options[name].check(name, getattr(self, name))
        config, eps = self._config(), self.core_names.get("eps", "eps")
        config.check(self._attacked_tasks(), eps, self.core_names.get("step_size", "step_size"))
        config.warn_of_grey_levels(self._bounds(), eps)

    def __getstate__(self) -> dict[str, Any]:
        # A copy begins with statistics of its own.
        return {**self.__dict__, "_engine": Engine()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def _can_be_written(value: Any) -> bool:
    """Whether a value that was checked when it was set may have become another one in place."""
    return isinstance(value, (Tensor, np.ndarray)) or (
        isinstance(value, (tuple, list)) and any(_can_be_written(part) for part in value)
    )
