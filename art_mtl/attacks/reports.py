"""What ART's users see of a run: a progress bar, and per-task losses and weights in ART's summary writers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from art.summary_writer import SummaryWriterDefault
from tqdm.auto import tqdm

from art_mtl.core.context import StepRecord
from art_mtl.core.engine import Callbacks, naming


class Reports(Callbacks):
    """The progress bar, the summary writer and the observer of an attack."""

    def __init__(self, attack: Any) -> None:
        self.attack = attack

    def begin(self, steps: int, tasks: Sequence[str]) -> None:
        self.bar = tqdm(total=steps, desc=self.attack.name, disable=not self.attack.verbose)
        self.tasks = tasks

    def observer(self, batch: int) -> Callable[[StepRecord], None] | None:
        attack = self.attack
        if attack.observer is None and attack.summary_writer is None and not attack.verbose:
            return None

        def observe(record: StepRecord) -> None:
            self.bar.update()
            if attack.summary_writer is not None:
                self._write(record, batch)
            if attack.observer is not None:
                attack.observer(record)

        return observe

    def member_observer(self, member: str) -> Callable[[StepRecord], None] | None:
        attack = self.attack
        if attack.observer is None and not attack.verbose:
            return None

        def observe(record: StepRecord) -> None:
            self.advance(len(record.inputs), member)
            if attack.observer is not None:
                naming(member, attack.observer)(record)

        return observe

    def advance(self, steps: int, what: str) -> None:
        self.bar.set_description(f"{self.attack.name}: {what}", refresh=False)
        self.bar.update(steps)

    def end(self) -> None:
        if hasattr(self, "bar"):
            self.bar.close()
        if self.attack.summary_writer is not None:
            self.attack.summary_writer.reset()

    def _write(self, record: StepRecord, batch: int) -> None:
        """Log one step.

        ART's own writer is handed the gradient only: given the estimator it would compute the losses by forward passes
        of its own. Losses and weights go to the TensorBoard writer behind it, in ART's naming:
        ``loss/<task>/batch-<i>`` and ``weight/<task>/batch-<i>``. Any other writer gets ``losses`` and ``weights``
        (task to array) as keywords of ``update``.
        """
        writer, targeted = self.attack.summary_writer, self.attack.targeted
        losses, weights = (
            dict(zip(self.tasks, columns.T.cpu().numpy(), strict=True)) for columns in (record.losses, record.weights)
        )
        gradient = record.gradient.cpu().numpy()
        if not isinstance(writer, SummaryWriterDefault):
            more = {"losses": losses, "weights": weights, "x": record.inputs.cpu().numpy()}
            writer.update(batch, record.step, grad=gradient, estimator=self.attack.estimator, targeted=targeted, **more)
            return
        writer.update(batch, record.step, grad=gradient, targeted=targeted)
        for kind, by_task in {"loss": losses, "weight": weights}.items():
            for name, values in by_task.items():
                scalars = {str(sample): value for sample, value in enumerate(values)}
                writer.summary_writer.add_scalars(f"{kind}/{name}/batch-{batch}", scalars, global_step=record.step)
