"""Training a model of several tasks, and copying one so that it can be trained from scratch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import trange

from art_mtl.tasks import Target


def reduce_loss(values: Any, counted: Any, reduction: str) -> Any:
    """Per-sample losses of one task, reduced.

    Args:
        values: ``(B,)``, array or tensor, 0 where not counted.
        counted: ``(B,)``, boolean: which samples have a label.
        reduction: "none", "sum", or "mean" over the samples that count (0 if none does).

    Examples:
        >>> reduce_loss(torch.tensor([1.0, 0.0, 4.0]), torch.tensor([True, False, True]), "mean")
        tensor(2.5000)
    """
    if reduction == "none":
        return values
    total = values.sum()
    return total if reduction == "sum" else total / counted.sum().clip(1)


def train(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[Tensor, list[Target]], Tensor],
    x: Tensor,
    targets: Sequence[Target],
    *,
    batch_size: int,
    nb_epochs: int,
    training_mode: bool,
    drop_last: bool,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None,
    verbose: bool,
) -> None:
    """Descend a loss, in batches shuffled anew every epoch by torch's generator; modules return to the modes they had.

    Args:
        model: The model, whose mode is set for the time of training.
        optimizer: Holds the parameters to train.
        loss: ``(inputs, targets)`` of one batch to a scalar.
        x: Inputs ``(N, ...)``.
        targets: Labels, one for each task, N samples each, on the device of ``x``.
        batch_size: Samples in one step.
        nb_epochs: ForwardBackward over the data.
        training_mode: Training or evaluation mode.
        drop_last: Leave out a last batch that is smaller.
        scheduler: Stepped after every epoch.
        verbose: Show a progress bar over the epochs.
    """
    with _modes_kept(model):
        model.train(training_mode)
        for _ in trange(nb_epochs, desc="Epochs", disable=not verbose):
            order = torch.randperm(len(x)).to(x.device)
            for index in torch.split(order, batch_size):
                if drop_last and len(index) < batch_size:
                    continue
                optimizer.zero_grad()
                loss(x[index], [target[index] for target in targets]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            if scheduler is not None:
                scheduler.step()


def copy_for_refitting(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer | None
) -> tuple[torch.nn.Module, torch.optim.Optimizer | None]:
    """A model of the same architecture with weights drawn anew, and an optimizer of it with the same settings.

    Args:
        model: The model; modules without ``reset_parameters`` keep their values in the copy.
        optimizer: Holds (some of) the model's parameters, in any groups; or None.

    Examples:
        >>> net = torch.nn.Linear(2, 1)
        >>> twin, optimizer = copy_for_refitting(net, torch.optim.AdamW(net.parameters(), lr=0.5))
        >>> optimizer.param_groups[0]["params"][0] is twin.weight, optimizer.defaults["lr"]
        (True, 0.5)
    """
    # In one copy, so that the copied optimizer holds the copied parameters.
    model, optimizer = copy.deepcopy((model, optimizer))
    for module in model.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
    if optimizer is not None:
        optimizer.state.clear()
        optimizer.zero_grad()
    return model, optimizer


@contextmanager
def _modes_kept(model: torch.nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
