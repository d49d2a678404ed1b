"""Train the paper's victims on NYUv2 or Cityscapes."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from art_mtl.data import MultiTaskDataset
from art_mtl.data._base import check_count
from art_mtl.data.paper import PAPER_DATA, PaperData
from art_mtl.models import NETWORKS
from art_mtl.training.folder import LOGS, RunFolder, State
from art_mtl.training.logs import Log, check_tensorboard
from art_mtl.training.process_group import ProcessGroup, assemble
from art_mtl.training.progress import Step
from art_mtl.training.recipe import Recipe
from art_mtl.training.samples import Augmentation, Samples, mark
from art_mtl.training.trainer import EpochResult, Trainer
from art_mtl.version import __version__
from art_mtl.zoo.victims import to_channels_last

__all__ = ["NetworkResult", "train_network"]

_MOST_WORKERS = 8

Network = Callable[..., nn.Module]
"""``(heads, trunk=...)`` to an untrained network, as :data:`art_mtl.models.NETWORKS` holds them."""


@dataclass(frozen=True)
class NetworkResult:
    """What a training run came to.

    Attributes:
        path: its folder, which holds ``best.safetensors``, ``last.safetensors`` and ``history.json``.
        epochs: passes over the training images.
        metrics: by task, its metric on the validation images after the last epoch, in its own unit.
        best_epoch: the epoch, from 1, with the greatest mean of log metrics (:func:`mean_log_quality`).
        best_metrics: those of that epoch.
        resumed: steps that an earlier run had taken.
        steps: how many there are.
        seconds: how long this run took.
    """

    path: Path
    epochs: int
    metrics: Mapping[str, float]
    best_epoch: int
    best_metrics: Mapping[str, float]
    resumed: int
    steps: int
    seconds: float


def train_network(
    data: str | PaperData,
    root: str | Path,
    out: str | Path,
    *,
    model: str = "mtan",
    recipe: Recipe | None = None,
    trunk: str | Path | None = None,
    device: str = "auto",
    workers: int | None = None,
    checkpoint_minutes: float = 10.0,
    tensorboard: bool = True,
    networks: Mapping[str, Network] = NETWORKS,
    progress: Callable[[Step], None] | None = None,
    validated: Callable[[EpochResult], None] | None = None,
) -> NetworkResult:
    """Train a network on a data set of the paper, or go on with a run that was interrupted.

    SGD on the plain sum of the tasks' losses, each a mean over the batch's valid pixels (:class:`Recipe` has the
    numbers). Started by ``torchrun``, all its processes train one network; the batch is shared among them and its
    losses stay the means over all of it. The order of the images and their augmentation depend on the seed only. (A
    program that trains several networks under ``torchrun`` should make the process group itself, once.)

    A checkpoint is written after every epoch and every ``checkpoint_minutes``, whole or not at all. A run that was
    killed at any moment goes on from the last one when it is started again, and on a CPU, with as many processes and
    threads, ends with the very weights of a run that was not.

    Args:
        data: "nyuv2" or "cityscapes", or a description of another data set of the same form.
        root: folder of the data, in the layout that :class:`art_mtl.data.NYUv2` or :class:`art_mtl.data.Cityscapes`
            reads.
        out: folder of the run: new, empty, or that of an interrupted run with the same data, model and recipe.
        model: a name of ``networks``.
        recipe: None takes the paper's.
        trunk: ImageNet weights of a ResNet-50, a local file, to start from; None starts from scratch.
        device: "auto" (a GPU where there is one), "cpu" or "gpu".
        workers: processes that load images, for each process that trains; 0 loads in the latter; None takes one for
            each CPU there is for it, at most 8.
        checkpoint_minutes: longest time from one checkpoint to the next; 0 writes one after each step.
        tensorboard: whether to log losses, learning rate and metrics for TensorBoard, in ``out/logs``.
        networks: what ``model`` chooses from: name to ``(heads, trunk=...)`` to an untrained network.
        progress: called after every step, in the first process; for instance a :class:`ProgressBar`.
        validated: called after every validated epoch, in the first process, when its files are on disk.

    Returns:
        The metrics and where the weights are.

    Raises:
        ValueError: A parameter is out of range, a file is faulty, ``out`` holds something else or a run with other
            settings (the message says which), or a loss or weight became NaN or infinite (the last checkpoint stays).
        FileNotFoundError: A folder or the trunk is missing.
        ImportError: An optional package is missing.
        BlockingIOError: Another process trains in ``out``.
        OSError: The disk is full; the last checkpoint stays.

    Examples:
        >>> result = train_network("nyuv2", "nyuv2", "runs/mtan")  # doctest: +SKIP
        >>> result.best_metrics["segmentation"]  # doctest: +SKIP
        0.46
    """
    begun = time.perf_counter()
    recipe = Recipe() if recipe is None else recipe
    description = describe(data)
    if model not in networks:
        raise ValueError(f"Parameter `model` should be one of {', '.join(networks)}. Found {model!r}.")
    if workers is not None:
        check_count("workers", workers, least=0)
    if not checkpoint_minutes >= 0:
        raise ValueError(f"Parameter `checkpoint_minutes` should be at least 0. Found {checkpoint_minutes!r}.")
    with assemble(device) as team, _undisturbed(team):
        _check_precision(recipe.precision, team.device)
        train, val = (_split(description, root, split, recipe, team) for split in ("train", "val"))
        folder = RunFolder(out)
        with ExitStack() as stack:
            settings = team.by_first(lambda: _settings(description, model, trunk, recipe, train, val))
            if tensorboard:
                team.by_first(check_tensorboard)
            team.by_first(lambda: stack.enter_context(folder.held(settings)))
            state = team.by_first(folder.load)
            network = _build(networks[model], description, trunk, recipe, team, fresh=state is None)
            log = Log(folder.path / LOGS if tensorboard and team.is_first else None)
            trainer = Trainer(
                network, description.tasks(), recipe, train, val, state or State(), folder, team, log,
                _metadata(description, model, recipe, train[1], val[1]),
                workers=_workers() if workers is None else workers,
                checkpoint_seconds=60 * checkpoint_minutes, progress=progress, validated=validated,
            )  # fmt: skip
            resumed = trainer.taken
            if trainer.state.epoch < recipe.epochs:
                with log.opened(resumed):
                    trainer.run()
            history, best = trainer.state.history, trainer.state.best or recipe.epochs
    return NetworkResult(
        folder.path,
        recipe.epochs,
        history[-1]["metrics"],
        best,
        history[best - 1]["metrics"],
        resumed,
        trainer.taken,
        time.perf_counter() - begun,
    )


def describe(data: str | PaperData) -> PaperData:
    """The description of a data set, by its name.

    Raises:
        ValueError: There is no such data set.
    """
    if isinstance(data, PaperData):
        return data
    if data not in PAPER_DATA:
        raise ValueError(f"Parameter `data` should be one of {', '.join(PAPER_DATA)}. Found {data!r}.")
    return PAPER_DATA[data]


def _check_precision(precision: str, device: torch.device) -> None:
    if precision == "fp16" and device.type != "cuda":
        raise ValueError("Precision fp16 needs a GPU. Found none in use; bf16 and fp32 work on a CPU.")
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ValueError(
            f"Precision bf16 needs a GPU that has it. Found {torch.cuda.get_device_name(device)}; use fp16."
        )


def _split(
    description: PaperData, root: str | Path, split: str, recipe: Recipe, team: ProcessGroup
) -> tuple[Samples, int]:
    """One split's samples, and how many of them to use."""
    dataset = description.open(root, split)
    count = len(dataset) if recipe.limit is None else min(recipe.limit, len(dataset))
    if split == "val":
        if count < team.size:
            raise ValueError(f"Each of {team.size} processes should have a validation image. Found {count} in {root}.")
        return Samples(dataset), count
    if not team.size <= recipe.batch_size <= count:
        raise ValueError(
            f"Parameter `batch_size` should be at least {team.size}, the processes that share a batch, and at most "
            f"{count}, the training images. Found {recipe.batch_size}."
        )
    return Samples(dataset, _augmentation(description, dataset, recipe)), count


