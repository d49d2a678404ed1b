"""The attacks: a loader of secml-torch in, :mod:`art_mtl.core.engine` does the work, a loader out."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from secmlt.adv.evasion.base_evasion_attack import BaseEvasionAttack
from secmlt.trackers.trackers import PredictionTracker, ScoresTracker
from torch import Tensor
from torch.utils.data import DataLoader, default_collate
from typing_extensions import Unpack

from art_mtl.core import checks
from art_mtl.core.batch import Names, constant_targets, named_targets
from art_mtl.core.config import AttackConfig
from art_mtl.core.context import StepRecord
from art_mtl.core.engine import AttackedModel, Call, Engine, Observing
from art_mtl.core.front import Front
from art_mtl.core.searches.per_sample import PerSampleSearch
from art_mtl.prepared import PreparedCache
from art_mtl.secmlt.options import OPTIONS, Options
from art_mtl.structure import map_tensors
from art_mtl.tasks import Task, check_tasks


class MultiTaskPGD(Front, BaseEvasionAttack):  # type: ignore[misc]
    """Projected gradient descent on all tasks of a multi-task model."""

    option_table = OPTIONS
    host_arguments = {"tasks": "K tasks."}
    decided = {"variant": "paper"}
    core_names = {"norm": "perturbation_model", "eps": "epsilon", "steps": "num_steps", "momentum": "decay"}
    other_names = {"norm": "`perturbation_model`", "eps": "`epsilon`", "steps": "`num_steps`", "alpha": "`step_size`",
                   "bounds": "`lb` and `ub`", "targeted": "`y_target`", "loss_function": "`objective`"}  # fmt: skip
    _always_shown = ("method", "perturbation_model", "epsilon", "num_steps")
    _trackers_allowed = staticmethod(lambda: True)

    def __init__(self, tasks: Sequence[Task], **options: Unpack[Options]) -> None:
        self.tasks, self.observer, self._engine, self._prepared = check_tasks(tasks), None, Engine(), PreparedCache()
        self._configure(**options)

    def __call__(self, model: Any, data_loader: Any, stream: bool = False) -> Any:
        """Attack the samples of a loader.

        Args:
            model: A module that returns the outputs of all tasks, or its wrapper in secml-torch.
            data_loader: Gives ``(samples, labels)``, the labels in any form of :meth:`art_mtl.MultiTaskLabels.of`.
            stream: Return an iterator that attacks batch by batch.

        Returns:
            A loader of adversarial samples and labels; of whole batches where ``data_loader`` makes batches of its own.
        """
        self.reset()
        if stream:
            return super().__call__(model, data_loader, stream=True)
        batches: Any = list(self._run_batches(self._ensure_wrapped(model), data_loader))
        if getattr(data_loader, "collate_fn", None) is not default_collate or data_loader.batch_size is None:
            return DataLoader(batches, batch_size=None)
        rows: Any = [(x, map_tensors(y, itemgetter(i))) for found, y in batches for i, x in enumerate(found)]
        return DataLoader(rows, batch_size=data_loader.batch_size)

    def _run(self, model: Any, samples: Tensor, labels: Any) -> tuple[Tensor, Tensor]:
        self._check_params()
        config, partial_targets = self._config(), named_targets("y_target", self.y_target, self.tasks)
        if partial_targets:
            preserves = config.assemble(self.tasks).objective.preserves
            labels = constant_targets(self.tasks, labels, len(samples), partial_targets, preserves)
        before, after = model._preprocessing, model._postprocessing
        victim = AttackedModel.of(model.model, self.tasks, self._prepared, before, after, whole=model)
        names = Names("samples", "labels", "epsilon", "step_size", "lb` and `ub")
        callbacks = Observing(self._observe if self.trackers or self.observer else None)
        call = Call(victim, samples, labels, self._bounds(), None, names, callbacks, self._settings)
        found = self._engine.run(PerSampleSearch(one_batch=True), config, call)
        return found, found - samples

    def _observe(self, record: StepRecord) -> None:
        """Tell the trackers of a step, with secml-torch's signs: its gradient is that of the negative loss."""
        loss = (record.weights * record.losses).sum(1) * (1 if self.y_target is None else -1)
        scores = record.outputs[0] if len(self.tasks) == 1 else record.outputs
        shown = [loss, scores, record.inputs, record.inputs - record.clean, -record.gradient]
        loss, *others = map_tensors(shown, Tensor.cpu)
        loss.record = record  # type: ignore[attr-defined]
        for tracker in self.trackers or ():
            tracker.track(record.step, loss, *others)
        if self.observer is not None:
            self.observer(record)

    def _bounds(self) -> tuple[float, float]:
        return self.lb, self.ub

    def _config(self, **settled: Any) -> AttackConfig:
        seed = None if self.seed is None else self.seed + self._engine.calls
        return super()._config(targeted=self.y_target is not None, seed=seed, **settled)

    def _check_params(self) -> None:
        checks.bounds("lb` and `ub", self._bounds())
        named_targets("y_target", self.y_target, self.tasks)
        one = [type(t).__name__ for t in self.trackers or () if isinstance(t, (PredictionTracker, ScoresTracker))]
        if one and len(self.tasks) > 1:
            raise ValueError(f"Parameter `trackers` should hold none that is for one task. Found {', '.join(one)}.")
        super()._check_params()


_NOT_SELECTIVE = dict.fromkeys(("attacked", "preserved", "tolerance", "penalty"))
_SETTLED = dict.fromkeys(("objective", "weighting", "gamma", "weight_step", "penalty"))


class MinMaxMultiTaskPGD(MultiTaskPGD):
    """The attack of Guo et al., ICASSP 2025; see :class:`art_mtl.attacks.MinMaxMultiTaskPGD`."""

    decided = {"method": "minmax", **_NOT_SELECTIVE}


class WorstTaskPGD(MultiTaskPGD):
    """The strongest attack on the *worst* task; see :class:`art_mtl.attacks.WorstTaskPGD`."""

    decided = {"method": "worst-task", "variant": "paper", **_NOT_SELECTIVE}


class MultiTaskAutoPGD(MultiTaskPGD):
    """Auto-PGD, without a step size to choose; see :class:`art_mtl.attacks.MultiTaskAutoPGD`."""

    decided = {"schedule": "auto", "variant": "paper", "step_size": None, "decay": None, "keep": None}
    defaults = {"method": "worst-task", "num_steps": 100}


class StealthyMultiTaskPGD(MultiTaskPGD):
    """Degrade the ``attacked`` tasks and preserve the others; see :class:`art_mtl.attacks.StealthyMultiTaskPGD`."""

    decided = {"method": "stealthy", "variant": "paper", **_SETTLED}
    defaults = {"num_steps": 100}
