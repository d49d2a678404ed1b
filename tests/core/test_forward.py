"""Out of memory: the network goes on in pieces, and nothing of the result changes."""

from __future__ import annotations

import logging
import math
import weakref
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from art_mtl.core import RunConfig, attack, make_method
from art_mtl.core.accumulation import accumulated_gradient
from art_mtl.core.batch import AttackBatch
from art_mtl.core.forward import ForwardBackward, MicroBatching, zero_nonfinite
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


# --- outputs of any structure ---


@dataclass
class Heads:
    near: torch.Tensor
    far: Any
    note: str = "one of many"


def nested(x):
    """Two tasks: a data class that holds a dict, a list and a tuple, and integers; and a tensor."""
    wide = torch.tanh(x @ torch.linspace(-1, 1, 4 * 6, dtype=x.dtype).view(4, 6))
    far = {"list": [wide[:, 1:3], (wide[:, 3], None)], "places": wide.argmax(1), "unused": wide[:, 4:].sqrt()}
    return [Heads(wide[:, 0], far), wide.square()]


def value_of(outputs):
    heads, squares = outputs
    first = heads.near * heads.far["list"][1][0] + heads.far["list"][0].sum(1) * (heads.far["places"] + 1)
    return [first, squares.sum(1)]


def per_sample(x):
    """A list of one dict a sample, of as many rows as the sample says."""
    counts = [int(4 * row[0].abs()) % 4 + 1 for row in x.detach()]
    return [
        [{"boxes": torch.outer(torch.arange(1.0, n + 1).to(row), row.sin())} for n, row in zip(counts, x, strict=True)]
    ]


def packed(x):
    """The same, one sample after the other, and how many rows each has."""
    (samples,) = per_sample(x)
    return [
        {"rows": torch.cat([s["boxes"] for s in samples]), "counts": torch.tensor([len(s["boxes"]) for s in samples])}
    ]


class PerSample:
    def slice_output(self, output, rows):
        return output[rows]

    def join_outputs(self, parts):
        return [sample for part in parts for sample in part]


class Packed:
    def slice_output(self, output, rows):
        ends = output["counts"].cumsum(0)
        first = (ends - output["counts"])[rows][0]
        return {"rows": output["rows"][first : ends[rows][-1]], "counts": output["counts"][rows]}

    def join_outputs(self, parts):
        return {key: torch.cat([part[key] for part in parts]) for key in ("rows", "counts")}


def value_of_samples(outputs):
    return [torch.stack([(s["boxes"] ** 2).sum() * (k + 1) for k, s in enumerate(outputs[0])])]


def value_of_packed(outputs):
    rows, counts = outputs[0]["rows"], outputs[0]["counts"]
    totals = [(part**2).sum() for part in torch.split(rows, counts.tolist())]
    return [torch.stack(totals) * torch.arange(1, len(counts) + 1)]


STRUCTURES = {
    "nest": (nested, value_of, None),
    "a nest a sample": (per_sample, value_of_samples, [PerSample()]),
    "packed": (packed, value_of_packed, [Packed()]),
}


@pytest.fixture
def inputs():
    return torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("most", [5, 3, 2, 1])
@pytest.mark.parametrize("pass_", ["forward", "backward"])
def test_outputs_of_any_structure(structure, most, pass_, inputs):
    """Whole, in parts from the beginning, and in parts since the backward pass: the gradient is that of plain torch."""
    forward, value, layouts = STRUCTURES[structure]
    leaf = inputs.clone().requires_grad_(True)
    expected = value(forward(leaf))
    weights = [torch.linspace(-1, 2, 5, dtype=torch.float64)] * len(expected)
    (gradient,) = torch.autograd.grad(expected, leaf, weights)

    def short(x):
        if pass_ == "forward" and len(x) > most:
            raise OUT_OF_MEMORY[0]
        return forward(Limit.apply(x, most) if pass_ == "backward" else x)

    network = ForwardBackward(short, MicroBatching(), layouts)
    for again in (True, False):
        if again:
            found = value(network.forward(inputs))
            assert [v.tolist() for v in found] == [v.tolist() for v in expected]
        same([network.gradient(found, weights, again=again)], [gradient])
    assert [v.tolist() for v in value(network.no_grad(inputs))] == [v.tolist() for v in expected]
    with pytest.raises(RuntimeError, match="`forward` comes first"):
        network.gradient(found, weights)


