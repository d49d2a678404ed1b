"""Training a model of several tasks, and copying one so that it can be trained from scratch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import trange

from art_mtl.prepared.recurrent import evaluate, is_recurrent
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
        nb_epochs: Passes over the data.
        training_mode: Training or evaluation mode; in the latter recurrent layers train without dropout.
        drop_last: Leave out a last batch that is smaller.
        scheduler: Stepped after every epoch.
        verbose: Show a progress bar over the epochs.
    """
    with _modes_kept(model):
        model.train() if training_mode else evaluate(model)
        for _ in trange(nb_epochs, desc="Epochs", disable=not verbose):
            for index in shuffled_batches(len(x), batch_size, drop_last):
                index = index.to(x.device)
                optimizer.zero_grad()
                loss(x[index], [target[index] for target in targets]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            if scheduler is not None:
                scheduler.step()


def shuffled_batches(size: int, batch_size: int, drop_last: bool = False) -> Iterator[Tensor]:
    """Indices of all samples, in an order drawn from torch's generator, cut into batches ``(B,)`` on the host.

    Args:
        size: Number of samples.
        batch_size: Samples in one batch.
        drop_last: Leave out a last batch that is smaller.

    Examples:
        >>> [len(batch) for batch in shuffled_batches(5, 2)], len(list(shuffled_batches(5, 2, drop_last=True)))
        ([2, 2, 1], 2)
    """
    for index in torch.split(torch.randperm(size, device="cpu"), batch_size):
        if len(index) == batch_size or not drop_last:
            yield index


def check_batches(
    model: torch.nn.Module,
    run: Callable[[], object],
    size: int,
    *,
    batch_size: int,
    training_mode: bool,
    drop_last: bool,
) -> None:
    """Raise unless every batch can be trained on; nothing is trained meanwhile.

    In training mode a batch norm needs more than one value for each channel. Whether a batch of one sample has more, as
    images do until they are pooled, shows as one is run in evaluation mode.

    Args:
        model: The model.
        run: Runs it on one sample, in evaluation mode and without a graph.
        size: Number of samples.
        batch_size: Samples in one batch.
        training_mode: As for training, like ``drop_last``.
        drop_last: Whether a last batch that is smaller is left out.

    Raises:
        ValueError: There is a batch of one sample that a batch norm does not take, or no batch at all.
    """
    if drop_last and size < batch_size:
        raise ValueError(
            f"Parameter `batch_size` should be at most {size}, the number of samples, as `drop_last` leaves out "
            f"smaller batches. Found {batch_size}."
        )
    alone = batch_size == 1 or (size % batch_size == 1 and not drop_last)
    trained = trained_modules(model) if alone and training_mode else lambda module: False
    names = _norms_of_single_values(model, run, trained) if alone else []
    if names:
        remedy = "`drop_last` should be True"
        if batch_size == 1 or size == 1:
            remedy = "`batch_size` should be at least 2" if size > 1 else "`x` should hold at least 2 samples"
        raise ValueError(
            f"Parameter {remedy}, as batch norm needs more than one value for each channel to be trained: a batch of "
            f"one sample has one at {names[0]!r}. Found {size} samples in batches of {batch_size}."
        )


def trained_modules(model: torch.nn.Module) -> Callable[[torch.nn.Module], bool]:
    """Which modules the model's ``train`` puts into training mode: all, unless some class has a ``train`` of its own.

    Examples:
        >>> net = torch.nn.Dropout()
        >>> trained_modules(net)(net)
        True
    """
    plain = torch.nn.Module.train
    if all(getattr(type(m), "train", plain) is plain and "train" not in vars(m) for m in model.modules()):
        return lambda module: True
    with _modes_kept(model):
        model.train()
        trained = {id(module) for module in model.modules() if module.training}
    return lambda module: id(module) in trained


def copy_for_refitting(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer | None
) -> tuple[torch.nn.Module, torch.optim.Optimizer | None]:
    """A model of the same architecture with weights drawn anew, and an optimizer of it with the same settings.

    Args:
        model: The model; modules without ``reset_parameters`` (or ``_reset_parameters``, as torch's attention has it)
            keep their values in the copy.
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
        reset = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
        if callable(reset):
            reset()
    if optimizer is not None:
        optimizer.state.clear()
        optimizer.zero_grad()
    return model, optimizer


def _norms_of_single_values(
    model: torch.nn.Module, run: Callable[[], object], trained: Callable[[torch.nn.Module], bool]
) -> list[str]:
    """Batch norms that normalise by the batch, and get one value for each channel as ``run`` runs."""
    found: list[str] = []

    def look(name: str, module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].numel() == inputs[0].shape[1]:
            found.append(name)

    norms = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
        and (trained(module) or not module.track_running_stats)
    ]
    handles = [module.register_forward_pre_hook(partial(look, name)) for name, module in norms]
    try:
        if norms:
            run()
    except ValueError:  # Of a norm without statistics, which works by the batch in evaluation mode too.
        if not found:
            raise
    finally:
        for handle in handles:
            handle.remove()
    return found


@contextmanager
def _modes_kept(model: torch.nn.Module) -> Iterator[None]:
    modes = [(module, module.training, getattr(module, "dropout", None)) for module in model.modules()]
    try:
        yield
    finally:
        for module, training, dropout in modes:
            module.training = training
            if is_recurrent(module):
                module.dropout = dropout  # type: ignore[assignment]
