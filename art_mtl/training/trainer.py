"""The loop that trains a network: steps, epochs, validation, checkpoints."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from art_mtl.tasks import Target, Task
from art_mtl.training.folder import BEST, LAST, RunFolder, State, check_finite
from art_mtl.training.logs import Log
from art_mtl.training.measure import Metrics, Tally, mean_log_quality
from art_mtl.training.objective import batch_mean_losses, valid_counts
from art_mtl.training.process_group import ProcessGroup
from art_mtl.training.progress import Step
from art_mtl.training.recipe import Recipe
from art_mtl.training.samples import Order, Samples, batches, stream

__all__ = ["EpochResult", "Trainer"]

_FIRST_SCALE = 2.0**10
"""Of the loss in fp16. With torch's own, 2¹⁶, the gradients of the first steps overflow and these steps are skipped."""
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class EpochResult:
    """What an epoch that ended with a validation came to.

    Attributes:
        epoch: its number, from 1.
        epochs: how many there are.
        losses: by task, its mean over the epoch's steps.
        metrics: by task, its metric on the validation images, in its own unit.
        score: :func:`~art_mtl.training.measure.mean_log_quality` of the metrics.
        best: whether no epoch before had a greater score or the same.
    """

    epoch: int
    epochs: int
    losses: Mapping[str, float]
    metrics: Mapping[str, float]
    score: float
    best: bool


