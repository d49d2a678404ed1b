"""Adversarial examples of several tasks on disk: what ``save`` writes and ``load`` reads."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from art_mtl.labels import MultiTaskLabels
from art_mtl.tasks import Target, Task


class Attacking(Protocol):
    """What :func:`collect` asks of an attack."""

    tasks: tuple[Task, ...]
    bounds: tuple[Any, Any]
    normalization_used: Any

    def __call__(self, inputs: Tensor, labels: Any = None) -> Tensor: ...
    def labels(self, labels: Any, size: int) -> MultiTaskLabels: ...
    def predictions(self, inputs: Tensor) -> MultiTaskLabels: ...
    def canonical(self, labels: MultiTaskLabels) -> list[Target]: ...
    def eval_outputs(self, inputs: Tensor) -> list[Any]: ...
    def inverse_normalize(self, inputs: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Record:
    """Everything a loader yielded, attacked.

    Attributes:
        inputs: Adversarial inputs ``(N, ...)``, without normalisation.
        clean: Clean inputs, likewise.
        labels: As given, or the predictions on the clean inputs where none were.
        predictions: Decoded, on the adversarial inputs.
        metrics: Data-set metric of each task on the adversarial inputs.
        l2: Mean L2 norm of the perturbations.
        seconds: Time taken.
        bounds: Smallest and largest allowed input, broadcastable to the inputs.
    """

    inputs: Tensor
    clean: Tensor
    labels: MultiTaskLabels
    predictions: MultiTaskLabels
    metrics: dict[str, float]
    l2: float
    seconds: float
    bounds: tuple[Tensor, Tensor]

    def write(self, path: Path, predictions: bool, clean: bool, save_type: str) -> None:
        """Write to ``path``, whole or not at all."""

        lower, upper = self.bounds

        def shown(inputs: Tensor) -> Tensor:
            if save_type != "int":
                return inputs
            return ((inputs - lower) / (upper - lower) * 255).round().clamp(0, 255).to(torch.uint8)

        stored: dict[str, Any] = {"adv_inputs": shown(self.inputs), "save_type": save_type, "bounds": [lower, upper]}
        stored["labels"] = _pack(self.labels)
        if predictions:
            stored["preds"] = _pack(self.predictions)
        if clean:
            stored["clean_inputs"] = shown(self.clean)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        os.close(handle)
        try:
            torch.save(stored, temporary)
            Path(temporary).replace(path)
        finally:
            Path(temporary).unlink(missing_ok=True)


def check_storing(path: str | os.PathLike[str] | None, save_type: str, bounds: tuple[Any, Any]) -> None:
    """Raise, before anything is attacked, where the result could not be stored.

    Raises:
        ValueError: An unknown type, or 8 bits between bounds that are not finite.
        FileNotFoundError: There is no such folder.
    """
    if save_type not in ("float", "int"):
        raise ValueError(f"Parameter `save_type` should be 'float' or 'int'. Found {save_type!r}.")
    if save_type == "int" and not all(bool(torch.isfinite(bound).all()) for bound in _tensors(bounds)):
        raise ValueError(f"Parameter `save_type` should be 'float' where `bounds` are not finite. Found {bounds}.")
    if path is not None and not Path(path).parent.is_dir():
        raise FileNotFoundError(f"Parameter `save_path` should lie in a folder that exists. Found {os.fspath(path)!r}.")


def _tensors(bounds: tuple[Any, Any]) -> tuple[Tensor, Tensor]:
    lower, upper = (torch.as_tensor(bound, dtype=torch.float32, device="cpu") for bound in bounds)
    return lower, upper


def collect(attack: Attacking, data_loader: Iterable[tuple[Tensor, Any]]) -> Record:
    """Attack every batch of a loader, and score the result.

    Raises:
        ValueError: The loader yields nothing.
    """
    started = time.perf_counter()
    inputs, clean, labels, predictions = [], [], [], []
    sums: list[Tensor] = []
    for images, given in data_loader:
        # Before the attack, so that labels that will not do cost no time.
        batch = attack.predictions(images) if given is None else attack.labels(given, len(images))
        adversarial = attack(images, given)
        decoded = {}
        statistics = []
        outputs = attack.eval_outputs(adversarial)
        for task, raw, target in zip(attack.tasks, outputs, attack.canonical(batch), strict=True):
            output = task.check_output(raw, target)
            statistics.append(task.statistics(output, target).sum(0))
            decoded[task.name] = task.decode(output).cpu()
        sums = [total + new for total, new in zip(sums, statistics, strict=True)] if sums else statistics
        inputs.append(_plain(attack, adversarial).cpu())
        clean.append(_plain(attack, images).cpu())
        labels.append(batch.numpy())
        predictions.append(MultiTaskLabels(decoded).numpy())
    if not inputs:
        raise ValueError("Parameter `data_loader` should yield at least one batch. Found none.")
    adversarial, original = torch.cat(inputs), torch.cat(clean)
    return Record(
        inputs=adversarial,
        clean=original,
        labels=MultiTaskLabels.concatenate(labels),
        predictions=MultiTaskLabels.concatenate(predictions),
        metrics={
            f"{task.name} {task.metric.name}": task.metric.value(total).item()
            for task, total in zip(attack.tasks, sums, strict=True)
        },
        l2=(adversarial - original).flatten(1).norm(dim=1).mean().item(),
        seconds=time.perf_counter() - started,
        bounds=_tensors(attack.bounds),
    )


def load(
    path: str | os.PathLike[str],
    batch_size: int,
    shuffle: bool,
    normalize: Mapping[str, Sequence[float]] | None,
    predictions: bool,
    clean: bool,
) -> DataLoader[Any]:
    """See :meth:`art_mtl.torchattacks.saving.SavesExamples.load`."""
    stored = torch.load(path, weights_only=True)
    wanted = ["adv_inputs", "labels", *(["preds"] if predictions else []), *(["clean_inputs"] if clean else [])]
    missing = [key for key in wanted if key not in stored]
    if missing:
        raise ValueError(
            f"{os.fspath(path)} should hold {wanted}. Missing: {missing}; they must be asked for when saving."
        )

    def part(key: str) -> Any:
        if key in ("labels", "preds"):
            return MultiTaskLabels(stored[key]["data"], {n: m.numpy() for n, m in stored[key]["present"].items()})
        inputs = stored[key]
        if stored["save_type"] == "int":
            lower, upper = stored["bounds"]
            inputs = lower + inputs.float() / 255 * (upper - lower)
        if normalize is not None:
            pair = [torch.tensor(normalize[key], dtype=torch.float32, device="cpu") for key in ("mean", "std")]
            mean, std = (part.view(1, -1, 1, 1) for part in pair)
            inputs = (inputs - mean) / std
        return inputs

    parts = [part(key) for key in wanted]
    samples: Any = range(len(parts[0]))
    return DataLoader(
        samples, batch_size=batch_size, shuffle=shuffle, collate_fn=lambda indices: tuple(p[indices] for p in parts)
    )


def _plain(attack: Attacking, inputs: Tensor) -> Tensor:
    plain: Tensor = attack.inverse_normalize(inputs) if attack.normalization_used is not None else inputs
    return plain.detach()


def _pack(labels: MultiTaskLabels) -> dict[str, dict[str, Tensor]]:
    return {
        "data": {name: torch.as_tensor(labels[name], device="cpu") for name in labels.names},
        "present": {name: torch.as_tensor(labels.present(name), device="cpu") for name in labels.names},
    }
