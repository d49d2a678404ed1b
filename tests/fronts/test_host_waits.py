"""No step makes a tensor from Python's numbers on the device: on a GPU each would wait for a copy."""

from __future__ import annotations

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from art_mtl.evaluation.step_recorder import StepRecorder


class FromPython(TorchDispatchMode):
    """Counts tensors that are made from Python's numbers, which torch lifts into the graph once each."""

    def __init__(self):
        super().__init__()
        self.found = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.found += func.overloadpacket in (torch.ops.aten.lift_fresh, torch.ops.aten.lift_fresh_copy)
        return func(*args, **(kwargs or {}))


class Constructors(TorchFunctionMode):
    """Counts calls of what copies from the host."""

    def __init__(self):
        super().__init__()
        self.found = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.found += func in (torch.tensor, torch.as_tensor, torch.asarray, torch.from_numpy)
        return func(*args, **(kwargs or {}))


def counted(mode, run):
    with mode:
        run()
    return mode.found


def test_both_counters_count():
    def run():
        torch.tensor([1.0, 2.0])
        torch.tensor(True)

    assert counted(FromPython(), run) == counted(Constructors(), run) == 2
    assert counted(Constructors(), lambda: torch.full((), 1.0)) == 0


METHODS = {
    "equal": {},
    "minmax": {},
    "minmax-official": {},
    "worst-task": {},
    "worst-image": {},
    "alternate": {},
    "single:k": {},
    "smta:k": {},
    "stealthy:k": {},
    "stealthy:k by sample": {"weight_scope": "sample"},
    "stealthy:k by batch": {"weight_scope": "batch"},
    "equal with fixed weights": {"weighting": [1.0, 0.5]},
    "equal by Auto-PGD": {"schedule": "auto"},
    "worst-task by Auto-PGD": {"schedule": "auto"},
}


@pytest.mark.parametrize("mode", [FromPython, Constructors])
@pytest.mark.parametrize("norm", [float("inf"), 2, 1])
@pytest.mark.parametrize("name", METHODS)
def test_more_steps_make_no_more_of_them(front, net, jobs, data, name, norm, mode):
    method, options = name.split(" ")[0], METHODS[name]

    def run(steps, watch=None):
        attack = front.make("MultiTaskPGD", net, jobs, method, eps=0.1, norm=norm, steps=steps, **options)
        attack.observer = watch
        return counted(mode(), lambda: front.run(attack, *data))

    assert run(3) == run(9) == run(9, StepRecorder())
    assert run(3, StepRecorder(losses_every=1)) == run(9, StepRecorder(losses_every=1))
