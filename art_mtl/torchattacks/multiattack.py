"""Several attacks on the same batch, the worst case kept per sample."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from art_mtl.core.context import BatchContext, StepRecord
from art_mtl.core.engine import naming
from art_mtl.core.objectives.loss_objectives import DEGRADATION
from art_mtl.core.selection import keep_best
from art_mtl.core.weightings import least_degradation
from art_mtl.tasks import Target
from art_mtl.torchattacks.base import MultiTaskAttack

Success = Callable[[list[Any], Any], Tensor]
"""``(raw output of each task, labels of the batch) -> (B,)``, boolean."""


class MultiAttack(MultiTaskAttack):
    """Run several multi-task attacks and keep the worst case of each sample.

    Args:
        attacks: At least two, of one model and the same tasks.
        success: ``(outputs, labels) -> (B,)``: samples for which it is true leave early, as in torchattacks. None:
            every attack sees every sample, and the one with the greatest *least* degradation over the sample's tasks is
            kept.
        verbose: Print how many samples each attack was kept for.

    Raises:
        ValueError: Fewer than two attacks, or of different models or tasks.

    Examples:
        >>> import torch
        >>> from art_mtl import tasks
        >>> from art_mtl.torchattacks import MinMaxMultiTaskPGD, MultiTaskPGD
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        >>> jobs = [tasks.classification("digit", 10)]
        >>> atk = MultiAttack([MultiTaskPGD(net, jobs), MinMaxMultiTaskPGD(net, jobs)])
        >>> atk(torch.rand(2, 1, 8, 8), {"digit": torch.tensor([3, 7])}).shape
        torch.Size([2, 1, 8, 8])
    """

    _always_shown = ()

    def __init__(
        self, attacks: Sequence[MultiTaskAttack], success: Success | None = None, verbose: bool = False
    ) -> None:
        _check_attacks(attacks)
        # Not by name, as the parent would look for these among its own.
        self.__dict__.update(attacks=list(attacks), success=success)
        super().__init__(attacks[0].model, attacks[0].tasks, verbose=verbose)
        self.supported_mode = ["default"]
        self.attacks = list(attacks)

    @property
    def name(self) -> str:
        """The methods that run, as tables print it."""
        return f"strongest of {', '.join(attack.name for attack in self.attacks)}"

    def reset(self) -> None:
        """Let every attack forget the batches that it has seen."""
        super().reset()
        for attack in self.attacks:
            attack.reset()

    def forward(self, images: Tensor, labels: Any = None) -> Tensor:
        """Attack images without normalisation; use :meth:`__call__`."""
        self._check_params()
        given = self.predictions(images) if labels is None else self.labels(labels, len(images))
        targets = self.canonical(given)
        context = BatchContext(self.tasks, tuple(targets), steps=1)
        references = DEGRADATION.references(context, self._checked_outputs(images, targets))

        def candidates() -> Iterator[tuple[Tensor, Tensor]]:
            none = torch.full((len(images),), float("-inf"), device=images.device)
            yield images, none
            todo = torch.ones(len(images), dtype=torch.bool, device=images.device)
            for attack in self.attacks:
                if not bool(todo.any()):
                    return
                candidate = images.clone()
                with _cut_to(attack, todo, images.ndim):
                    candidate[todo] = self._run(attack, images[todo], None if labels is None else given[todo])
                outputs = self._checked_outputs(candidate, targets)
                values = torch.stack(DEGRADATION.values(context, outputs, references), 1)
                counts = todo & context.finite(outputs)
                yield candidate, torch.where(counts, least_degradation(values, context.has_label), none)
                if self.success is not None:
                    todo = todo & ~self._succeeded(outputs, given)

        kept = keep_best(candidates())
        if self.verbose:
            numbered = enumerate(self.attacks, start=1)
            print(f"Kept: { {attack.attack: int((kept.winner == number).sum()) for number, attack in numbered} }")
        return kept.inputs

    def _succeeded(self, outputs: list[Any], labels: Any) -> Tensor:
        assert self.success is not None
        found = self.success(outputs, labels)
        if not isinstance(found, Tensor) or found.dtype != torch.bool or found.shape != (len(labels),):
            what = f"{found.dtype} of shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"Parameter `success` should return a boolean tensor of shape ({len(labels)},). Found {what}."
            )
        return found.to(self.device)

    def _run(self, attack: MultiTaskAttack, images: Tensor, labels: Any) -> Tensor:
        """Here the images are free of normalisation; the attack's own call undoes and redoes it."""
        with self._observed(attack):
            if attack.normalization_used is None:
                return attack(images, labels)
            attack._set_normalization_applied(True)
            plain: Tensor = attack.inverse_normalize(attack(attack.normalize(images), labels))
            return plain

    @contextmanager
    def _observed(self, attack: MultiTaskAttack) -> Iterator[None]:
        """Meanwhile the observer is told of the steps of an attack, after the attack's own."""
        own, whole = attack.observer, self.observer
        if whole is None:
            yield
            return
        named = naming(attack.name, whole)

        def both(record: StepRecord) -> None:
            if own is not None:
                own(record)
            named(record)

        attack.observer = both
        try:
            yield
        finally:
            attack.observer = own

    @torch.no_grad()
    def _checked_outputs(self, images: Tensor, targets: Sequence[Target]) -> list[Any]:
        triples = zip(self.tasks, self.outputs(images), targets, strict=True)
        return [task.check_output(output, target) for task, output, target in triples]

    def _check_params(self) -> None:
        _check_attacks(self.attacks)
        if any(attack.model is not self.model or attack.tasks != self.tasks for attack in self.attacks):
            raise ValueError("Parameter `attacks` should hold attacks of one model and the same tasks. Found others.")
        if self.success is not None and not callable(self.success):
            raise TypeError(
                "Parameter `success` should be None or a function (outputs, labels) -> (B,), boolean. "
                f"Found {type(self.success).__name__}."
            )


def _check_attacks(attacks: Any) -> None:
    known = isinstance(attacks, Sequence)
    if not known or len(attacks) < 2 or not all(isinstance(attack, MultiTaskAttack) for attack in attacks):
        raise ValueError(
            "Parameter `attacks` should hold at least two attacks of art_mtl.torchattacks. "
            f"Found {[type(attack).__name__ for attack in attacks] if known else type(attacks).__name__}."
        )


@contextmanager
def _cut_to(attack: MultiTaskAttack, chosen: Tensor, ndim: int) -> Iterator[None]:
    """Meanwhile options with one value a sample, of an attack and of those that it runs, are those of some samples.

    Args:
        attack: The attack.
        chosen: Which samples, ``(N,)``, boolean.
        ndim: Number of dimensions of the inputs, with which an option has one row a sample.
    """

    def cut(value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            return tuple(cut(part) for part in value)
        if np.ndim(value) != ndim or len(value) != len(chosen) or len(chosen) == 1:
            return value
        return value[chosen.to(value.device)] if isinstance(value, Tensor) else value[chosen.cpu().numpy()]

    if bool(chosen.all()):
        yield
        return
    with ExitStack() as stack:
        for member in getattr(attack, "attacks", ()):
            stack.enter_context(_cut_to(member, chosen, ndim))
        before = {name: getattr(attack, name) for name in ("eps", "alpha", "bounds") if name in attack.options}
        try:
            for name, value in before.items():
                attack._store(name, cut(value))
            yield
        finally:
            for name, value in before.items():
                attack._store(name, value)
