from __future__ import annotations

import numpy as np
import pytest
import torch

from art_mtl import losses


def _softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max())
    return e / e.sum()


@pytest.fixture
def logits():
    return torch.randn(3, 5, 2, 4, dtype=torch.float64), torch.randint(5, (3, 2, 4))


def _places(shape):
    return np.ndindex(*shape)


def test_cross_entropy_and_probability_are_those_of_the_softmax(logits):
    output, target = logits
    ce, p = losses.cross_entropy(output, target), losses.true_class_probability(output, target)
    assert ce.shape == p.shape == target.shape
    for b, i, j in _places(target.shape):
        expected = _softmax(output[b, :, i, j].numpy())[target[b, i, j]]
        assert p[b, i, j].item() == pytest.approx(expected, rel=1e-12)
        assert ce[b, i, j].item() == pytest.approx(-np.log(expected), rel=1e-12)


def test_cross_entropy_of_one_label_an_image():
    output = torch.tensor([[0.0, 0.0], [0.0, np.log(3.0)]], dtype=torch.float64)
    value = losses.cross_entropy(output, torch.tensor([0, 1]))
    torch.testing.assert_close(value, torch.tensor([np.log(2.0), np.log(4 / 3)], dtype=torch.float64))


def test_margin_against_sorting(logits):
    output, target = logits
    found = losses.margin(output, target)
    for b, i, j in _places(target.shape):
        z = output[b, :, i, j].tolist()
        true = z.pop(target[b, i, j])
        assert found[b, i, j].item() == true - sorted(z)[-1]


def test_margin_is_positive_exactly_where_argmax_is_right(logits):
    output, target = logits
    assert torch.equal(losses.margin(output, target) > 0, output.argmax(1) == target)


