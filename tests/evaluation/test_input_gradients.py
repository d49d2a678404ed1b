"""Angles between the gradients of the tasks, on models whose gradients are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from art_mtl import MultiTaskLabels, PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MultiTaskPGD
from art_mtl.evaluation import Run, evaluate
from art_mtl.evaluation.input_gradients import cosine_sums, gradient_cosines, loss_gradients, mean_cosines

SLOPES = torch.tensor([[3.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [-2.0, 0.0, 0.0, 1e-20], [0.0, 0.0, 1e-25, 0.0]])
"""Of four linear losses."""
LENGTHS = [3, math.sqrt(2), 2, 1]
EXPECTED = [
    [1, 1 / math.sqrt(2), -1, 0],
    [1 / math.sqrt(2), 1, -1 / math.sqrt(2), 0],
    [-1, -1 / math.sqrt(2), 1, 0],
    [0, 0, 0, 1],
]


class Linear(torch.nn.Module):
    """Outputs that are linear in the inputs, and one that has nothing to do with them."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        found = dict(zip("abcd", (x @ SLOPES.T).unbind(1), strict=True))
        return {**found, "constant": torch.ones(len(x))}


def kinds() -> list[tasks.Task]:
    return [tasks.custom(name, loss=lambda output, target: output) for name in (*"abcd", "constant")]


@pytest.fixture
def estimator() -> PyTorchMultiTaskEstimator:
    return PyTorchMultiTaskEstimator(
        Linear(), tasks=kinds(), input_shape=(4,), clip_values=(0.0, 1.0), device_type="cpu"
    )


def labels(size: int, missing: tuple[int, ...] = ()) -> MultiTaskLabels:
    present = np.array([i not in missing for i in range(size)])
    names = (*"abcd", "constant")
    return MultiTaskLabels({n: np.zeros(size, dtype=np.float32) for n in names}, {"a": present})


def test_linear_losses_have_the_cosines_of_their_slopes(estimator: PyTorchMultiTaskEstimator) -> None:
    """Also where squares of the slopes would be 0 in single precision."""
    x = np.random.default_rng(0).uniform(size=(6, 4)).astype(np.float32)
    found = mean_cosines(
        [cosine_sums(estimator, x[:4], labels(4), 3), None, cosine_sums(estimator, x[4:], labels(2), 3)]
    )
    assert found is not None
    np.testing.assert_allclose([row[:4] for row in found[:4]], EXPECTED, atol=1e-6)
    assert [row[4] for row in found] == list(found[4]) == [None] * 5, "no gradient, no angle"


def test_samples_without_a_label_do_not_count(estimator: PyTorchMultiTaskEstimator) -> None:
    x = np.zeros((3, 4), dtype=np.float32)
    total, count = cosine_sums(estimator, x, labels(3, missing=(1,)), 2)
    assert count[0, :4].tolist() == [2, 2, 2, 2] and count[1:4, 1:4].eq(3).all()
    np.testing.assert_allclose(total[0, 1], 2 / math.sqrt(2), rtol=1e-6)


def test_gradients_that_are_zero_or_not_finite_have_no_angle() -> None:
    first = torch.tensor([[1.0, 0.0], [0.0, 0.0], [math.inf, 0.0], [1.0, 1.0]])
    second = torch.tensor([[[0.0], [2.0]], [[1.0], [1.0]], [[1.0], [1.0]], [[math.nan], [1.0]]])
    found = gradient_cosines([first, second], torch.ones(4, 2, dtype=torch.bool))
    assert found[:, 0, 1].nan_to_num(9).tolist() == [0, 9, 9, 9]
    assert torch.equal(found[:, 0, 1].isnan(), found[:, 1, 0].isnan())


def test_gradients_are_those_of_each_loss_alone(estimator: PyTorchMultiTaskEstimator) -> None:
    x = np.zeros((2, 4), dtype=np.float32)
    found, has_label = loss_gradients(estimator, x, labels(2))
    for gradient, slope in zip(found[:4], SLOPES, strict=True):
        torch.testing.assert_close(gradient, slope.expand(2, 4))
    assert found[4] is None and has_label.all()


def test_no_part_has_any() -> None:
    assert mean_cosines([None, None]) is None


class Rounded(torch.nn.Module):
    """A model through which nothing can be differentiated."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.requires_grad:
            raise RuntimeError("no gradient here")
        return x


class Noise:
    """An attack that asks for no gradient."""

    def generate(self, x, y=None):
        return np.clip(x + 0.1, 0, 1)


def test_a_model_that_cannot_be_differentiated_is_evaluated_all_the_same() -> None:
    estimator = PyTorchMultiTaskEstimator(Rounded(), tasks=[tasks.classification("kind", 4)], input_shape=(4,),
                                          clip_values=(0.0, 1.0), device_type="cpu")  # fmt: skip
    x = np.random.default_rng(0).uniform(size=(4, 4)).astype(np.float32)
    with pytest.warns(RuntimeWarning, match="angles between the tasks' gradients are not known: no gradient here"):
        run = evaluate(estimator, [Noise()], (x, {"kind": x.argmax(1)}), progress=False)
    assert run.results.gradient_cosines is None and "no gradient here" in run.results.warnings[0]


def test_a_stored_run_has_them(tmp_path) -> None:
    kinds = [tasks.regression("sum"), tasks.regression("first")]

    class Net(torch.nn.Module):
        def forward(self, x):
            return [x.sum(1), x[:, 0]]

    estimator = PyTorchMultiTaskEstimator(
        Net(), tasks=kinds, input_shape=(4,), clip_values=(0.0, 1.0), device_type="cpu"
    )
    x = np.random.default_rng(0).uniform(size=(6, 4)).astype(np.float32)
    y = {"sum": x.sum(1) - 0.1, "first": x[:, 0] + 0.1}  # errors of opposite signs: slopes 1 and −e₁
    attack = MultiTaskPGD(estimator, eps=0.1, max_iter=1, verbose=False)
    run = evaluate(estimator, [attack], (x, y), out=tmp_path, chunk=4, progress=False)
    np.testing.assert_allclose(run.results.gradient_cosines, [[1, -0.5], [-0.5, 1]], atol=1e-6)
    assert Run.read(tmp_path).results.gradient_cosines == run.results.gradient_cosines
    (path,) = run.report(tmp_path / "page.html")
    assert "−0.50" in path.read_text(encoding="utf-8")
