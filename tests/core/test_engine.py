"""One call from inputs to warnings, on a small model and without a host."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from art_mtl import MultiTaskLabels, tasks
from art_mtl.core import engine as engine_module
from art_mtl.core.batch import Names
from art_mtl.core.batch_size import BatchSize
from art_mtl.core.config import AttackConfig
from art_mtl.core.engine import AttackedModel, Call, Callbacks, Engine
from art_mtl.core.searches.per_sample import PerSampleSearch

JOBS = (tasks.classification("kind", 3), tasks.regression("size"))
X = torch.rand(6, 1, 2, 2, generator=torch.Generator().manual_seed(0))
Y = {"kind": np.arange(6) % 3, "size": np.linspace(0, 1, 6, dtype=np.float32)[:, None]}


class Net(torch.nn.Module):
    """Outputs of both tasks, each of which ``change`` may spoil: ``(outputs, x) -> outputs``."""

    def __init__(self, change=None):
        super().__init__()
        g = torch.Generator().manual_seed(1)
        self.layer, self.norm, self.change = torch.nn.Linear(4, 4, bias=False), torch.nn.BatchNorm1d(4), change
        self.layer.weight.data = torch.randn(4, 4, generator=g)

    def forward(self, x):
        raw = self.norm(self.layer(x.flatten(1)))
        outputs = [4 * raw[:, :3], raw[:, 3:]]
        return outputs if self.change is None else self.change(outputs, x)


@pytest.fixture
def call():
    """``call(**what differs) -> the result of Engine.run``; ``call.own`` has the sizes of passes for own labels."""

    def run(x=X, y=Y, search=None, net=None, engine=None, bounds=(0.0, 1.0), **options):
        net = Net().eval() if net is None else net

        def own_labels(inputs, size):
            run.own.append(size)
            return MultiTaskLabels({"kind": net(inputs)[0].argmax(1), "size": net(inputs)[1].detach()})

        model = AttackedModel(net, JOBS, torch.device("cpu"), net, lambda how, inputs: net, own_labels)
        kept = {name: options.pop(name) for name in ("mask", "names", "callbacks", "settings") if name in options}
        config = AttackConfig(**{"method": "equal", "norm": math.inf, "eps": 0.1, "steps": 3, **options})
        return (engine or Engine()).run(search or PerSampleSearch(), config, Call(model, x, y, bounds, **kept))

    run.own = []
    return run


class Look:
    """A search that only looks."""

    def run(self, setup):
        self.setup = setup
        return setup.batch.inputs


# --- validate ---

WORDS = Names("images", "labels", "radius", "alpha", "box")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"x": X.int()}, TypeError, "`images` should hold floating-point numbers"),
        ({"x": X[:0]}, ValueError, "`images` should hold at least one sample"),
        ({"x": X * math.nan}, ValueError, "`images` should be finite.*first in sample 0"),
        ({"x": X + 1}, ValueError, "`images` should lie within `box`"),
        ({"bounds": (torch.zeros(5), torch.ones(5))}, ValueError, "`box` should be broadcastable"),
        ({"eps": torch.ones(5, 1, 1, 1)}, ValueError, r"`radius` should be broadcastable.*shape \(6, 1, 1, 1\)"),
        ({"step_size": torch.ones(5)}, ValueError, "`alpha` should be broadcastable"),
        ({"mask": [[1.0, math.nan]]}, ValueError, "`mask` should be finite"),
        ({"y": None, "targeted": True}, ValueError, "`labels` should hold the target labels for a targeted attack"),
        ({"y": {"kind": Y["kind"]}}, ValueError, "size"),
        ({"y": {**Y, "kind": Y["kind"][:4]}}, ValueError, "6"),
        ({"y": {**Y, "kind": Y["kind"] + 1}}, ValueError, r"'kind' should be classes in \[0, 2\]"),
    ],
)
def test_what_does_not_fit_is_named_by_the_hosts_words(call, changes, error, message):
    engine, search = Engine(), Look()
    with pytest.raises(error, match=message):
        call(engine=engine, search=search, names=WORDS, **changes)
    assert engine.calls == 0 and not hasattr(search, "setup"), "nothing has begun"


def test_a_call_becomes_a_batch(call):
    search, eps = Look(), torch.linspace(0.1, 0.6, 6).view(6, 1, 1, 1)
    call(search=search, eps=eps, step_size=eps / 2, mask=[[1, 0]], bounds=(0, np.ones((1, 2, 2))), norm=2.0)
    batch = search.setup.batch
    assert torch.equal(batch.eps, eps) and torch.equal(batch.step_size, eps / 2) and torch.equal(batch.inputs, X)
    assert batch.mask.tolist() == [[[[1.0, 0.0]]]] and [b.ndim for b in batch.bounds] == [4, 4]
    assert batch.kept == (0, 1) and not batch.own_labels and search.setup.config.norm == 2.0
    assert batch.targets[0].value.flatten().tolist() == Y["kind"].tolist()


@pytest.mark.parametrize(("batch_size", "passes"), [(None, 6), (4, 4), ("auto", engine_module.OWN_LABELS_BATCH)])
def test_without_labels_the_models_own_are_the_labels(call, batch_size, passes):
    search = Look()
    call(y=None, search=search, batch_size=batch_size)
    assert call.own == [passes] and search.setup.batch.own_labels and search.setup.run_config.start > 0


def test_tasks_without_targets_are_left_out(call):
    search = Look()
    with pytest.warns(RuntimeWarning, match=r"No targets of the task\(s\) \['kind'\]") as caught:
        call(y={"size": Y["size"]}, search=search, targeted=True)
    setup = search.setup
    assert len(caught) == 1 and setup.batch.kept == (1,) and [task.name for task in setup.tasks] == ["size"]
    for forward in (setup.forward, setup.exact):
        (output,) = forward(X)
        assert torch.equal(output, Net().eval()(X)[1])
    with pytest.raises(ValueError, match=r"'single:kind' should have targets of the tasks that it attacks"):
        call(y={"size": Y["size"]}, method="single:kind", targeted=True)


# --- run ---


def test_the_model_is_given_back_and_the_host_is_told_also_after_an_error(call):
    heard, net = [], Net().train()

    class Hears(Callbacks):
        def begin(self, steps, names):
            heard.append((steps, names))

        def end(self):
            heard.append("end")

    class Fails(Look):
        def run(self, setup):
            setup.begin(7)
            assert not net.training and not net.layer.weight.requires_grad
            raise ArithmeticError

    engine = Engine()
    with pytest.raises(ArithmeticError):
        call(net=net, search=Fails(), callbacks=Hears(), engine=engine)
    assert heard == [(7, ["kind", "size"]), "end"] and engine.calls == 1
    assert net.training and net.norm.training and net.layer.weight.requires_grad
    call(net=net, callbacks=Hears(), engine=engine, batch_size=4, restarts=2, random_start=True)
    assert heard[2:] == [(2 * 2 * 3, ["kind", "size"]), "end"] and engine.calls == 2
    engine.reset()
    assert engine.calls == 0


@pytest.mark.parametrize("batch_size", [None, 4, 1])
def test_samples_are_numbered_as_in_the_call(call, batch_size):
    bad = X[4].sum()

    def stop(outputs, x):
        here = (x.flatten(1).sum(1) - bad).abs() < 1e-6
        return [outputs[0], torch.where(here[:, None], math.nan, outputs[1])]

    with pytest.warns(RuntimeWarning, match=r"output was not finite for sample\(s\) \[4\]") as caught:
        found = call(net=Net(stop).eval(), batch_size=batch_size)
    assert len(caught) == 1 and torch.equal(found[4], X[4]) and not torch.equal(found[3], X[3])


def test_zeroed_gradients_flat_tasks_and_still_samples_are_told(call):
    def infinite_slope(outputs, x):
        return [outputs[0], outputs[1] + (x[:, 0, :1, 0] - X[2, 0, 0, 0]).abs().sqrt()]

    def cut(outputs, x):
        return [outputs[0], outputs[1].detach()]

    def saturated(outputs, x):
        return [output.round() for output in outputs]

    for change, says in (
        (infinite_slope, r"gradient of sample\(s\) \[2\] has NaN or infinite entries"),
        (cut, r"output of the task\(s\) \['size'\] does not depend on the inputs"),
        (saturated, "gradient was 0 at every step for all samples"),
    ):
        with pytest.warns(RuntimeWarning, match=says) as caught:
            call(net=Net(change).eval(), steps=1)
        assert len(caught) == 1


# --- what outlives a call ---


def test_the_batch_size_is_measured_again_where_there_are_more_samples(call, monkeypatch):
    measured, reasons = [], iter(["samples", "samples", "gain"])

    def measure(forward, x, device):
        measured.append(len(x))
        return BatchSize(len(x), next(reasons), {})

    monkeypatch.setattr(engine_module, "measure_batch_size", measure)
    engine, search = Engine(), Look()

    def size(samples, most=None):
        labels = {name: values[:samples] for name, values in Y.items()}
        call(x=X[:samples], y=labels, engine=engine, search=search, batch_size="auto")
        return engine.batch_size(search.setup, most)

    assert [size(3), size(2), size(5, most=3)] == [3, 3, 3] and measured == [3]
    assert [size(5, most=4), size(4)] == [4, 4] and measured == [3, 4]
    assert [size(6), size(6)] == [6, 6] and measured == [3, 4, 6]
    call(engine=engine, search=search, batch_size=2)
    assert engine.batch_size(search.setup, None) == 2 and len(measured) == 3


def test_what_stopped_at_the_gain_is_not_measured_again(call):
    engine, search = Engine(), Look()
    engine.measured = BatchSize(2, "gain", {})
    call(engine=engine, search=search, batch_size="auto")
    assert engine.batch_size(search.setup, None) == 2


def test_a_stream_goes_on_with_its_chunk_until_something_else_is_attacked(call):
    engine, stream, net = Engine(), PerSampleSearch(one_batch=True), Net().eval()

    def samples(**changes):
        call(net=net, engine=engine, search=stream, method="worst-task", steps=2, **changes)
        return engine.session.samples

    assert [samples(), samples()] == [6, 12]
    assert samples(settings=lambda: "another normalisation") == 6, "something else that decides results"
    assert samples() == 6 and samples() == 12
    assert samples(parts={"gamma": 0.1}) == 6, "another method"
    assert samples(parts={"gamma": 0.1}, eps=0.2) == 12, "the radius may differ from batch to batch"
    call(net=net, engine=engine, search=stream, steps=2)
    assert samples(parts={"gamma": 0.1}) == 6, "a method in between that shares nothing"
    net.note = "an attribute"
    assert samples(parts={"gamma": 0.1}) == 6, "another model"
    with pytest.warns(RuntimeWarning, match="No targets"):
        assert samples(parts={"gamma": 0.1}, y={"size": Y["size"]}, targeted=True) == 6, "other tasks"
    engine.reset()
    assert engine.session.samples == 0


def test_a_chunk_of_a_stream_is_not_overfilled_but_by_a_few(call):
    engine, stream, net = Engine(), PerSampleSearch(one_batch=True), Net().eval()

    def samples(count):
        labels = {name: values[:count] for name, values in Y.items()}
        parts = {"weight_group": 8}
        call(X[:count], labels, stream, net, engine, method="worst-task", steps=1, parts=parts)
        return engine.session.samples

    assert [samples(4), samples(4)] == [4, 8]
    assert [samples(2), samples(1)] == [10, 1], "a quarter may join, and no more"
    assert [samples(6), samples(3)] == [7, 3]
    assert [samples(5), samples(1), samples(1)] == [8, 9, 1], "but once"
