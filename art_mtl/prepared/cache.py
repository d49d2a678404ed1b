"""The prepared copies of a model, made once and again when the model changes."""

from __future__ import annotations

import logging
import threading
from typing import Any

import torch
from torch import Tensor, nn

from art_mtl.prepared.copying import kept_randomness, private_copy, unwrapped
from art_mtl.prepared.prepare import PreparedModel, prepare
from art_mtl.prepared.settings import Preparation
from art_mtl.prepared.signature import Path, differences, outside, signature

_log = logging.getLogger(__name__)


class PreparedCache:
    """Keeps the prepared copies of one model, one for each way to prepare it.

    They are made anew for another model, and when the model has changed: a parameter or buffer was replaced or written
    to, by ``.data`` too; a module, a hook or a ``forward`` was exchanged; or an attribute that is a number, a string, a
    tensor, an array, or a container or object of such, see :func:`art_mtl.prepared.signature.signature`. The model is
    looked at each time a copy is asked for, which costs about as much as reading its parameters.

    Not noticed are two kinds of change. One is of attributes that the model's own forward writes to, such as a counter.
    The other is of what the copy shares with the model: attributes of classes, globals, and what functions have closed
    over. These show in the copy at once, unless they were settled when it was made, as folded weights and compiled code
    are: call :meth:`clear` then.

    Several threads may ask at once.

    Examples:
        >>> import torch
        >>> net, x, cache = nn.Linear(2, 2), torch.zeros(1, 2), PreparedCache()
        >>> first = cache(net, x, Preparation())
        >>> first is cache(net, x, Preparation())
        True
        >>> _ = nn.init.ones_(net.weight)
        >>> first is cache(net, x, Preparation())
        False
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.clear()

    def clear(self) -> None:
        """Forget the copies."""
        with self._lock:
            self._model: nn.Module | None = None
            self._made: dict[tuple[Preparation, int | None], PreparedModel] = {}
            self._signature: dict[Path, Any] = {}
            self._written: set[Path] = set()

    def __call__(self, model: nn.Module, example: Tensor, how: Preparation) -> PreparedModel:
        """The copy; see :func:`prepare`.

        Args:
            model: The user's.
            example: Inputs, looked at only where a copy has to be made.
            how: The settings.
        """
        with self._lock:
            found = signature(unwrapped(model))
            if model is not self._model or self._has_changed(found):
                self.clear()
            # Replayed graphs write to memory of their own, which threads must not share.
            key = (how, threading.get_ident() if how.graphs else None)
            if key not in self._made:
                made = prepare(model, example, how)
                if not self._made:
                    self._written = _written_by_forward(unwrapped(model), example)
                self._model, self._signature, self._made[key] = model, found, made
            return self._made[key]

    def _has_changed(self, found: dict[Path, Any]) -> bool:
        return bool(outside(differences(self._signature, found), self._written))

    def __deepcopy__(self, memo: object) -> PreparedCache:
        return PreparedCache()

    def __reduce__(self) -> tuple[type[PreparedCache], tuple[()]]:
        # A copy of the attack makes its own.
        return PreparedCache, ()


def _written_by_forward(model: nn.Module, example: Tensor) -> set[Path]:
    """Paths of the attributes that a forward pass changes; parameters and buffers do not count."""
    with torch.inference_mode(False), torch.no_grad(), kept_randomness(example.device):
        twin = private_copy(model)
        before = signature(twin)
        try:
            twin(example.detach().clone())
        except Exception as error:  # Of the user's own forward, which may raise anything on a copy of the model.
            _log.warning("A copy of %s cannot be run (%s): each change of it is noticed.", type(model).__name__, error)
            return set()
        changed = differences(before, signature(twin))
    return {path for path in changed if not {"_parameters", "_buffers"} & set(path)}
