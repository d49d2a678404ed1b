"""A private copy of a model, made cheap to attack."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from art_mtl.prepared.copying import kept_randomness, private_copy, unwrapped
from art_mtl.prepared.fold import batch_norms, find_pairs, fold_pairs
from art_mtl.prepared.memory_efficient import make_memory_efficient
from art_mtl.prepared.precision import Scaling, narrow
from art_mtl.prepared.recurrent import evaluate
from art_mtl.prepared.settings import PRECISIONS, Preparation
from art_mtl.structure import map_tensors, tensors_in

_log = logging.getLogger(__name__)

TOLERANCE = 1e-3
"""By how much a folded model's outputs on the example may differ, as a share of each output's greatest entry. Rounding
makes differences of about 1e-6.
"""


class PreparedModel(nn.Module):
    """What :func:`prepare` returns: takes and returns what the model does, in the precision of its inputs.

    It works on a copy of its inputs, and has no training mode.

    Attributes:
        how: The settings.
        folded: How many batch norms were folded.
        unfolded: Names of those that were not.
    """

    def __init__(self, inner: nn.Module, how: Preparation, folded: int, unfolded: tuple[str, ...]) -> None:
        super().__init__()
        self.how, self.folded, self.unfolded = how, folded, unfolded
        self._inner = inner
        self._run = _compiled(inner, how)
        self._dtype = PRECISIONS[how.precision]
        self.training = False

    def train(self, mode: bool = True) -> PreparedModel:
        """Changes nothing: the modes were settled when the copy was made."""
        return self

    def forward(self, x: Tensor) -> Any:
        """Inputs ``(B, ...)`` to whatever the model returns."""
        outside = x.dtype
        scaling = Scaling() if self._dtype is torch.float16 and torch.is_grad_enabled() and x.requires_grad else None
        if self.how.graphs:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        outputs = self._run(self._inside(x if scaling is None else scaling.enter(x)))
        if self._dtype is not None:
            outputs = map_tensors(outputs, lambda t: t.to(outside) if t.dtype == self._dtype else t)
        if self.how.graphs:
            # The next replay writes over the outputs of this one.
            outputs = map_tensors(outputs, torch.clone)
        return outputs if scaling is None else scaling.leave(outputs, len(x))

    def _inside(self, x: Tensor) -> Tensor:
        """A copy, which the model may write to, in its precision and layout."""
        layout = torch.channels_last if self.how.channels_last and x.ndim == 4 else torch.preserve_format
        return x.to(x.dtype if self._dtype is None else self._dtype, copy=True, memory_format=layout)


def prepare(model: nn.Module, example: Tensor, how: Preparation | str = "fp32") -> PreparedModel:
    """A private copy of a model that computes the same, cheaper, for the gradient steps of an attack.

    The copy is in evaluation mode and its parameters are not differentiated. Batch norms are folded into the
    convolutions before them where one forward pass on ``example`` shows that nothing else sees the convolution's
    output. Folding is then checked: outputs on ``example`` must agree with the model's to a thousandth of their
    greatest entry, else the copy stays unfolded. Whatever is not folded is named in one log line, of the logger
    ``art_mtl.prepared.prepare``.

    The model inside ``DataParallel``, ``DistributedDataParallel`` or ``torch.compile`` is copied without the wrapper:
    the copy runs on one device, and is compiled if ``how`` says so. What the model returns comes back as the same kind
    of thing, see :func:`art_mtl.structure.map_tensors`. Neither ``example`` nor torch's random state is changed.

    Args:
        model: Any model; it is not touched.
        example: Inputs as the model takes them, ``(B, ...)``, on its device.
        how: A :class:`Preparation`, or a string that :meth:`Preparation.parse` takes, but for "exact".

    Raises:
        TypeError: The model is no module, or settings of a wrong type.
        ValueError: The model cannot be copied, or is traced, scripted, exported or sharded; CUDA graphs without CUDA;
            or unknown settings.

    Examples:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()
        >>> x = torch.rand(2, 3, 6, 6)
        >>> fast = prepare(net, x)
        >>> fast.folded, torch.allclose(fast(x), net(x), atol=1e-5)
        (1, True)
        >>> prepare(net, x, "bf16,memory-efficient")(x).dtype
        torch.float32
    """
    settings = Preparation.parse(how)
    if settings is None:
        raise ValueError("Parameter `how` should say how to prepare the model; 'exact' is the model itself.")
    if not isinstance(model, nn.Module):
        raise TypeError(f"Parameter `model` should be a torch.nn.Module. Found {type(model).__name__}.")
    if settings.graphs and example.device.type != "cuda":
        raise ValueError(f"The preparation 'graphs' needs a model on CUDA. Found {example.device.type!r}.")
    # Of what is made in inference mode no gradient can be taken.
    with torch.inference_mode(False), torch.no_grad():
        return _prepared(unwrapped(model), example.detach(), settings)


def _prepared(model: nn.Module, example: Tensor, settings: Preparation) -> PreparedModel:
    inner, folded = private_copy(model), 0
    if settings.fold:
        inner, folded = _folded(model, inner, example)
    unfolded = tuple(batch_norms(inner))
    if settings.memory_efficient:
        make_memory_efficient(inner)
    dtype = PRECISIONS[settings.precision]
    if dtype is not None:
        narrow(inner, dtype)
    if settings.channels_last and example.ndim == 4:
        inner.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return PreparedModel(evaluate(inner), settings, folded, unfolded)


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Convolutions in full float32: TF32, a GPU's default for them, rounds by more than folding may change."""
    try:
        allowed = torch.backends.cudnn.allow_tf32
    except RuntimeError:  # It was set by torch's newer switches, with which this one must not be mixed.
        yield
        return
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = allowed


