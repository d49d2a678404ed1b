"""Out of memory: the network goes on in pieces, and nothing of the result changes."""

from __future__ import annotations

import logging
import math
import weakref
from dataclasses import replace

import pytest
import torch

from art_mtl.core import RunConfig, attack, make_method
from art_mtl.core.batch import AttackBatch
from art_mtl.core.forward import ForwardBackward, MicroBatching
from art_mtl.core.method import Method
from art_mtl.core.session import Session

NAMES = ["equal", "worst-task", "minmax", "minmax-official", "normalize-official", "stealthy:depth"]
OUT_OF_MEMORY = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried"),
]


def limited(forward, most, error=OUT_OF_MEMORY[0], sizes=None):
    """A network that has memory for ``most`` samples at once."""

    def run(x):
        if sizes is not None:
            sizes.append((len(x), torch.is_grad_enabled()))
        if len(x) > most:
            raise error
        return forward(x)

    return run


def limited_backward(forward, most):
    """One that has memory for ``most`` samples in the backward pass."""

    def refuse(gradient):
        if len(gradient) > most:
            raise OUT_OF_MEMORY[0]

    def run(x):
        outputs = forward(x)
        for output in outputs:
            if output.requires_grad:
                output.register_hook(refuse)
        return outputs

    return run


def run(case, method, forward, plan=None, **kwargs):
    seen, plan = [], plan or RunConfig(4)
    threat = case.threat(math.inf, 0.1)
    result = attack(
        forward, case.x, case.tasks, case.targets, method, threat, plan, observer=seen.append, **kwargs
    )  # fmt: skip
    return result, torch.stack([record.weights for record in seen]), torch.stack([record.gradient for record in seen])


def same(one, other):
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("most", [4, 2, 1])
@pytest.mark.parametrize("name", NAMES)
def test_pieces_change_no_result(dense_case, name, most):
    case = dense_case(batch=5)
    method = make_method(name, case.tasks)
    expected = run(case, method, case.forward)
    same(run(case, method, limited(case.forward, most)), expected)
    same(run(case, method, limited_backward(case.forward, most)), expected)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["CUDA", "CPU"])
@pytest.mark.parametrize("knobs", [{"keep": "best"}, {"schedule": "auto"}, {"weight_scope": "dataset"}])
def test_nor_do_they_with_knobs(mixed_case, knobs, error):
    case = mixed_case()
    method = make_method("worst-task", case.tasks, **knobs)
    plan = RunConfig(4, start=1.0, restarts=2, generator=torch.Generator().manual_seed(0))
    expected = run(case, method, case.forward, plan)
    plan.generator.manual_seed(0)
    same(run(case, method, limited(case.forward, 2, error), plan), expected)


def test_nor_of_combined_gradients(dense_case):
    case, method = (
        dense_case(batch=5),
        Method("mine", aggregator=lambda gram, known, step: gram.diagonal(dim1=1, dim2=2)),
    )
    same(run(case, method, limited(case.forward, 2)), run(case, method, case.forward))


def test_passes_are_counted(dense_case, caplog):
    """Whole: T passes. In pieces of 2 out of 5: 3 forwards for outputs and 3 for gradients a step."""
    case, sizes = dense_case(batch=5), []
    method = make_method("worst-task", case.tasks)
    with caplog.at_level(logging.WARNING):
        run(case, method, limited(case.forward, 2, sizes=sizes), micro_batching=MicroBatching())
    assert sizes[:2] == [(5, True), (3, False)]
    assert sizes[2:8] == [(2, False), (2, False), (1, False), (2, True), (2, True), (1, True)]
    assert sizes[2:] == sizes[2:8] * 4
    assert [record.args for record in caplog.records] == [(5, 3), (3, 2)]


def test_later_batches_go_on_with_the_size_found(dense_case):
    case, sizes = dense_case(batch=4), []
    method = make_method("equal", case.tasks)
    forward, session, threat = limited(case.forward, 1, sizes=sizes), Session(), case.threat(math.inf, 0.1)
    batch = AttackBatch(case.x, tuple(case.targets), threat.eps, threat.bounds)
    for _ in range(2):
        session.attack(forward, tuple(case.tasks), method, RunConfig(1), batch, math.inf)
    assert session.micro_batching.size == 1
    assert sizes[-8:] == [(1, False)] * 4 + [(1, True)] * 4


def test_one_sample_too_many_and_other_errors_pass(dense_case):
    case = dense_case(batch=3)
    method = make_method("equal", case.tasks)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        run(case, method, limited(case.forward, 0))
    with pytest.raises(RuntimeError, match="shapes"):
        run(case, method, limited(case.forward, 2, RuntimeError("shapes cannot be multiplied")))


def test_memory_is_let_go_before_the_next_try():
    """What a failed pass held is freed, or the smaller one would fail too."""
    held = []

    def forward(x):
        assert all(reference() is None for reference in held)
        kept = x * 2
        if len(x) > 1:
            held.append(weakref.ref(kept))
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return [kept]

    (output,) = ForwardBackward(forward, MicroBatching()).no_grad(torch.ones(4, 1))
    assert torch.equal(output, torch.full((4, 1), 2.0)) and len(held) == 2


def test_two_tasks_on_one_output_count_twice(dense_case):
    case = dense_case(batch=3)
    doubled = replace(
        case,
        forward=lambda x: [(o := case.forward(x)[1]), o],
        tasks=[case.tasks[1], case.tasks[1]],
        targets=[case.targets[1], case.targets[1]],
    )
    once = case.only([1])
    method = make_method("equal", once.tasks)
    _, _, single = run(once, method, once.forward)
    for forward in (doubled.forward, limited(doubled.forward, 2)):
        torch.testing.assert_close(run(doubled, method, forward)[2], 2 * single)


def test_outputs_come_before_gradients():
    with pytest.raises(RuntimeError, match="`forward` comes first"):
        ForwardBackward(lambda x: [x], MicroBatching()).gradient([torch.ones(1, requires_grad=True)], [torch.ones(1)])