@pytest.mark.parametrize(("classes", "places"), [(2, ()), (13, (4, 6)), (300, (5,)), (1000, ())])
def test_predicted_class_is_the_first_greatest(classes, places):
    output = torch.randint(0, 2 + classes // 4, (7, classes, *places)).float()  # many ties
    expected = torch.from_numpy(output.numpy().argmax(1))  # NumPy promises the first
    assert torch.equal(losses.predicted_class(output), expected)
    if len(places) == 2:
        output = output.contiguous(memory_format=torch.channels_last)
        assert torch.equal(losses.predicted_class(output), expected)


@pytest.mark.parametrize("values", ["ties", "infinities"])
@pytest.mark.parametrize(("classes", "places"), [(2, ()), (5, (4, 6)), (300, (3,))])
def test_margin_and_class_in_one_pass_are_those_of_plain_python(values, classes, places):
    output = torch.randint(0, 2 + classes // 4, (7, classes, *places)).double()
    if values == "infinities":
        output[torch.rand_like(output) < 0.6] = -np.inf
        output[torch.rand_like(output) < 0.1] = np.inf
    target = torch.randint(classes, (7, *places))
    margin, predicted = losses.margin_and_class(output, target)
    for b, *at in _places(target.shape):
        z, true = output[(b, slice(None), *at)].tolist(), int(target[(b, *at)])
        others = [value for c, value in enumerate(z) if c != true]
        assert predicted[(b, *at)] == z.index(max(z))
        np.testing.assert_equal(margin[(b, *at)].item(), z[true] - max(others))


def test_margin_leads_its_gradient_to_the_true_class_and_the_first_of_the_greatest_others():
    output = torch.randint(0, 3, (5, 6, 2, 3)).double().requires_grad_()
    target, slope = torch.randint(6, (5, 2, 3)), torch.randn(5, 2, 3, dtype=torch.float64)
    losses.margin(output, target).backward(slope)
    expected = torch.zeros_like(output)
    for b, i, j in _places(target.shape):
        z, true = output[b, :, i, j].tolist(), int(target[b, i, j])
        rival = max((c for c in range(6) if c != true), key=lambda c: (z[c], -c))
        expected[b, true, i, j], expected[b, rival, i, j] = slope[b, i, j], -slope[b, i, j]
    assert torch.equal(output.grad, expected)


def test_the_class_is_0_where_a_logit_is_not_a_number():
    output = torch.tensor([[1.0, 2.0, 3.0]]).repeat(3, 1)
    output[torch.arange(3), torch.arange(3)] = float("nan")
    for true in range(3):
        margin, predicted = losses.margin_and_class(output, torch.full((3,), true))
        assert predicted.tolist() == [0, 0, 0] and margin.isnan().all()


def test_margin_where_all_other_classes_are_ruled_out():
    inf = float("inf")
    output = torch.tensor([[2.0, -inf, -inf], [-inf, 1.0, -inf], [-inf, -inf, 0.5]])
    assert losses.margin(output, torch.arange(3)).tolist() == [inf] * 3
    assert losses.margin(output, torch.tensor([1, 0, 0])).tolist() == [-inf] * 3


def test_a_logit_that_is_not_a_number_is_not_hidden():
    nan = float("nan")
    output = torch.tensor([[1.0, nan, 2.0], [nan, 1.0, 2.0], [1.0, 2.0, nan]])
    assert losses.margin(output, torch.zeros(3, dtype=torch.long)).isnan().all()
    assert not losses.margin(output.nan_to_num(0.0), torch.zeros(3, dtype=torch.long)).isnan().any()


def test_margin_gradient_is_plus_one_minus_one():
    output = torch.tensor([[1.0, 4.0, 2.0]], requires_grad=True)
    losses.margin(output, torch.tensor([1])).sum().backward()
    assert output.grad.tolist() == [[0.0, 1.0, -1.0]]


def test_binary_losses_are_those_of_the_logistic_function():
    output, target = torch.randn(4, 3, dtype=torch.float64), torch.randint(2, (4, 3)).double()
    p = 1 / (1 + np.exp(-output.numpy()))
    y = target.numpy()
    np.testing.assert_allclose(
        losses.binary_cross_entropy(output, target), -(y * np.log(p) + (1 - y) * np.log(1 - p)), rtol=1e-12
    )
    np.testing.assert_allclose(losses.true_label_probability(output, target), np.where(y == 1, p, 1 - p), rtol=1e-12)
    np.testing.assert_array_equal(losses.binary_margin(output, target), np.where(y == 1, output, -output))


def test_absolute_errors_mean_and_sum_over_channels():
    output, target = torch.randn(2, 3, 4, 5, dtype=torch.float64), torch.randn(2, 3, 4, 5, dtype=torch.float64)
    difference = np.abs(output.numpy() - target.numpy())
    np.testing.assert_allclose(losses.absolute_error(output, target), difference.mean(1), rtol=1e-12)
    np.testing.assert_allclose(losses.l1_distance(output, target), difference.sum(1), rtol=1e-12)
    torch.testing.assert_close(losses.l1_distance(output, target), 3 * losses.absolute_error(output, target))


@pytest.mark.parametrize("degrees", [0.0, 1e-3, 0.1, 1.0, 30.0, 90.0, 179.0, 180.0])
def test_angles_of_known_vectors(degrees):
    t = np.deg2rad(degrees)
    a = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    b = 7 * torch.tensor([[np.cos(t), np.sin(t), 0.0]], dtype=torch.float64)
    assert losses.angle(a, b).item() == pytest.approx(degrees, abs=1e-9)
    assert losses.angle(a.float(), b.float()).item() == pytest.approx(degrees, abs=1e-4)


def test_angle_does_not_depend_on_length():
    a, b = torch.randn(2, 3, 4, 4, dtype=torch.float64), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(losses.angle(a, b), losses.angle(5 * a, b / 7))


@pytest.mark.parametrize("degrees", [0.001, 0.1, 1.0, 90.0, 179.9])
def test_slope_of_the_angle_is_one_however_small_it_is(degrees):
    t = torch.tensor(np.deg2rad(degrees), requires_grad=True)
    output = torch.stack([torch.cos(t), torch.sin(t), torch.zeros_like(t)])[None]
    losses.angle(output, torch.tensor([[1.0, 0.0, 0.0]], dtype=output.dtype)).sum().backward()
    assert t.grad.item() == pytest.approx(180 / np.pi, rel=1e-6)


@pytest.mark.parametrize("degrees", [1e-3, 1.0, 60.0, 179.0])
def test_the_slope_of_the_angle_in_closed_form_is_that_of_its_formula(degrees):
    """The formula is differentiated by torch, in float64; at small angles float32 keeps its digits."""
    label = torch.nn.functional.normalize(torch.randn(2, 3, 4, 5, dtype=torch.float64), dim=1)
    across = torch.nn.functional.normalize(torch.linalg.cross(torch.randn_like(label), label, dim=1), dim=1)
    turn = np.deg2rad(degrees)
    output = (3 * (np.cos(turn) * label + np.sin(turn) * across)).requires_grad_(True)
    a = torch.nn.functional.normalize(output, dim=1)
    halves = torch.atan2(torch.linalg.vector_norm(a - label, dim=1), torch.linalg.vector_norm(a + label, dim=1))
    (expected,) = torch.autograd.grad(torch.rad2deg(2 * halves).sum(), output)
    (found,) = torch.autograd.grad(losses.angle(output, label).sum(), output)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    single = output.detach().float().requires_grad_(True)
    (found,) = torch.autograd.grad(losses.angle(single, label.float()).sum(), single)
    torch.testing.assert_close(found.double(), expected, rtol=0.02, atol=0.02 if degrees < 1 else 1e-3)


_LABEL = torch.tensor([[0.0], [0.6], [0.8]])


@pytest.mark.parametrize("function", [losses.absolute_error, losses.l1_distance, losses.angle])
@pytest.mark.parametrize("output", [_LABEL, -_LABEL, torch.zeros(3, 1)], ids=["aligned", "opposite", "zero"])
@pytest.mark.parametrize("target", [_LABEL, torch.zeros(3, 1)], ids=["label", "no label"])
def test_gradients_are_finite_at_the_corners(function, output, target):
    leaf = output[None].clone().requires_grad_(True)
    value = function(leaf, target[None])
    value.sum().backward()
    assert torch.isfinite(value).all() and torch.isfinite(leaf.grad).all()


@pytest.mark.parametrize("function", [losses.cross_entropy, losses.true_class_probability, losses.margin])
def test_class_losses_are_finite_at_huge_logits(function):
    leaf = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]], requires_grad=True)
    value = function(leaf, torch.tensor([0, 0]))
    value.sum().backward()
    assert torch.isfinite(value).all() and torch.isfinite(leaf.grad).all()


