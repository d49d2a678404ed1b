"""Nets with softmax or sigmoid inside are attacked as their logits are, and what has no gradient left is told."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from art_mtl import PyTorchMultiTaskEstimator, losses, tasks
from art_mtl.attacks import MultiTaskPGD, WorstTaskPGD
from art_mtl.core.before_activation import BeforeActivation
from art_mtl.core.warn import AttackWarning
from art_mtl.torchattacks import MultiTaskPGD as TorchPGD

X = np.random.default_rng(0).uniform(size=(16, 3, 4, 4)).astype(np.float32)
SURE = tasks.multilabel("tags", 10, probabilities=True)
TASKS = [tasks.classification("kind", 4), tasks.multilabel("tags", 10), tasks.segmentation("seg", 3)]


class Net(nn.Module):
    """Three heads; ``end`` says what their last layers are."""

    def __init__(self, end, scale):
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.tags = (nn.Sequential(nn.Linear(48, 32), nn.Tanh(), nn.Linear(32, k)) for k in (4, 10))
        self.seg = nn.Conv2d(3, 3, 3, padding=1)
        self.end, self.scale = end, scale
        self.softmax, self.sigmoid = nn.Softmax(1), nn.Sigmoid()

    def forward(self, x):
        flat = 4 * (x.flatten(1) - 0.5)
        kind, tags, seg = (self.scale * out for out in (self.kind(flat), self.tags(flat), self.seg(4 * (x - 0.5))))
        if self.end == "modules":
            kind, tags, seg = self.softmax(kind), self.sigmoid(tags), self.softmax(seg)
        if self.end == "functions":
            kind, tags, seg = kind.softmax(dim=1), torch.sigmoid(tags), nn.functional.softmax(seg, 1)
        if self.end == "hidden":  # what a last layer returned is not what the net returns
            kind, tags, seg = (1 * out for out in (kind.softmax(1), tags.sigmoid(), seg.softmax(1)))
        return {"kind": kind, "tags": tags, "seg": seg}


def labels(scale):
    with torch.no_grad():
        raw = Net("logits", scale)(torch.tensor(X))
    return {"kind": raw["kind"].argmax(1).numpy(), "tags": (raw["tags"] > 0).int().numpy(),
            "seg": raw["seg"].argmax(1).numpy()}  # fmt: skip


def attacked(end, scale, make=WorstTaskPGD, told=TASKS):
    estimator = PyTorchMultiTaskEstimator(Net(end, scale), told, (3, 4, 4), clip_values=(0, 1), device_type="cpu")
    return make(estimator, eps=0.03, max_iter=5, verbose=False).generate(X, labels(scale))


@pytest.mark.parametrize("scale", [1, 30, 1000])
@pytest.mark.parametrize("end", ["modules", "functions"])
def test_a_last_layer_changes_nothing(end, scale):
    np.testing.assert_array_equal(attacked(end, scale), attacked("logits", scale))


@pytest.mark.parametrize("end", ["modules", "functions"])
def test_torchattacks_sees_the_same(end):
    x, y = torch.tensor(X), labels(1)

    def run(which):
        return TorchPGD(Net(which, 1), TASKS, eps=0.03, alpha=0.01, steps=3, random_start=False)(x, y)

    assert torch.equal(run(end), run("logits"))


def test_probabilities_are_attacked_in_log_space_with_one_warning():
    with pytest.warns(AttackWarning) as caught:
        found = attacked("hidden", 3, told=[TASKS[0], SURE, TASKS[2]])
    assert len(caught) == 1
    text = str(caught[0].message)
    assert "task(s) ['kind', 'seg', 'tags'] is probabilities" in text and "no gradient is left" not in text
    np.testing.assert_allclose(found, attacked("logits", 3), atol=1e-6)


def test_how_many_samples_have_no_gradient_left_is_told():
    """A softmax is exactly 0 or 1 where its logits are 104 apart: e^-104 is below the least float32."""
    scale = 300
    with torch.no_grad():
        raw = Net("logits", scale)(torch.tensor(X))
        double = raw["kind"].double().softmax(1)
    two = raw["kind"].topk(2, 1).values
    lost = int((two[:, 0] - two[:, 1] > 104).sum())
    assert 0 < lost < 16 and bool((double.amax(1) > 0.5).all())
    with pytest.warns(AttackWarning, match=f"For {lost} of 16 sample.s. of task 'kind'.*no gradient is left"):
        attacked("hidden", scale, MultiTaskPGD, [TASKS[0], SURE, TASKS[2]])


def test_outputs_that_may_be_either_are_told():
    with pytest.warns(AttackWarning) as caught:
        attacked("hidden", 3)
    texts = [str(one.message) for one in caught]
    assert any("All outputs of the task(s) ['tags'] lie in [0, 1]" in text for text in texts) and len(texts) == 2


def test_the_option_says_what_the_values_do_not():
    three = [tasks.multilabel("tags", 3)]
    few, sure = three[0], tasks.multilabel("tags", 3, probabilities=True)
    output, target = torch.tensor([[0.2, 0.9, 0.4]]), few.targets(np.array([[1, 1, 0]]))
    torch.testing.assert_close(few.check_output(output, target), output)
    torch.testing.assert_close(sure.check_output(output, target).sigmoid(), output)
    assert few.decode(output).tolist() == [[1, 1, 1]] and sure.decode(output).tolist() == [[0, 1, 0]]
    never = tasks.classification("kind", 2, probabilities=False)
    simplex, kind = torch.tensor([[0.25, 0.75]]), never.targets(np.array([1]))
    torch.testing.assert_close(never.check_output(simplex, kind), simplex)
    torch.testing.assert_close(tasks.classification("kind", 2).check_output(simplex, kind), simplex.log())
    with pytest.raises(TypeError, match="`probabilities` should be None or a bool. Found 1"):
        tasks.segmentation("seg", 2, probabilities=1)


def test_losses_of_probabilities_are_those_of_their_logits():
    logits = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    task = tasks.classification("kind", 4)
    target = task.targets(np.arange(5) % 4)
    one = task.loss(task.check_output(logits, target), target)
    other = task.loss(task.check_output(logits.softmax(1), target), target)
    torch.testing.assert_close(one, other)
    slopes = [torch.autograd.grad(loss.sum(), logits, retain_graph=True)[0] for loss in (one, other)]
    torch.testing.assert_close(*slopes)


def test_logits_are_never_taken_for_probabilities_and_mates_do_not_matter():
    task = tasks.classification("kind", 3)
    output = torch.tensor([[0.2, 0.3, 0.5], [0.2, 0.3, 0.6], [-0.1, 0.6, 0.5], [float("nan"), 0.0, 0.0]])
    target = task.targets(np.zeros(4, int))
    found = task.check_output(output, target)
    torch.testing.assert_close(found[0], output[0].log())
    assert torch.equal(found[1:3], output[1:3])
    for i in range(3):
        assert torch.equal(task.check_output(output[i : i + 1], target[i : i + 1])[0], found[i])


@pytest.mark.parametrize("shape", [(70,), (70, 1), (1, 70), (1, 7, 10)])
def test_labels_are_recognised_in_any_shape(shape):
    """At least 64 numbers a sample, all of them in [0, 1]."""
    values = torch.linspace(0, 1, 70).reshape(shape)
    expected = [True] if shape[0] == 1 else [False] * 70
    assert losses.is_probability(values).tolist() == expected
    assert losses.is_probability(values - 0.01).tolist() == [False] * shape[0]
    assert losses.is_probability(values, least=1).all()


def test_a_network_without_a_last_layer_is_watched_once():
    calls = []

    class Counting(nn.Module):
        def forward(self, x):
            calls.append(torch.overrides._get_current_function_mode() is not None)
            return {"kind": x}

    network = BeforeActivation(Counting(), [tasks.classification("kind", 2)])
    for _ in range(3):
        network(torch.zeros(1, 2))
    assert calls == [True, False, False]


def test_a_softmax_over_another_axis_is_left_alone():
    network = BeforeActivation(lambda x: {"seg": x.softmax(-1)}, [tasks.segmentation("seg", 2)])
    x = torch.rand(1, 2, 3, 4)
    torch.testing.assert_close(network(x)[0], x.softmax(-1))


class Head(torch.nn.Module):
    """Outputs of one logit that lie in [0, 1] by chance, made in several ways; "sigmoid" are probabilities."""

    def __init__(self, way):
        super().__init__()
        self.way, self.linear = way, torch.nn.Linear(12, 2)
        self.conv = torch.nn.Conv2d(3, 2, 2)
        with torch.no_grad():
            for layer in (self.linear, self.conv):
                layer.weight.mul_(0.01)
                layer.bias.fill_(0.5)

    def forward(self, x):
        flat = x[:, :, :2, :2].flatten(1)
        found = {
            "linear": lambda: self.linear(flat),
            "product": lambda: flat @ self.linear.weight.T + self.linear.bias,
            "convolution": lambda: self.conv(x[:, :, :2, :2])[:, :, 0, 0],
            "sigmoid": lambda: torch.sigmoid(self.linear(flat)) * 1.0,
            "clamp": lambda: self.linear(flat).clamp(0, 1),
        }[self.way]()
        return {"a": found[:, 0], "b": found[:, 1:]}


@pytest.mark.parametrize("way", ["linear", "product", "convolution", "sigmoid", "clamp", "scripted"])
@pytest.mark.parametrize("start", [False, True])
def test_a_linear_head_is_never_told_that_it_returns_probabilities(way, start):
    net = Head("sigmoid" if way == "scripted" else way)
    if way == "scripted":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch: TorchScript is old, but people have it
            net = torch.jit.trace(net, torch.rand(16, 3, 2, 2), strict=False)
    x = torch.rand(16, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    y = {"a": torch.arange(16) % 2, "b": torch.arange(16)[:, None] % 2}
    attack = TorchPGD(net, [tasks.binary("a"), tasks.binary("b")], eps=0.01, steps=2, random_start=start)
    if way in ("sigmoid", "clamp", "scripted"):
        with pytest.warns(AttackWarning, match=r"outputs of the task\(s\) \['a', 'b'\] lie in \[0, 1\]"):
            attack(x, y)
    else:
        attack(x, y)
