"""Adversarial examples of several tasks on disk: what ``save`` writes and ``load`` reads."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from art_mtl.columns import as_tensors
from art_mtl.core.batch import predicted_labels
from art_mtl.files import regular_file, whole
from art_mtl.labels import MultiTaskLabels


@dataclass(frozen=True)
class Record:
    """Everything a loader yielded, attacked.

    Attributes:
        inputs: Adversarial inputs ``(N, ...)``, without normalisation.
        clean: Clean inputs, likewise.
        labels: As given, or the predictions on the clean inputs where none were.
        predictions: Decoded, on the adversarial inputs; None where they were not asked for.
        metrics: Data-set metric of each task on the adversarial inputs.
        l2: Mean L2 norm of the perturbations.
        seconds: Time taken.
        bounds: Smallest and largest allowed input, broadcastable to the inputs.
    """

    inputs: Tensor
    clean: Tensor
    labels: MultiTaskLabels
    predictions: MultiTaskLabels | None
    metrics: dict[str, float]
    l2: float
    seconds: float
    bounds: tuple[Tensor, Tensor]

    def write(self, path: Path, clean: bool, save_type: str) -> None:
        """Write to ``path``, whole or not at all."""
        lower, upper = self.bounds

        def shown(inputs: Tensor) -> Tensor:
            if save_type != "int":
                return inputs
            return ((inputs - lower) / (upper - lower) * 255).round().clamp(0, 255).to(torch.uint8)

        stored: dict[str, Any] = {"adv_inputs": shown(self.inputs), "save_type": save_type, "bounds": [lower, upper]}
        stored["labels"] = _pack(self.labels)
        if self.predictions is not None:
            stored["preds"] = _pack(self.predictions)
        if clean:
            stored["clean_inputs"] = shown(self.clean)
        with whole(path) as part:
            torch.save(stored, part)


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


def collect(attack: Any, data_loader: Iterable[tuple[Tensor, Any]], keep_predictions: bool) -> Record:
    """Let an attack of several tasks go over every batch of a loader, and score the result.

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
        statistics = []
        outputs = attack.eval_outputs(adversarial)
        for task, raw, target in zip(attack.tasks, outputs, attack.canonical(batch), strict=True):
            output = task.check_output(raw, target)
            statistics.append(task.statistics(output, target).sum(0))
        sums = [total + new for total, new in zip(sums, statistics, strict=True)] if sums else statistics
        inputs.append(_plain(attack, adversarial).cpu())
        clean.append(_plain(attack, images).cpu())
        labels.append(batch.numpy())
        if keep_predictions:
            predictions.append(predicted_labels(attack.tasks, outputs).numpy())
    if not inputs:
        raise ValueError("Parameter `data_loader` should yield at least one batch. Found none.")
    adversarial, original = torch.cat(inputs), torch.cat(clean)
    return Record(
        inputs=adversarial,
        clean=original,
        labels=MultiTaskLabels.concatenate(labels),
        predictions=MultiTaskLabels.concatenate(predictions) if predictions else None,
        metrics={
            f"{task.name} {task.metric.name}": task.metric.value(total).item()
            for task, total in zip(attack.tasks, sums, strict=True)
        },
        l2=(adversarial - original).flatten(1).norm(dim=1).mean().item(),
        seconds=time.perf_counter() - started,
        bounds=_tensors(attack.bounds),
    )


def load(
    load_path: str | os.PathLike[str],
    batch_size: int = 128,
    shuffle: bool = False,
    normalize: Mapping[str, Sequence[float]] | None = None,
    load_predictions: bool = False,
    load_clean_inputs: bool = False,
) -> DataLoader[Any]:
    """A loader over what :meth:`SavesExamples.save` stored.

    It yields ``(inputs, labels)`` with labels a :class:`~art_mtl.MultiTaskLabels` of tensors, then predictions (another
    one) and clean inputs where asked for. Ragged labels are object arrays, as in any :class:`~art_mtl.MultiTaskLabels`.

    Raises:
        ValueError: The file does not hold what is asked for.
    """
    stored = torch.load(regular_file(load_path, "adversarial images"), weights_only=True)
    asked = {"preds": load_predictions, "clean_inputs": load_clean_inputs}
    wanted = ["adv_inputs", "labels", *(key for key, yes in asked.items() if yes)]
    missing = [key for key in wanted if key not in stored]
    if missing:
        raise ValueError(
            f"{os.fspath(load_path)} should hold {wanted}. Missing: {missing}; they must be asked for when saving."
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


def _plain(attack: Any, inputs: Tensor) -> Tensor:
    plain: Tensor = attack.inverse_normalize(inputs) if attack.normalization_used is not None else inputs
    return plain.detach()


def _pack(labels: MultiTaskLabels) -> dict[str, dict[str, Any]]:
    return {
        "data": {name: as_tensors(labels[name]) for name in labels.names},
        "present": {name: torch.as_tensor(labels.present(name), device="cpu") for name in labels.names},
    }


class SavesExamples:
    """Saving and loading, of an attack on several tasks."""

    def save(
        self,
        data_loader: Iterable[tuple[Tensor, Any]],
        save_path: str | os.PathLike[str] | None = None,
        verbose: bool = True,
        return_verbose: bool = False,
        save_predictions: bool = False,
        save_clean_inputs: bool = False,
        save_type: str = "float",
    ) -> tuple[dict[str, float], float, float] | None:
        """Attack everything a loader yields, and store it.

        Args:
            data_loader: Yields ``(inputs, labels)``, labels in any form, or None for the model's own predictions.
            save_path: File to write, whole or not at all; None: only measure.
            verbose: Print the metrics of each task and the mean L2 distance at the end.
            return_verbose: Return them.
            save_predictions: Store decoded predictions too.
            save_clean_inputs: Store the clean inputs too.
            save_type: "float", or "int" for 8 bits between the bounds, which must be finite.

        Returns:
            With ``return_verbose``: metrics by task, mean L2 distance, seconds. Else None.

        Raises:
            ValueError: An unknown ``save_type``, bounds that are not finite for "int", or no batch.
            FileNotFoundError: The folder of ``save_path`` does not exist; nothing is attacked then.
        """
        check_storing(save_path, save_type, self.bounds)  # type: ignore[attr-defined]
        record = collect(self, data_loader, save_predictions)
        if save_path is not None:
            record.write(Path(save_path), save_clean_inputs, save_type)
        if verbose:
            figures = ", ".join(f"{name} {value:.4g}" for name, value in record.metrics.items())
            print(f"{figures}, L2 {record.l2:.5f} ({record.seconds:.1f} s)")
        return (record.metrics, record.l2, record.seconds) if return_verbose else None

    load = staticmethod(load)
