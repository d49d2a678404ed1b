"""Lend a model to an attack and give it back as it was, whoever else has borrowed it meanwhile.

What is lent is written down module by module and parameter by parameter, not model by model: two models may share some.
Each loan says in which mode it wants each module. The newest loan's wish holds; when the last loan ends, the module is
as it was before the first.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from art_mtl.prepared.recurrent import is_recurrent

_log = logging.getLogger(__name__)


@contextmanager
def frozen(
    model: nn.Module,
    evaluate: bool = True,
    *,
    training: Callable[[nn.Module], bool] | None = None,
    differentiable: bool = True,
) -> Iterator[None]:
    """Parameters are not differentiated inside; on leaving, also by an exception, everything is as it was.

    Restored are the mode of every module, ``requires_grad`` of every parameter, and all buffers, whoever wrote to them:
    a batch norm in training mode, or a forward pass that counts its calls. Modes are set on each module by itself: a
    ``train`` of the model's own is not called, as it may do more than that.

    Recurrent layers (``nn.RNNBase``) that should be in evaluation mode are put into training mode with their dropout at
    0, on every device: cuDNN can differentiate them in no other mode, and they compute the same.

    Loans of one model may be nested, and several threads may hold them at once. Modes come back when the last one ends.
    A thread that wants a module in another mode than other threads have it in waits until these are done; so does one
    that wants a module with buffers in training mode, which would move them.

    Args:
        model: The model.
        evaluate: Put every module into evaluation mode. False leaves modes alone.
        training: Says of each module whether it should be in training mode; in place of ``evaluate``.
        differentiable: Whether gradients will be taken through the model. False takes a model that allows none too.

    Raises:
        ValueError: Gradients are to be taken through a model that was made inside :func:`torch.inference_mode`.
        RuntimeError: Two threads that have borrowed the model wait for each other, each for another mode.

    Examples:
        >>> net = torch.nn.Linear(2, 2)
        >>> with frozen(net):
        ...     print(net.training, net.weight.requires_grad)
        False False
        >>> net.training, net.weight.requires_grad
        (True, True)
    """
    if differentiable:
        check_differentiable(model)
    wish = training if training is not None else (lambda module: False) if evaluate else None
    loan = _LEDGER.lend(model, wish)
    try:
        yield
    except BaseException:
        # The error that is on its way is the one to be seen.
        for failure in _LEDGER.end(loan):
            _log.error("A part of the model could not be given back as it was.", exc_info=failure)
        raise
    for failure in _LEDGER.end(loan):
        raise failure


def check_differentiable(model: nn.Module) -> None:
    """Raise unless gradients can be taken through a model.

    Raises:
        ValueError: A parameter or buffer was made inside :func:`torch.inference_mode`.

    Examples:
        >>> check_differentiable(nn.Linear(2, 2))
    """
    tensors = [*model.named_parameters(), *model.named_buffers()]
    made_inside = [name for name, tensor in tensors if tensor.is_inference()]
    if made_inside:
        raise ValueError(
            "The model should be made outside torch.inference_mode() to be attacked: torch takes no gradient through "
            f"what was made inside. Found {len(made_inside)} of its {len(tensors)} parameters and buffers made inside, "
            f"such as {made_inside[0]!r}. Build or load it outside, or attack `copy.deepcopy(model)`, made outside."
        )


class _Mode(NamedTuple):
    """The mode of a module; dropout is that of a recurrent layer."""

    training: bool
    dropout: float | None

    @classmethod
    def of(cls, module: nn.Module) -> _Mode:
        return cls(module.training, getattr(module, "dropout", None) if is_recurrent(module) else None)

    def put_on(self, module: nn.Module) -> None:
        module.training = self.training
        if self.dropout is not None:
            module.dropout = self.dropout  # type: ignore[assignment]


@dataclass(eq=False)
class _Loan:
    """What one borrower has: modules with the modes it wants, parameters, and copies of the buffers that will move."""

    thread: int
    modes: list[tuple[nn.Module, _Mode]] = field(default_factory=list)
    parameters: list[Tensor] = field(default_factory=list)
    buffers: list[_Buffer] = field(default_factory=list)
    shared: list[_Buffer] = field(default_factory=list)
    """Those of modules in evaluation mode, which loans may have together."""


@dataclass(eq=False)
class _Lent:
    """A module that is lent: its mode before, and who wants it in which, the newest last."""

    original: _Mode
    wishes: list[tuple[_Loan, _Mode]] = field(default_factory=list)


class _Buffer:
    """A buffer as it was, and how many have it."""

    def __init__(self, module: nn.Module, name: str, tensor: Tensor | None) -> None:
        self.module, self.name, self.tensor, self.borrowers = module, name, tensor, 0
        self.values = tensor.detach().clone() if tensor is not None and _is_writable(tensor) else None

    def restore(self) -> None:
        if self.tensor is not None and self.values is not None:
            # Memory of the host may be there to be read only; to look on a device would wait for it.
            looks = self.tensor.is_inference() or self.tensor.is_cpu
            if not (looks and torch.equal(self.tensor, self.values)):
                # By `.data`, as a graph that has saved the tensor may be asked for gradients yet.
                self.tensor.data.copy_(self.values)
        if getattr(self.module, self.name, None) is not self.tensor:  # `_buffers` of TorchScript has no `get`
            self.module._buffers[self.name] = self.tensor


class _Ledger:
    """Everything that is lent at the moment, by all threads."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.loans: list[_Loan] = []
        # By id, as modules may compare equal; what is lent is alive.
        self.modules: dict[int, _Lent] = {}
        self.parameters: dict[int, int] = {}
        self.buffers: dict[tuple[int, str], _Buffer] = {}
        self.waiting: set[int] = set()

    def lend(self, model: nn.Module, wish: Callable[[nn.Module], bool] | None) -> _Loan:
        """A new loan, in force; None as the wish leaves modes alone. An error leaves nothing changed."""
        with self.changed:
            loan = _Loan(threading.get_ident())
            for module in model.modules():
                if hasattr(module, "training"):  # Not so what torch.jit.freeze returns.
                    loan.modes.append((module, self._wanted(module, wish)))
            self._wait_for_others(loan)
            self.loans.append(loan)
            try:
                self._begin(loan, model)
            except BaseException:
                self._end(loan)
                raise
            return loan

    def end(self, loan: _Loan) -> list[Exception]:
        """Give back; what fails is returned, and does not keep the rest from being given back."""
        with self.changed:
            return self._end(loan)

    def _wanted(self, module: nn.Module, wish: Callable[[nn.Module], bool] | None) -> _Mode:
        now, lent = _Mode.of(module), self.modules.get(id(module))
        train = now.training if wish is None else bool(wish(module))
        if now.dropout is None or (wish is None and train):
            return _Mode(train, now.dropout)
        original = now if lent is None else lent.original
        return _Mode(True, original.dropout if train else 0.0)

    def _wait_for_others(self, loan: _Loan) -> None:
        holds = any(other.thread == loan.thread for other in self.loans)
        while others := self._in_the_way(loan):
            if holds and others & self.waiting:
                raise RuntimeError(
                    "Two threads have borrowed one model, and each wants it in another mode before the other is done. "
                    "Attack in both with one mode, or give each thread a copy of the model."
                )
            if holds:
                self.waiting.add(loan.thread)
            try:
                self.changed.wait()
            finally:
                self.waiting.discard(loan.thread)

    def _in_the_way(self, loan: _Loan) -> set[int]:
        """Other threads that have a module in another mode, or with buffers in training mode."""
        found = set()
        for module, mode in loan.modes:
            lent = self.modules.get(id(module))
            for other, theirs in lent.wishes if lent is not None else ():
                if other.thread != loan.thread and (theirs != mode or (mode.training and _has_buffers(module))):
                    found.add(other.thread)
        return found

    def _begin(self, loan: _Loan, model: nn.Module) -> None:
        for module, mode in loan.modes:
            self._lend_buffers(loan, module, mode.training)
            lent = self.modules.setdefault(id(module), _Lent(_Mode.of(module)))
            lent.wishes.append((loan, mode))
            mode.put_on(module)
        for parameter in model.parameters():
            lent_already = id(parameter) in self.parameters
            # Outside inference mode, that of a tensor made inside could not be set back.
            if lent_already or (parameter.requires_grad and not parameter.is_inference()):
                parameter.requires_grad_(False)
                loan.parameters.append(parameter)
                self.parameters[id(parameter)] = self.parameters.get(id(parameter), 0) + 1

    def _lend_buffers(self, loan: _Loan, module: nn.Module, moves: bool) -> None:
        for name, tensor in module._buffers.items():
            if moves:
                loan.buffers.append(_Buffer(module, name, tensor))
                continue
            place = id(module), name
            if place not in self.buffers:
                self.buffers[place] = _Buffer(module, name, tensor)
            self.buffers[place].borrowers += 1
            loan.shared.append(self.buffers[place])

    def _end(self, loan: _Loan) -> list[Exception]:
        steps: list[Callable[[], None]] = [buffer.restore for buffer in loan.buffers]
        steps += [partial(self._return_buffer, buffer) for buffer in loan.shared]
        steps += [partial(self._return_parameter, parameter) for parameter in loan.parameters]
        steps += [partial(self._return_module, module, loan) for module, _ in loan.modes]
        failures = []
        for step in steps:
            try:
                step()
            except Exception as error:
                failures.append(error)
        self.loans.remove(loan)
        self.changed.notify_all()
        return failures

    def _return_buffer(self, buffer: _Buffer) -> None:
        buffer.borrowers -= 1
        if not buffer.borrowers:
            del self.buffers[id(buffer.module), buffer.name]
            buffer.restore()

    def _return_parameter(self, parameter: Tensor) -> None:
        left = self.parameters.pop(id(parameter)) - 1
        if left:
            self.parameters[id(parameter)] = left
        else:
            parameter.requires_grad_(True)

    def _return_module(self, module: nn.Module, loan: _Loan) -> None:
        lent = self.modules.get(id(module))
        if lent is None:
            return
        lent.wishes = [(other, mode) for other, mode in lent.wishes if other is not loan]
        if not lent.wishes:
            del self.modules[id(module)]
        mode = lent.wishes[-1][1] if lent.wishes else lent.original
        mode.put_on(module)


_LEDGER = _Ledger()


def _is_writable(tensor: Tensor) -> bool:
    """Whether a forward pass can write to a buffer in place: not where places share memory, or there are none yet."""
    if is_lazy(tensor) or tensor.layout is not torch.strided or tensor.is_nested or tensor.is_meta:
        return False
    return all(size < 2 or stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


def _has_buffers(module: nn.Module) -> bool:
    return any(buffer is not None for buffer in module._buffers.values())
