"""``save`` and ``load`` of the attacks on several tasks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from art_mtl.torchattacks.storage import check_storing, collect, load


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
        record = collect(self, data_loader)  # type: ignore[arg-type]
        if save_path is not None:
            record.write(Path(save_path), save_predictions, save_clean_inputs, save_type)
        if verbose:
            figures = ", ".join(f"{name} {value:.4g}" for name, value in record.metrics.items())
            print(f"{figures}, L2 {record.l2:.5f} ({record.seconds:.1f} s)")
        return (record.metrics, record.l2, record.seconds) if return_verbose else None

    @staticmethod
    def load(
        load_path: str | os.PathLike[str],
        batch_size: int = 128,
        shuffle: bool = False,
        normalize: Mapping[str, Sequence[float]] | None = None,
        load_predictions: bool = False,
        load_clean_inputs: bool = False,
    ) -> DataLoader[Any]:
        """A loader over what :meth:`save` stored.

        It yields ``(inputs, labels)`` with labels a :class:`~art_mtl.MultiTaskLabels` of tensors, then predictions
        (another one) and clean inputs where asked for.

        Raises:
            ValueError: The file does not hold what is asked for.
        """
        return load(load_path, batch_size, shuffle, normalize, load_predictions, load_clean_inputs)
