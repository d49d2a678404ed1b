"""The prepared copies of a model, made once and again when the model changes."""

from __future__ import annotations

from torch import Tensor, nn

from art_mtl.prepared.prepare import PreparedModel, prepare
from art_mtl.prepared.settings import Preparation


class PreparedCache:
    """Keeps the prepared copies of one model, one for each way to prepare it.

    They are made anew for another model, and when a parameter or buffer was replaced or written to. What is written
    through ``.data`` is not noticed, as nothing in torch notices it: call :meth:`clear` then.

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
        self.clear()

    def clear(self) -> None:
        """Forget the copies."""
        self._model: nn.Module | None = None
        self._made: dict[Preparation, PreparedModel] = {}
        # Kept alive, so that no new tensor can be found at their addresses.
        self._tensors: list[Tensor] = []
        self._state: list[tuple[int, int]] = []

    def __call__(self, model: nn.Module, example: Tensor, how: Preparation) -> PreparedModel:
        """The copy; see :func:`prepare`.

        Args:
            model: The user's.
            example: Inputs, looked at only where a copy has to be made.
            how: The settings.
        """
        tensors = [*model.parameters(), *model.buffers()]
        state = [(tensor.data_ptr(), tensor._version) for tensor in tensors]
        if model is not self._model or state != self._state:
            self.clear()
            self._model, self._state = model, state
            self._tensors = [tensor.detach() for tensor in tensors]
        if how not in self._made:
            self._made[how] = prepare(model, example, how)
        return self._made[how]

    def __deepcopy__(self, memo: object) -> PreparedCache:
        return PreparedCache()

    def __reduce__(self) -> tuple[type[PreparedCache], tuple[()]]:
        # A copy of the attack makes its own.
        return PreparedCache, ()