def test_masked_mean_divides_each_sample_by_its_own_valid_places():
    values, valid = torch.randn(6, 3, 4, dtype=torch.float64), torch.rand(6, 3, 4) < 0.5
    valid[2] = False
    expected = [v[m].mean() if m.any() else 0.0 for v, m in zip(values.numpy(), valid.numpy(), strict=True)]
    np.testing.assert_allclose(losses.masked_mean(values, valid), expected, rtol=1e-12)


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 3, 4)])
def test_masked_mean_with_nothing_valid_is_zero_with_zero_gradient(shape):
    values = torch.randn(shape, requires_grad=True)
    valid = torch.zeros(shape, dtype=torch.bool)
    valid[1] = True
    mean = losses.masked_mean(values, valid)
    mean.sum().backward()
    assert mean[0].item() == 0.0
    assert not values.grad[0].any()
    torch.testing.assert_close(values.grad[1].sum(), torch.tensor(1.0))


def test_masked_mean_never_reads_what_is_not_valid():
    values = torch.tensor([[1.0, float("nan")], [float("inf"), 3.0]], requires_grad=True)
    mean = losses.masked_mean(values, torch.tensor([[True, False], [False, True]]))
    mean.sum().backward()
    assert mean.tolist() == [1.0, 3.0]
    assert values.grad.tolist() == [[1.0, 0.0], [0.0, 1.0]]