class Trainer:
    """Trains one network from where a run stands to its end.

    Args:
        model: the network, on the team's device.
        tasks: what it does.
        recipe: how.
        train, val: samples of the two splits, and how many there are.
        state: where the run stands; its ``model``, if there is one, is loaded.
        folder: where the first process writes.
        team: the processes that train together.
        log: TensorBoard.
        metadata: what the weights say of themselves.
        workers: loading processes of each process.
        checkpoint_seconds: longest time from one checkpoint to the next, give or take a step.
        progress, validated: told every step, and every validated epoch, in the first process.
    """

    def __init__(
        self,
        model: nn.Module,
        tasks: Sequence[Task],
        recipe: Recipe,
        train: tuple[Samples, int],
        val: tuple[Samples, int],
        state: State,
        folder: RunFolder,
        team: ProcessGroup,
        log: Log,
        metadata: Mapping[str, str],
        *,
        workers: int,
        checkpoint_seconds: float,
        progress: Callable[[Step], None] | None,
        validated: Callable[[EpochResult], None] | None,
    ) -> None:
        self.model, self.tasks, self.recipe, self.team = model, tuple(tasks), recipe, team
        self.train, self.val = train[0], val[0]
        self.folder, self.log, self.metadata, self.workers = folder, log, metadata, workers
        self.checkpoint_seconds, self.progress, self.validated = checkpoint_seconds, progress, validated
        self.order = Order(train[1], recipe.batch_size, recipe.seed, team.rank, team.size)
        self.val_order = Order(val[1], recipe.batch_size, None, team.rank, team.size)
        self.optimiser = torch.optim.SGD(
            model.parameters(), lr=recipe.rate, momentum=recipe.momentum, weight_decay=recipe.decay
        )
        self.scaler = torch.amp.GradScaler(
            team.device.type, init_scale=_FIRST_SCALE, enabled=recipe.precision == "fp16"
        )  # fmt: skip
        if state.model:
            model.load_state_dict(state.model)
            self.optimiser.load_state_dict(state.optimiser)
            if state.scaler:
                self.scaler.load_state_dict(state.scaler)
        self.state = replace(state, model={}, optimiser={}, scaler={})
        self.parallel = team.wrap(model)
        self._saved = time.monotonic()

    @property
    def taken(self) -> int:
        """Steps taken, over all epochs."""
        return self.state.epoch * len(self.order) + self.state.step

    def run(self) -> None:
        """Train to the end of the last epoch.

        Raises:
            ValueError: A loss or a weight is NaN or infinite, or a file is faulty.
            OSError: A file cannot be read, or the disk is full.
        """
        while self.state.epoch < self.recipe.epochs:
            self._train_epoch()
            self._close_epoch()

    def _train_epoch(self) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.schedule(self.state.epoch)
        self.order.epoch, self.order.start = self.state.epoch, self.state.step
        self.model.train()
        for images, labels in batches(self.train, self.order, self.workers, self._pin):
            losses = self._step(images, labels)
            self.state.step += 1
            for name, value in losses.items():
                self.state.sums[name] = self.state.sums.get(name, 0.0) + value
            if self.team.is_first:
                self._log_epoch(losses)

    def _step(self, images: Tensor, labels: Mapping[str, Tensor]) -> dict[str, float]:
        """One step down the sum of the tasks' losses over the whole batch; returns these losses."""
        place = (self.state.epoch, self.state.step, self.team.rank)
        torch.manual_seed(stream("network", self.recipe.seed, *place))
        targets = self._targets(labels)
        counts = self.team.total(valid_counts(targets))
        with self._autocast():
            outputs = self.parallel(self._to_device(images))
        losses = batch_mean_losses(self.tasks, outputs, targets, counts)
        whole = dict(zip(self.names, self.team.total(losses.detach().clone()).tolist(), strict=True))
        self._check_losses(whole)
        self.optimiser.zero_grad(set_to_none=True)
        # Gradients are averaged over the processes, losses add up over them.
        torch.autograd.backward(self.scaler.scale(losses.sum() * self.team.size))
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return whole

    def _log_epoch(self, losses: Mapping[str, float]) -> None:
        self.log.add("loss", losses, self.taken)
        # Saved before anyone is told: whoever stops the run from there, finds the step on disk.
        if time.monotonic() - self._saved >= self.checkpoint_seconds:
            self._save()
        if self.progress is not None:
            steps = self.recipe.epochs * len(self.order)
            self.progress(Step(self.state.epoch + 1, self.recipe.epochs, self.taken, steps, self._means()))

    def _close_epoch(self) -> None:
        """Validate, take the epoch down, write."""
        state, epoch = self.state, self.state.epoch
        entry: dict[str, Any] = {
            "epoch": epoch + 1,
            "step": self.taken,
            "rate": self.recipe.schedule(epoch),
            "losses": self._means(),
        }
        # Processes that normalise by their own images have their own running figures.
        self.team.share_buffers(self.model)
        result = None
        if self.recipe.validates(epoch):
            metrics = self._measure()
            score = mean_log_quality(self.tasks, metrics)
            before = None if state.best is None else state.history[state.best - 1]["score"]
            best = before is None or score > before
            entry.update(metrics=metrics, score=score)
            result = EpochResult(epoch + 1, self.recipe.epochs, entry["losses"], metrics, score, best)
            state.best = epoch + 1 if best else state.best
        state.history.append(entry)
        state.epoch, state.step, state.sums = epoch + 1, 0, {}
        self.team.by_first(lambda: self._write(entry, result))

    def _write(self, entry: Mapping[str, Any], result: EpochResult | None) -> None:
        """What is on disk after an epoch; the checkpoint comes last, so that it promises nothing that is not there."""
        self.log.add("schedule", {"rate": entry["rate"]}, entry["step"])
        if result is not None:
            check_finite(self.model.state_dict(), f"{LAST} and the checkpoint before this epoch stay")
            scores = {
                f"{task.name}_{task.metric.name}": result.metrics[task.name] * task.metric.scale for task in self.tasks
            }
            self.log.add("val", {**scores, "score": result.score}, entry["step"])
            metadata = {**self.metadata, "epoch": str(result.epoch), "clean_val": json.dumps(dict(result.metrics))}
            for name in (BEST, LAST) if result.best else (LAST,):
                self.folder.write_weights(name, self.model, metadata)
        self.log.flush()
        self.folder.write_history(self.state.history)
        self._save()
        if result is not None and self.validated is not None:
            self.validated(result)

    def _save(self) -> None:
        self.folder.save(
            replace(
                self.state,
                model=self.model.state_dict(),
                optimiser=self.optimiser.state_dict(),
                scaler=self.scaler.state_dict(),
            )
        )
        self._saved = time.monotonic()

    @torch.no_grad()
    def _measure(self) -> Metrics:
        """Metrics on the validation images, of the fp32 network, whatever the precision of training."""
        tally = Tally(self.tasks)
        self.model.eval()
        for images, labels in batches(self.val, self.val_order, self.workers, self._pin):
            tally.add(self.model(self._to_device(images)), self._targets(labels))
        for sums in tally.sums.values():
            self.team.total(sums)
        return tally.metrics()

    def _check_losses(self, losses: Mapping[str, float]) -> None:
        bad = [f"{value} for {name!r}" for name, value in losses.items() if not abs(value) < float("inf")]
        if bad:
            raise ValueError(
                f"Training should keep every loss finite. Found {', '.join(bad)} at step {self.taken + 1} (epoch "
                f"{self.state.epoch + 1}). The last checkpoint in {self.folder.path} stays. Lower the learning rate"
                f"{', or train with bf16 or fp32' if self.recipe.precision == 'fp16' else ''}; other settings need "
                "another folder."
            )

    def _means(self) -> dict[str, float]:
        return {name: total / self.state.step for name, total in self.state.sums.items()}

    def _targets(self, labels: Mapping[str, Tensor]) -> list[Target]:
        return [task.targets(labels[task.name]).to(self.team.device) for task in self.tasks]

    def _to_device(self, images: Tensor) -> Tensor:
        return images.to(self.team.device, memory_format=torch.channels_last, non_blocking=True)

    def _autocast(self) -> Any:
        dtype = _DTYPES.get(self.recipe.precision)
        return nullcontext() if dtype is None else torch.autocast(self.team.device.type, dtype)

    @property
    def names(self) -> list[str]:
        """Of the tasks."""
        return [task.name for task in self.tasks]

    @property
    def _pin(self) -> bool:
        return self.team.device.type == "cuda"
