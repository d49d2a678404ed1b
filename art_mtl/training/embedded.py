"""The recipes by which the embedded victims were trained, and by which anyone can train them again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from art_mtl.data import NYUv2
from art_mtl.data.augment import flip
from art_mtl.data.paper import PAPER_DATA
from art_mtl.defences.training_attack import TrainingAttack
from art_mtl.labels import MultiTaskLabels
from art_mtl.models import RoomsNet, load_embedded, save_weights
from art_mtl.models.small import cell_centres
from art_mtl.tasks import Task
from art_mtl.training.dense_detection import dense_detection_loss
from art_mtl.training.measure import Metrics, clean_metrics
from art_mtl.training.progress import Step
from art_mtl.version import __version__
from art_mtl.zoo.victims import VICTIM_SPECS, to_channels_last

__all__ = ["RECIPES", "SmallRecipe", "TrainingResult", "memorise", "train"]

Loss = Callable[[Any, Any], Tensor]


@dataclass(frozen=True)
class SmallRecipe:
    """How a small network is trained: AdamW, one cycle of cosine learning rates, equal task weights.

    Attributes:
        epochs: passes over the training set.
        batch_size: samples per step.
        rate: greatest learning rate.
        decay: weight decay.
        flips: whether half of the images are mirrored, with their labels.
        start: the embedded victim whose weights it goes on from; None: from scratch.
        attack: what images are trained on instead of the clean ones; None: the clean ones.
        losses: by task, ``(output, target) -> (B,)``, what is minimised in place of the task's own loss.
    """

    epochs: int
    batch_size: int
    rate: float
    decay: float
    flips: bool
    start: str | None = None
    attack: TrainingAttack | None = None
    losses: Mapping[str, Loss] = field(default_factory=dict)


RECIPES: Mapping[str, SmallRecipe] = {
    "digits": SmallRecipe(epochs=8, batch_size=64, rate=3e-3, decay=0.02, flips=False),
    "multilabel": SmallRecipe(epochs=8, batch_size=64, rate=3e-3, decay=0.02, flips=False),
    "rooms": SmallRecipe(epochs=12, batch_size=16, rate=4e-3, decay=0.02, flips=True),
    "rooms-robust": SmallRecipe(
        epochs=4,
        batch_size=16,
        rate=2e-3,
        decay=0.02,
        flips=True,
        start="rooms",
        attack=TrainingAttack(eps=8 / 255, step_size=6 / 255, steps=2, bounds=(-1.0, 1.0)),
    ),
    "rooms-detection": SmallRecipe(
        epochs=4,
        batch_size=16,
        rate=3e-3,
        decay=0.02,
        flips=True,
        start="rooms",
        losses={"detection": partial(dense_detection_loss, centres=cell_centres(24, 32, stride=4))},
    ),
    "nyuv2": SmallRecipe(epochs=200, batch_size=4, rate=2e-3, decay=0.0, flips=False),
}


@dataclass(frozen=True)
class TrainingResult:
    """What came out of training.

    Attributes:
        victim: name of the victim.
        path: where its weights are.
        seed: of the initial weights, the order of the samples and the mirroring.
        epochs: passes over the training set.
        seconds: how long it took, the making of the data included.
        train: metric of each task on training images (at most 500), in the metric's own unit.
        test: the same on held-out images.
    """

    victim: str
    path: Path
    seed: int
    epochs: int
    seconds: float
    train: Metrics
    test: Metrics


def train(
    victim: str = "rooms",
    out: str | Path = "rooms.safetensors",
    *,
    seed: int = 0,
    epochs: int | None = None,
    train_size: int | None = None,
    test_size: int | None = None,
    device: str | torch.device = "cpu",
    progress: Callable[[Step], None] | None = None,
) -> TrainingResult:
    """Train one of the embedded victims: from scratch, or from the weights of "rooms".

    The same seed, sizes and number of CPU threads give the same weights.

    Args:
        victim: "digits", "multilabel", "rooms", "rooms-robust" or "rooms-detection".
        out: where to write the weights, a safetensors file whose metadata tell victim, seed, epochs, package version
            and clean metrics.
        seed: of the initial weights, the order of the samples and the mirroring; from 0 up.
        epochs: passes over the training set; None takes the recipe's.
        train_size: training images; None takes the data set's own number.
        test_size: held-out images; None takes the data set's own number.
        device: where to train.
        progress: called after every step, for instance a :class:`~art_mtl.training.ProgressBar`.

    Returns:
        Where the weights are, and the clean metrics.

    Raises:
        ValueError: If there is no such victim or a number is out of range.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "digits.safetensors"
        >>> result = train("digits", path, epochs=1, train_size=64, test_size=16)
        >>> sorted(result.test)
        ['left', 'right', 'sum']
    """
    if victim not in VICTIM_SPECS:
        raise ValueError(f"Parameter `victim` should be one of {', '.join(VICTIM_SPECS)}. Found {victim!r}.")
    _check_run(seed, epochs)
    spec, recipe, begun = VICTIM_SPECS[victim], RECIPES[victim], time.perf_counter()
    x, labels = spec.dataset("train", train_size).arrays()
    test = spec.dataset("test", test_size).arrays()
    count = recipe.epochs if epochs is None else epochs
    tasks = spec.tasks()
    model = _fit(spec.build, tasks, x, labels, recipe, count, seed, torch.device(device), progress)
    return _finish(victim, model, tasks, (x, labels), test, Path(out), seed, count, begun)


def memorise(
    root: str | Path,
    out: str | Path,
    *,
    size: tuple[int, int] = (96, 128),
    seed: int = 0,
    epochs: int | None = None,
    device: str | torch.device = "cpu",
    progress: Callable[[Step], None] | None = None,
) -> TrainingResult:
    """Train a small network on the NYUv2 images of a folder until it knows them by heart.

    Such a victim is *memorised*: on a handful of images nothing is learnt that would hold for others, and its metrics
    on ``val`` only show that. It serves to try attacks on photographs without a published checkpoint.

    Args:
        root: folder in the layout of :class:`art_mtl.data.NYUv2`.
        out: where to write the weights, to be given to ``load_victim("nyuv2", root=..., checkpoint=...)``.
        size: (height, width) to which the images are resized, each at least 16.
        seed: of the initial weights and the order of the images.
        epochs: passes over the images; None takes the recipe's.
        device: where to train.
        progress: called after every step.

    Returns:
        Where the weights are, and the clean metrics; ``test`` is the ``val`` folder.

    Raises:
        FileNotFoundError: If a folder is missing.
        ValueError: If a file is wrong or a number is out of range.
    """
    _check_run(seed, epochs)
    if len(size) != 2 or min(size) < 16:
        raise ValueError(f"Parameter `size` should be (height, width), each at least 16. Found {size!r}.")
    recipe, begun = RECIPES["nyuv2"], time.perf_counter()
    x, labels = NYUv2(root, "train", size).arrays()
    test = NYUv2(root, "val", size).arrays()
    count = recipe.epochs if epochs is None else epochs
    tasks = PAPER_DATA["nyuv2"].tasks()
    model = _fit(RoomsNet, tasks, x, labels, recipe, count, seed, torch.device(device), progress)
    extra = {"height": str(size[0]), "width": str(size[1]), "memorised": "true"}
    return _finish("nyuv2", model, tasks, (x, labels), test, Path(out), seed, count, begun, extra)


def _check_run(seed: int, epochs: int | None) -> None:
    if seed < 0:
        raise ValueError(f"Parameter `seed` should be at least 0. Found {seed!r}.")
    if epochs is not None and epochs < 1:
        raise ValueError(f"Parameter `epochs` should be at least 1, or None. Found {epochs!r}.")


def _batches(count: int, size: int, generator: torch.Generator) -> Iterator[NDArray[np.int64]]:
    """Random batches; a single left-over sample is dropped, for batch normalisation needs two."""
    order = torch.randperm(count, generator=generator).numpy()
    for start in range(0, count, size):
        batch = order[start : start + size]
        if len(batch) > 1 or count == 1:
            yield batch


def _begin_with(model: nn.Module, victim: str) -> None:
    """Take over the weights of an embedded victim; what the model has beside them stays."""
    start = VICTIM_SPECS[victim].build()
    load_embedded(start, victim)
    model.load_state_dict({**model.state_dict(), **start.state_dict()})


def _tensors(column: Any) -> Tensor | list[dict[str, Tensor]]:
    """The labels of a batch: one tensor, or one dict of tensors per sample."""
    if column.dtype == object:
        return [{name: torch.as_tensor(array) for name, array in row.items()} for row in column]
    return torch.as_tensor(column)


def _fit(
    build: Callable[[], nn.Module],
    tasks: list[Task],
    x: NDArray[np.float32],
    labels: MultiTaskLabels,
    recipe: SmallRecipe,
    epochs: int,
    seed: int,
    device: torch.device,
    progress: Callable[[Step], None] | None,
) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build()
        if recipe.start is not None:
            _begin_with(model, recipe.start)
    model.to(device).train()
    to_channels_last(model)
    generator, noise = torch.Generator().manual_seed(seed), torch.Generator(device).manual_seed(seed)
    per_epoch = sum(1 for _ in _batches(len(x), recipe.batch_size, torch.Generator().manual_seed(seed)))
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=recipe.rate, total_steps=epochs * per_epoch + 1, pct_start=0.15
    )
    taken = 0
    for epoch in range(1, epochs + 1):
        sums = torch.zeros(len(tasks))
        for number, rows in enumerate(_batches(len(x), recipe.batch_size, generator), start=1):
            images = torch.from_numpy(x[rows])
            truth = {task.name: _tensors(labels[task.name][rows]) for task in tasks}
            if recipe.flips:
                images, truth = flip(images, truth, torch.rand(len(rows), generator=generator) < 0.5)
            images = images.to(device, memory_format=torch.channels_last)
            targets = [task.targets(truth[task.name]).to(device) for task in tasks]
            if recipe.attack is not None:
                images = recipe.attack(model, images, tasks, targets, noise)
            outputs = model(images)
            losses = torch.stack(
                [
                    recipe.losses.get(task.name, task.loss)(task.select(outputs, k, len(tasks)), targets[k]).mean()
                    for k, task in enumerate(tasks)
                ]
            )
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(losses.sum())
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimiser.step()
            schedule.step()
            taken += 1
            if progress is not None:
                sums += losses.detach().cpu()
                means = {task.name: float(value) for task, value in zip(tasks, sums / number, strict=True)}
                progress(Step(epoch, epochs, taken, epochs * per_epoch, means))
    return model.eval()


def _finish(
    victim: str,
    model: nn.Module,
    tasks: list[Task],
    seen: tuple[NDArray[np.float32], MultiTaskLabels],
    test: tuple[NDArray[np.float32], MultiTaskLabels],
    out: Path,
    seed: int,
    epochs: int,
    begun: float,
    extra: Mapping[str, str] | None = None,
) -> TrainingResult:
    """Measure, write, report."""
    on_train = clean_metrics(model, tasks, seen[0][:500], seen[1][:500])
    on_test = clean_metrics(model, tasks, *test)
    metadata = {
        "victim": victim,
        "seed": str(seed),
        "epochs": str(epochs),
        "train_size": str(len(seen[0])),
        "test_size": str(len(test[0])),
        "art_mtl": __version__,
        "torch": str(torch.__version__),
        "clean_train": json.dumps(on_train),
        "clean_test": json.dumps(on_test),
    }
    save_weights(model, out, {**metadata, **(extra or {})})
    return TrainingResult(victim, out, seed, epochs, time.perf_counter() - begun, on_train, on_test)
