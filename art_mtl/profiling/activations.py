"""Memory that a forward pass keeps for its backward pass, by preparation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from art_mtl.core import frozen
from art_mtl.prepared import prepare, saved_activations
from art_mtl.profiling.subject import Subject

PREPARATIONS = ("fp32", "fp32,memory-efficient", "bf16", "bf16,memory-efficient")


def measure_activations(subject: Subject, preparations: Sequence[str] = PREPARATIONS) -> dict[str, int]:
    """Bytes, by preparation; "exact" first, the model as it is. Parameters and inputs do not count.

    Examples:
        >>> from art_mtl.profiling import load_subject
        >>> found = measure_activations(load_subject("digits", 1, "cpu"), ["fp32,memory-efficient"])
        >>> found["fp32,memory-efficient"] < found["exact"] / 4
        True
    """
    images = subject.images()
    with frozen(subject.model):
        found = {"exact": _kept(subject.model, images)}
        for how in preparations:
            found[how] = _kept(prepare(subject.model, images[:1], how), images)
    return found


def _kept(model: torch.nn.Module, images: Tensor) -> int:
    leaf = images.clone().requires_grad_(True)
    run: Callable[[], object] = lambda: model(leaf)  # noqa: E731
    return saved_activations(run, [leaf, *model.parameters(), *model.buffers()])