class Limit(torch.autograd.Function):
    """Memory for so many samples in the backward pass."""

    @staticmethod
    def forward(ctx, x, most):
        ctx.most = most
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        if len(gradient) > ctx.most:
            raise OUT_OF_MEMORY[0]
        return gradient, None


def test_what_is_not_used_is_not_differentiated(inputs):
    """The derivative of a root at 0 is infinite, and 0 · ∞ is NaN."""
    for size in (None, 2):
        network = ForwardBackward(lambda x: [{"used": x, "root": (x * 0).sqrt()}], MicroBatching(size))
        (output,) = network.forward(inputs)
        assert torch.equal(network.gradient([output["used"].sum(1)], [torch.ones(5)]), torch.ones_like(inputs))


@pytest.mark.parametrize("size", [None, 2, 1])
def test_samples_whose_outputs_are_not_used_have_gradient_zero(inputs, size):
    network = ForwardBackward(per_sample, MicroBatching(size), [PerSample()])
    (samples,) = network.forward(inputs)
    gradient = network.gradient([samples[3]["boxes"].sum()], [torch.tensor(1.0, dtype=inputs.dtype)])
    assert (gradient != 0).any(1).tolist() == [False, False, False, True, False]
    outputs = network.forward(inputs)
    assert network.gradient([torch.ones(1, requires_grad=True)], [torch.ones(1)]) is None and len(outputs[0]) == 5


@pytest.mark.parametrize("samples, message", [(4, "Output 0.*by `slice_output`.*2 samples"), (5, "same structure")])
@pytest.mark.parametrize("run", ["forward", "no_grad"])
def test_a_list_of_samples_is_not_joined_as_if_it_were_batch_first(inputs, run, samples, message):
    with pytest.raises(ValueError, match=message):
        getattr(ForwardBackward(per_sample, MicroBatching(2)), run)(inputs[:samples])


