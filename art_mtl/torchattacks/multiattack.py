"""Several attacks on the same batch, the worst case kept per sample."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from art_mtl.core.context import BatchContext
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
        attacks = list(attacks)
        if len(attacks) < 2 or not all(isinstance(attack, MultiTaskAttack) for attack in attacks):
            raise ValueError(
                "Parameter `attacks` should hold at least two attacks of art_mtl.torchattacks. "
                f"Found {[type(attack).__name__ for attack in attacks]}."
            )
        first = attacks[0]
        if any(attack.model is not first.model or attack.tasks != first.tasks for attack in attacks):
            raise ValueError("Parameter `attacks` should hold attacks of one model and the same tasks.")
        super().__init__(first.model, first.tasks, verbose=verbose)
        self.supported_mode = ["default"]
        self.attacks = attacks
        self.success = success

    def forward(self, images: Tensor, labels: Any = None) -> Tensor:
        """Attack images without normalisation; use :meth:`__call__`."""
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
                candidate[todo] = self._run(attack, images[todo], None if labels is None else given[todo])
                outputs = self._checked_outputs(candidate, targets)
                values = torch.stack(DEGRADATION.values(context, outputs, references), 1)
                counts = todo & context.finite(outputs)
                yield candidate, torch.where(counts, least_degradation(values, context.has_label), none)
                if self.success is not None:
                    todo = todo & ~self.success(outputs, given)

        kept = keep_best(candidates())
        if self.verbose:
            numbered = enumerate(self.attacks, start=1)
            print(f"Kept: { {attack.attack: int((kept.winner == number).sum()) for number, attack in numbered} }")
        return kept.inputs

    def _run(self, attack: MultiTaskAttack, images: Tensor, labels: Any) -> Tensor:
        """Here the images are free of normalisation; the attack's own call undoes and redoes it."""
        if attack.normalization_used is None:
            return attack(images, labels)
        attack._set_normalization_applied(True)
        plain: Tensor = attack.inverse_normalize(attack(attack.normalize(images), labels))
        return plain

    @torch.no_grad()
    def _checked_outputs(self, images: Tensor, targets: Sequence[Target]) -> list[Any]:
        triples = zip(self.tasks, self.outputs(images), targets, strict=True)
        return [task.check_output(output, target) for task, output, target in triples]

    def _check_params(self) -> None:
        """The attacks have checked their own options."""
