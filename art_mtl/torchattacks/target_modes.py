"""Target labels for several tasks: what torchattacks' targeted modes choose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from art_mtl.labels import MultiTaskLabels
from art_mtl.tasks import Target, Task


class ChoosesTargets:
    """The targeted modes, of an attack on several tasks."""

    tasks: tuple[Task, ...]
    device: torch.device
    eval_outputs: Callable[[Tensor], list[Any]]
    _set_mode_targeted: Callable[[str, bool], None]

    def labels(self, labels: Any, size: int, some: bool = False) -> MultiTaskLabels:
        """Labels in whatever form, checked; with ``some`` tasks may be missing."""
        return MultiTaskLabels.of(labels, [task.name for task in self.tasks], size, True, some, argument="labels")

    def canonical(self, labels: MultiTaskLabels) -> list[Target]:
        """Canonical labels of each task that has some, on the attack's device."""
        named = [task for task in self.tasks if task.name in labels.names]
        return [task.targets(labels[task.name], labels.present(task.name)).to(self.device) for task in named]

    def set_mode_targeted_random(self, quiet: bool = False) -> None:
        """Target classes drawn at random among the wrong ones.

        Raises:
            ValueError: A task has no classes to draw from.
        """
        self._check_decisions("random")
        self._set_mode_targeted("targeted(random)", quiet)
        self._target_map_function = self._random_targets

    def set_mode_targeted_least_likely(self, kth_min: int = 1, quiet: bool = False) -> None:
        """Target the class with the ``kth_min``-th smallest score among the wrong ones.

        Raises:
            ValueError: A task has no classes, or fewer wrong ones than ``kth_min``.
        """
        self._check_decisions("least likely")
        if isinstance(kth_min, bool) or not isinstance(kth_min, int) or kth_min < 1:
            raise ValueError(f"Parameter `kth_min` should be an integer of at least 1. Found {kth_min!r}.")
        self._set_mode_targeted("targeted(least-likely)", quiet)
        self._kth_min = kth_min
        self._target_map_function = self._least_likely_targets

    def _check_decisions(self, mode: str) -> None:
        for task in self.tasks:
            if not task.has_classes:
                raise ValueError(
                    f"The mode 'targeted({mode})' needs classes to choose from; task {task.name!r} ({task.kind}) "
                    "has none. Use set_mode_targeted_by_label or set_mode_targeted_by_function."
                )

    def _random_targets(self, inputs: Tensor, labels: Any) -> MultiTaskLabels:
        return self._wrong_classes(inputs, labels, lambda s: torch.rand_like(s).masked_fill(s.isinf(), -1.0).argmax(1))

    def _least_likely_targets(self, inputs: Tensor, labels: Any) -> MultiTaskLabels:
        def choose(scores: Tensor) -> Tensor:
            wrong = scores.shape[1] - 1
            if self._kth_min > wrong:
                raise ValueError(
                    f"Parameter `kth_min` should be at most {wrong}, the number of wrong classes. "
                    f"Found {self._kth_min}."
                )
            return scores.kthvalue(self._kth_min, dim=1).indices

        return self._wrong_classes(inputs, labels, choose)

    def _wrong_classes(self, inputs: Tensor, labels: Any, choose: Callable[[Tensor], Tensor]) -> MultiTaskLabels:
        """A class for each label, chosen by scores that are infinite at the true class; without a label no target."""
        outputs = self.eval_outputs(inputs)
        true = self.canonical(self.labels(labels, len(inputs)))
        chosen, present = {}, {}
        for task, output, target in zip(self.tasks, outputs, true, strict=True):
            scores = task.check_output(output, target)
            found = task.wrong_targets(scores, target, choose)
            if found is None:
                raise ValueError(f"Task {task.name!r} ({task.kind}) should have classes to choose from. Found none.")
            chosen[task.name], present[task.name] = found[0], found[1].cpu().numpy()
        return MultiTaskLabels(chosen, present)