def _augmentation(description: PaperData, dataset: MultiTaskDataset, recipe: Recipe) -> Augmentation | None:
    if not recipe.augment:
        return None
    crop = description.crop if recipe.crop is None else recipe.crop
    height, width = dataset.sample(0)[0].shape[-2:]
    if height < crop[0] or width < crop[1]:
        raise ValueError(
            f"Training images should be at least as large as their crop, {crop[0]}x{crop[1]}. Found "
            f"{height}x{width}; choose a smaller crop, or train without augmentation."
        )
    return Augmentation(description.scales, crop, recipe.seed)


def _settings(
    description: PaperData,
    model: str,
    trunk: str | Path | None,
    recipe: Recipe,
    train: tuple[Samples, int],
    val: tuple[Samples, int],
) -> dict[str, Any]:
    """What decides the result. Not the place of the data, which may be moved, but what is in it."""
    return {
        "data": description.name,
        "model": model,
        "trunk": None if trunk is None else _digest(Path(trunk)),
        "images": {
            "train_images": train[1],
            "val_images": val[1],
            "train_content": mark(train[0].dataset, train[1]),
            "val_content": mark(val[0].dataset, val[1]),
        },
        "recipe": recipe.as_settings(),
    }


def _digest(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"Expected the weights of a ResNet-50 in {path}, to start from. Found no such file.")
    with path.open("rb") as file:
        return hashlib.sha256(file.read()).hexdigest()[:16]


def _build(
    network: Network, description: PaperData, trunk: str | Path | None, recipe: Recipe, team: ProcessGroup, fresh: bool
) -> nn.Module:
    """The untrained network on its device; only the first process, which the others copy, reads the trunk."""
    torch.manual_seed(recipe.seed)
    model = network(description.heads, trunk=trunk if fresh and team.is_first else None)
    to_channels_last(model)
    if team.size > 1 and team.device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    return model.to(team.device)


def _metadata(description: PaperData, model: str, recipe: Recipe, train: int, val: int) -> dict[str, str]:
    return {
        "data": description.name,
        "model": model,
        "epochs": str(recipe.epochs),
        "seed": str(recipe.seed),
        "recipe": json.dumps(recipe.as_settings()),
        "train_images": str(train),
        "val_images": str(val),
        "art_mtl": __version__,
        "torch": str(torch.__version__),
    }


def _workers() -> int:
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(_MOST_WORKERS, cpus // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


@contextmanager
def _undisturbed(team: ProcessGroup) -> Iterator[None]:
    """The global random state and cuDNN's choice of algorithms are afterwards what they were."""
    cuda = [team.device] if team.device.type == "cuda" else []
    benchmark = torch.backends.cudnn.benchmark
    with torch.random.fork_rng(devices=cuda):
        torch.backends.cudnn.benchmark = bool(cuda)  # all crops have one size
        try:
            yield
        finally:
            torch.backends.cudnn.benchmark = benchmark
