"""Several attacks on the same batch, the worst case kept per sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from art_mtl.core.context import BatchContext
from art_mtl.core.objectives.loss_objectives import DEGRADATION
from art_mtl.core.objectives.population import least_degradation
from art_mtl.torchattacks.base import MultiTaskAttack

Success = Callable[[list[Tensor], Any], Tensor]
"""``(raw output of each task, labels of the batch) -> (B,)``, boolean."""


class MultiAttack(MultiTaskAttack):
    """Run several multi-task attacks and keep the worst case of each sample.

    Args:
        attacks: At least two, of one model and the same tasks.
        success: ``(outputs, labels) -> (B,)``: samples for which it is true leave early, as in torchattacks. None:
            every attack sees every sample, and the one that does the greatest *least* degradation over the sample's
            tasks is kept.
        verbose: Print how many samples each attack was kept for.

    Raises:
        ValueError: Fewer than two attacks, or of different models or tasks.

    Examples:
        >>> import torch
        >>> from art_mtl import tasks
        >>> from art_mtl.torchattacks import MinMaxMultiTaskPGD, MultiTaskPGD
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        >>> jobs = [tasks.classification("digit", 10, output=lambda o: o)]
        >>> atk = MultiAttack([MultiTaskPGD(net, jobs), MinMaxMultiTaskPGD(net, jobs)])
        >>> atk(torch.rand(2, 1, 8, 8), {"digit": torch.tensor([3, 7])}).shape
        torch.Size([2, 1, 8, 8])
    """

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
        super().__init__("MultiAttack", first.model, first.tasks)
        self.supported_mode = ["default"]
        self.attacks = attacks
        self.success = success
        self.verbose = verbose

    def forward(self, images: Tensor, labels: Any = None) -> Tensor:
        """Attack a batch; called by ``__call__``, which see."""
        images = images.detach().to(self.device)
        given = self.predictions(images) if labels is None else self.labels(labels, len(images))
        targets = self.canonical(given)
        problem = BatchContext(self.tasks, tuple(targets), steps=1)
        references = DEGRADATION.references(problem, self._outputs(images, targets))
        best = images
        score = torch.full((len(images),), float("-inf"), device=images.device)
        winner = torch.full((len(images),), -1, device=images.device)
        todo = torch.ones(len(images), dtype=torch.bool, device=images.device)
        for number, attack in enumerate(self.attacks):
            if not bool(todo.any()):
                break
            candidate = images.clone()
            candidate[todo] = self._run(attack, images[todo], None if labels is None else given[todo])
            outputs = self._outputs(candidate, targets)
            reached = least_degradation(DEGRADATION.values(problem, outputs, references), problem.has_label)
            better = todo & (reached > score)
            best = torch.where(better.view(-1, *[1] * (images.ndim - 1)), candidate, best)
            score, winner = torch.where(better, reached, score), torch.where(better, number, winner)
            if self.success is not None:
                todo = todo & ~self.success(outputs, given)
        if self.verbose:
            counts = {attack.attack: int((winner == number).sum()) for number, attack in enumerate(self.attacks)}
            print(f"Kept: {counts}")
        return best

    def _run(self, attack: MultiTaskAttack, images: Tensor, labels: Any) -> Tensor:
        """Here the images are free of normalisation; the attack's own call undoes and redoes it."""
        if attack.normalization_used is None:
            adversarial: Tensor = attack(images, labels)
            return adversarial
        attack._set_normalization_applied(True)
        plain: Tensor = attack.inverse_normalize(attack(attack.normalize(images), labels))
        return plain

    @torch.no_grad()
    def _outputs(self, images: Tensor, targets: Sequence[Any]) -> list[Tensor]:
        items = zip(self.tasks, self.outputs(images), targets, strict=True)
        return [task.check_output(output, target) for task, output, target in items]
