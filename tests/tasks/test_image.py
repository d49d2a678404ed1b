"""Dense maps of any number of channels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchmetrics
from torch import nn

import art_mtl.torchattacks as ta
from art_mtl import losses, tasks
from art_mtl.core.objectives.population import relative_degradation
from art_mtl.metrics import describe_metric, read_metric

NAN = float("nan")


def case(channels=3, shape=(13, 12), n=6):
    torch.manual_seed(0)
    y = torch.rand(n, channels, *shape)
    return y + 0.1 * torch.randn_like(y), y


def values(task, output, y):
    """The metric from statistics, and from the torchmetrics class, in two parts."""
    target = task.targets(y)
    output = task.check_output(output, target)
    metric = task.metric.torchmetric()
    for part in (slice(0, 4), slice(4, None)):
        metric.update(*task.metric_arguments(output[part], target[part]))
    known = read_metric(describe_metric(task.metric))
    statistics = task.statistics(output, target)
    assert known.value(statistics.sum(0)) == task.metric.value(statistics.sum(0))
    return task.metric.value(statistics.sum(0)).item(), metric.compute().item()


ORACLES = {
    "mae": lambda r: torchmetrics.MeanAbsoluteError(),
    "psnr": lambda r: torchmetrics.image.PeakSignalNoiseRatio(data_range=r),
    "ssim": lambda r: torchmetrics.image.StructuralSimilarityIndexMeasure(data_range=r),
}


@pytest.mark.parametrize("data_range", [1.0, 255])
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("name", ORACLES)
def test_the_metric_is_that_of_torchmetrics(name, channels, data_range):
    output, y = (data_range * t for t in case(channels))
    oracle = ORACLES[name](float(data_range))
    oracle.update(output, y)
    task = tasks.image("t", channels, metric=name, data_range=data_range)
    assert values(task, output, y) == pytest.approx([oracle.compute().item()] * 2, rel=1e-5)
    target = task.targets(y)
    each = [ORACLES[name](float(data_range)) for _ in y]
    expected = [metric(o[None], t[None]).item() for metric, o, t in zip(each, output, y, strict=True)]
    np.testing.assert_allclose(task.score(output, target), expected, rtol=1e-4)
    np.testing.assert_allclose(task.loss(output, target), (output - y).abs().flatten(1).mean(1), rtol=1e-5)
    assert task.higher_is_better == (name != "mae")


@pytest.mark.parametrize("name", ORACLES)
def test_volumes(name):
    output, y = case(2, (12, 13, 11), 5)
    task = tasks.image("t", 2, metric=name, spatial_dims=3)
    oracle = ORACLES[name](1.0)
    oracle.update(output, y)
    assert values(task, output, y) == pytest.approx([oracle.compute().item()] * 2, rel=1e-4)
    picture = task.picture(task.shown(task.targets(y))[0], (0, 1))
    flat = tasks.image("t", 2)
    np.testing.assert_array_equal(picture, flat.picture(flat.shown(flat.targets(y[:, :, 6]))[0], (0, 1)))


@pytest.mark.parametrize("name", ORACLES)
def test_slopes_are_those_of_finite_differences(name):
    output, y = (t.double() for t in case(2, (8, 7), 2))
    task = tasks.image("t", 2, metric=name)
    target = task.targets(y).map(lambda t: t.double() if t.is_floating_point() else t)
    assert torch.autograd.gradcheck(lambda o: task.score(o, target), output.requires_grad_(True), atol=1e-5)
    assert torch.autograd.gradcheck(lambda o: task.loss(o, target), output, atol=1e-5)


@pytest.mark.parametrize("name", ORACLES)
def test_what_is_not_valid_changes_nothing(name):
    output, y = case()
    y[0, 1, 2:5, 3:9] = NAN
    y[1] = NAN
    task = tasks.image("t", 3, metric=name)
    target = task.targets(y)
    assert target.valid[0].sum() == 13 * 12 - 18 and target.has_label.tolist() == [True, False, *[True] * 4]
    masked = task.targets(np.ma.masked_invalid(y.numpy()))
    assert torch.equal(masked.valid, target.valid) and torch.equal(masked.value, target.value)
    found = values(task, output, y)
    other = output.clone()
    other[0, :, 2:5, 3:9], other[1] = 77.0, NAN
    assert values(task, other, y) == found and math.isfinite(found[0])
    leaf = other.requires_grad_(True)
    (
        task.loss(task.check_output(leaf, target), target) + task.score(task.check_output(leaf, target), target)
    ).sum().backward()
    assert not leaf.grad[0, :, 2:5, 3:9].any() and not leaf.grad[1].any() and leaf.grad[2].any()


def test_metrics_over_valid_places_are_those_of_the_places_alone():
    output, y = case()
    y[0, 1, 2:5, 3:9] = NAN
    known = ~y.isnan().any(1)
    o, t = output.movedim(1, -1)[known], y.movedim(1, -1)[known]
    assert values(tasks.image("t", 3), output, y) == pytest.approx([(o - t).abs().mean().item()] * 2, rel=1e-5)
    psnr = -10 * (o - t).square().mean().log10().item()
    assert values(tasks.image("t", 3, metric="psnr"), output, y) == pytest.approx([psnr] * 2, rel=1e-5)


def test_a_perfect_image():
    y = torch.rand(2, 1, 8, 8)
    target = tasks.image("t", 1).targets(y)
    assert losses.psnr(y, target.value, target.valid, 1.0).tolist() == [100.0, 100.0]
    torch.testing.assert_close(losses.mean_ssim(y, y, target.valid, 1.0), torch.ones(2))


def test_towards_targets_a_ratio_without_bound_degrades_as_its_inverse():
    task = tasks.image("t", 1, metric="psnr")
    degradation = relative_degradation(task, torch.tensor([10.0, 20.0, 40.0]), torch.tensor(10.0), targeted=True)
    assert degradation.tolist() == [0.0, 0.5, 0.75]
    away = relative_degradation(task, torch.tensor([10.0, 5.0]), torch.tensor(10.0))
    assert away.tolist() == [0.0, 0.5]


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("attack", [ta.MultiTaskPGD, ta.WorstTaskPGD])
def test_a_denoiser_is_attacked(name, attack):
    torch.manual_seed(0)
    net = nn.Conv2d(3, 3, 3, padding=1)
    net.weight.data = 0.1 * net.weight.data + torch.eye(3)[..., None, None] * torch.eye(3)[1].outer(torch.eye(3)[1])
    net.bias.data.zero_()
    x = torch.rand(4, 3, 12, 13)
    task = tasks.image("t", 3, metric=name)
    target = task.targets(x)
    before = task.score(task.check_output(net(x), target), target)
    for targeted in (False, True):
        run = attack(net, [task], eps=0.1, steps=5)
        y = x.flip(0) if targeted else x
        if targeted:
            run.set_mode_targeted_by_label(quiet=True)
        aim = task.targets(y)
        before, after = (task.score(task.check_output(net(z), aim), aim) for z in (x, run(x, {"t": y})))
        better = (after > before) == task.higher_is_better
        assert (better if targeted else ~better).all()


def test_pictures():
    colours, flow, grey = tasks.image("t", 3, data_range=255), tasks.image("t", 2), tasks.image("t", 1)
    y = np.full((1, 3, 1, 2), 255.0)
    y[0, :, 0, 1] = [0, 51, NAN]
    assert colours.picture(colours.shown(colours.targets(y))[0]).tolist() == [[[1, 1, 1], [1, 1, 1]]]
    y[0, 2, 0, 1] = 102
    assert colours.picture(colours.shown(colours.targets(y))[0])[0, 1].tolist() == pytest.approx([0, 0.2, 0.4])
    label = flow.shown(flow.targets(np.array([[[[3.0, 0.0]], [[4.0, 0.0]]]])))[0]
    assert flow.limits(label) == (0.0, 5.0) and flow.caption(label) == "all measured"
    np.testing.assert_array_equal(flow.picture(label), grey.picture(np.array([[[5.0, 0.0]]])))
    np.testing.assert_array_equal(grey.picture(np.array([[5.0, 0.0]])), grey.picture(np.array([[[5.0, 0.0]]])))
    assert grey.caption(np.array([[[NAN, 1.0]]])) == "50% not measured" and colours.limits(y[0]) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "`channels`"),
        ({"metric": "mse"}, "`metric` of task 't' should be one of \\['mae', 'psnr', 'ssim'\\]|\\('mae'"),
        ({"data_range": 0}, "`data_range` of task 't' should be positive"),
        ({"data_range": "8"}, "`data_range`"),
        ({"spatial_dims": 4}, "`spatial_dims` of task 't' should be 2"),
    ],
)
def test_arguments_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        tasks.image("t", **{"channels": 3, **options})


def test_bad_labels_and_outputs_are_named():
    task = tasks.image("t", 3)
    with pytest.raises(ValueError, match="'t' should have shape \\(N, 3, H, W\\). Found \\(2, 2, 4, 4\\)"):
        task.targets(np.zeros((2, 2, 4, 4)))
    with pytest.raises(ValueError, match="'t' should be finite"):
        task.targets(np.full((2, 3, 4, 4), np.inf))
    with pytest.raises(ValueError, match="output for task 't' should have shape \\(2, 3, 4, 4\\)"):
        task.check_output(torch.zeros(2, 3, 4, 5), task.targets(np.zeros((2, 3, 4, 4))))