def _folded(model: nn.Module, inner: nn.Module, example: Tensor) -> tuple[nn.Module, int]:
    """The copy, folded, and the number of batch norms that are gone; one log line on those that are not."""
    if not batch_norms(inner):
        return inner, 0

    def look() -> list[Tensor]:
        with kept_randomness(example.device), _without_tf32():  # So that a random model draws the same each time.
            return tensors_in(inner(example.clone()))

    expected = look()
    try:
        with kept_randomness(example.device):
            pairs = find_pairs(inner, example.clone())
        fold_pairs(inner, pairs)
        gap = _gap(look(), expected)
    except Exception as error:  # Of the user's own forward, which may do anything with what watches it.
        _log.warning("%s works unfolded: its forward cannot be watched or changed (%s).", type(model).__name__, error)
        return private_copy(model), 0
    if not gap <= TOLERANCE:
        _log.warning("%s works unfolded: folding changes its outputs, by %.2g.", type(model).__name__, gap)
        return private_copy(model), 0
    left = batch_norms(inner)
    if left:
        shown = ", ".join(left[:5]) + (", …" if len(left) > 5 else "")
        message = "%s works with %d of %d batch norms unfolded, which do not follow a convolution of their own: %s."
        _log.warning(message, type(model).__name__, len(left), len(left) + len(pairs), shown)
    return inner, len(pairs)


def _gap(found: list[Tensor], expected: list[Tensor]) -> float:
    """Greatest difference, as a share of each output's greatest entry."""
    gaps = [0.0]
    for one, other in zip(found, expected, strict=True):
        if other.is_floating_point() and other.numel():
            scale = other.abs().amax().clamp(min=torch.finfo(other.dtype).tiny)
            gaps.append(float((one - other).abs().amax() / scale))
    # A NaN is the greatest.
    return max(gaps, key=lambda gap: (gap != gap, gap))


def _compiled(inner: nn.Module, how: Preparation) -> Any:
    if how.graphs:
        return torch.compile(inner, mode="reduce-overhead")
    return torch.compile(inner) if how.compile else inner