def test_a_network_whose_outputs_change_their_shape_between_passes(inputs):
    calls = []

    def forward(x):
        calls.append(1)
        return [x[:, : 4 - len(calls) // 4]]

    network = ForwardBackward(forward, MicroBatching(2))
    (output,) = network.forward(inputs)
    with pytest.raises(ValueError, match=r"same shapes in every pass.*\(2, 4\)\], then \[\(2, 3\)"):
        network.gradient([output.sum(1)], [torch.ones(5)])


# --- networks that write in their input ---


@pytest.mark.parametrize("most", [5, 2])
def test_a_network_that_writes_in_its_input(dense_case, most):
    case = dense_case(batch=5)
    plain = case.forward

    def writing(x):
        return plain(x.sub_(0.5).div_(0.25))

    clean = case.x.clone()
    for name in ("minmax", "worst-task"):
        method = make_method(name, case.tasks, keep="best")
        plan = RunConfig(3, start=1.0, restarts=2, generator=torch.Generator().manual_seed(0))
        expected = run(case, method, lambda x: plain((x - 0.5) / 0.25), plan)
        plan.generator.manual_seed(0)
        for one, other in zip(run(case, method, limited(writing, most), plan), expected, strict=True):
            assert torch.equal(one, other) if most == 5 else torch.allclose(one, other)
    network = ForwardBackward(writing, MicroBatching())
    network.no_grad(case.x), network.forward(case.x)
    assert torch.equal(case.x, clean)


# --- reentrant checkpoints ---


@pytest.fixture
def nets():
    """A net, and the same with reentrant checkpoints and leaves that nobody froze, one of them with a gradient."""
    generator = torch.Generator().manual_seed(0)
    first, inner, outer = (torch.randn(4, 4, generator=generator, requires_grad=True) for _ in range(3))
    inner.grad = torch.ones(4, 4)

    def body(x):
        return (x @ first).tanh()

    def plain(x):
        hidden = body(x) @ inner @ outer
        return [hidden, hidden.square().sum(1)]

    def checkpointed(x):
        def nested(x):
            return checkpoint(body, x, use_reentrant=True) @ inner

        hidden = checkpoint(nested, x, use_reentrant=True) @ outer
        return [hidden, hidden.square().sum(1)]

    return plain, checkpointed, (first, inner, outer)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("size", [None, 2])
def test_reentrant_checkpoints(nets, size):
    plain, checkpointed, leaves = nets
    before = [(leaf.grad, None if leaf.grad is None else leaf.grad.clone()) for leaf in leaves]
    x, weights = torch.randn(5, 4), [torch.linspace(0, 1, 5), torch.ones(5)]
    found = []
    for forward in (plain, checkpointed):
        network, gradients = ForwardBackward(forward, MicroBatching(size)), []
        for _ in range(2):
            hidden, squares = network.forward(x)
            for again in (True, True, False):
                gradients.append(network.gradient([hidden.sum(1), squares], weights, again=again))
        found.append(gradients)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other) and bool((one != 0).any())
    for leaf, (gradient, values) in zip(leaves, before, strict=True):
        assert leaf.grad is gradient and (values is None or torch.equal(gradient, values))


def test_finding_out_costs_one_forward_pass(nets):
    _, checkpointed, _ = nets
    calls = []

    def counting(x):
        calls.append(len(x))
        return checkpointed(x)

    network = ForwardBackward(counting, MicroBatching())
    for _ in range(4):
        network.gradient([network.forward(torch.randn(3, 4))[1]], [torch.ones(3)])
    assert len(calls) == 5


def test_other_errors_of_the_backward_pass_are_raised():
    network = ForwardBackward(lambda x: [x.sqrt()], MicroBatching())
    (output,) = network.forward(torch.ones(2, 3))
    with pytest.raises(RuntimeError, match="shape"):
        network.gradient([output], [torch.ones(2, 2)])


def test_gradients_return_after_an_error():
    x, leaf = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    leaf.grad = torch.full((2,), 7.0)
    output = x * leaf
    output.register_hook(lambda gradient: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        accumulated_gradient([output], [torch.ones(2)], x)
    assert leaf.grad.tolist() == [7, 7] and x.grad is None


# --- gradients that are not finite ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_entries_that_are_not_finite_are_zero(dtype):
    gradient = torch.randn(4, 3, 2, 2).to(dtype)
    gradient[0, 0, 0, 0] = -0.0
    wanted = gradient.clone()
    for sample, bad in ((1, math.nan), (2, math.inf), (3, -math.inf)):
        gradient[sample, 1, 0, 1], wanted[sample, 1, 0, 1] = bad, 0
    found, had = zero_nonfinite(gradient)
    assert had.tolist() == [False, True, True, True]
    assert torch.equal(found, wanted) and found.dtype == dtype and torch.equal(found.signbit(), wanted.signbit())


@pytest.mark.parametrize("dtype, largest", [(torch.float32, 3e38), (torch.float16, 6e4), (torch.float64, 1e308)])
def test_gradients_whose_sum_overflows_are_finite(dtype, largest):
    gradient = torch.full((2, 64), largest, dtype=dtype)
    found, had = zero_nonfinite(gradient)
    assert torch.equal(found, gradient) and had.tolist() == [False, False]


def test_finite_gradients_are_themselves_and_no_device_is_waited_for():
    gradient = torch.randn(3, 2)
    found, had = zero_nonfinite(gradient)
    assert found is gradient and had.tolist() == [False] * 3
    found, had = zero_nonfinite(torch.empty(3, 2, 2, device="meta"))
    assert found.shape == (3, 2, 2) and had.shape == (3,) and had.device.type == "meta"
    found, had = zero_nonfinite(torch.tensor([1.0, math.nan]))
    assert found.tolist() == [1, 0] and had.tolist() == [False, True]
