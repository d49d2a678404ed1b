"""Per-task losses and weights of every step, into ART's summary writers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from art.summary_writer import SummaryWriter, SummaryWriterDefault

if TYPE_CHECKING:
    from art_mtl.core import StepRecord
    from art_mtl.estimators import PyTorchMultiTaskEstimator


def write_summary(
    writer: SummaryWriter,
    estimator: PyTorchMultiTaskEstimator,
    names: Sequence[str],
    record: StepRecord,
    batch: int,
    targeted: bool,
) -> None:
    """Log one step; ``names`` are those of the tasks that are attacked.

    ART's own writer is handed the gradient only: given the estimator it would compute the losses by forward passes of
    its own. Losses and weights go to the TensorBoard writer behind it, in ART's naming: ``loss/<task>/batch-<i>`` and
    ``weight/<task>/batch-<i>``. Any other writer gets ``losses`` and ``weights`` (task to array) as keywords of
    ``update``.
    """
    columns = {
        "loss": dict(zip(names, record.losses.T.cpu().numpy(), strict=True)),
        "weight": dict(zip(names, record.weights.T.cpu().numpy(), strict=True)),
    }
    step = record.step
    gradient = record.gradient.cpu().numpy()
    if not isinstance(writer, SummaryWriterDefault):
        writer.update(
            batch,
            step,
            grad=gradient,
            estimator=estimator,
            x=record.inputs.cpu().numpy(),
            targeted=targeted,
            losses=columns["loss"],
            weights=columns["weight"],
        )
        return
    writer.update(batch, step, grad=gradient, targeted=targeted)
    for kind, by_task in columns.items():
        for name, values in by_task.items():
            scalars = {str(sample): value for sample, value in enumerate(values)}
            writer.summary_writer.add_scalars(f"{kind}/{name}/batch-{batch}", scalars, global_step=step)
