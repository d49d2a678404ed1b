"""Metrics whose state grows with the data, and outputs that nothing can be measured of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchmetrics
from sklearn import metrics as sk
from torchmetrics.utilities import dim_zero_mean

from art_mtl import PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MultiTaskPGD
from art_mtl.evaluation import diagnose, evaluate, make_table
from art_mtl.metrics import Metric

X = np.random.default_rng(0).uniform(size=(23, 6)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 2, 23).astype(np.float32)


def _loss(output, target):
    return torch.nn.functional.binary_cross_entropy_with_logits(output[:, 0], target, reduction="none")


def _chance(output, target):
    return torch.sigmoid(output[:, 0] * (2 * target - 1))


def _statistics(output, target, valid):
    """The share of right decisions stands in for the area."""
    right = (output[:, 0] > 0) == (target > 0.5)
    return torch.stack([right & valid, valid], 1).double()


def _value(statistics):
    return statistics[..., 0] / statistics[..., 1].clamp(min=1)


def _arguments(output, target, valid):
    return output[valid, 0].sigmoid(), target[valid].long()


class Ranks(torchmetrics.Metric):
    """The area under the curve by lists without a reduction, as COCO's average precision keeps them; a dict of it."""

    full_state_update = True

    def __init__(self) -> None:
        super().__init__()
        self.add_state("scores", default=[], dist_reduce_fx=None)
        self.add_state("true", default=[], dist_reduce_fx="cat")
        self.add_state("largest", default=torch.tensor(0.0), dist_reduce_fx="max")

    def update(self, scores, true):
        self.scores += list(scores)  # one tensor a sample
        self.true.append(true)
        self.largest = torch.maximum(self.largest, scores.max())

    def compute(self):
        true = torch.cat(self.true) if isinstance(self.true, list) else self.true
        scores = torch.stack(self.scores)
        assert self.largest == scores.max()
        return {"area": torch.tensor(sk.roc_auc_score(true, scores)), "count": torch.tensor(len(true))}


def _area_of_torchmetrics():
    return torchmetrics.classification.BinaryAUROC()


def _task(torchmetric, entry=""):
    metric = Metric(
        name="area", higher_is_better=True, value=_value, torchmetric=torchmetric, statistics=_statistics,
        arguments=_arguments, entry=entry,
    )  # fmt: skip
    return tasks.custom("a", _loss, score=_chance, metric=metric)


def _estimator(task, model=None):
    torch.manual_seed(0)
    model = torch.nn.Linear(6, 1) if model is None else model
    return PyTorchMultiTaskEstimator(model, [task], (6,), clip_values=(0, 1), device_type="cpu")


@pytest.mark.parametrize(("torchmetric", "entry"), [(_area_of_torchmetrics, ""), (Ranks, "area")])
@pytest.mark.parametrize(("chunk", "stored"), [(None, False), (10, False), (10, True)])
def test_a_metric_with_list_states_is_that_of_sklearn(torchmetric, entry, chunk, stored, tmp_path):
    estimator = _estimator(_task(torchmetric, entry))
    attack = MultiTaskPGD(estimator, eps=0.05, max_iter=2, verbose=False)
    store = tmp_path if stored else None
    found = evaluate(estimator, [attack], (X, {"a": Y}), batch_size=4, chunk=chunk, out=store, progress=False).results
    x_adv = attack.generate(X, {"a": Y})
    for value, x in ((found.tasks[0].clean, X), (found.attacks[0].values[0], x_adv)):
        assert value == pytest.approx(sk.roc_auc_score(Y, estimator.predict(x)["a"][:, 0]), abs=1e-6)
    assert found.attacks[0].values[0] < found.tasks[0].clean


def test_what_computes_no_number_is_named():
    for task, shown in ((_task(Ranks), r"a dict of \['area', 'count'\]"), (_task(Ranks, "x"), "a dict of")):
        estimator = _estimator(task)
        attack = MultiTaskPGD(estimator, eps=0.05, max_iter=1, verbose=False)
        with pytest.raises(ValueError, match=f"task 'a' should compute one number, or .* `entry`. Found {shown}"):
            evaluate(estimator, [attack], (X, {"a": Y}), progress=False)


def test_states_are_reduced_as_their_class_declares():
    from art_mtl.evaluation.measure import _reduced

    a, b, c = torch.tensor([1.0, 5.0]), torch.tensor([3.0, 1.0]), torch.tensor([2.0, 0.0])
    assert _reduced([[a], [b, c]], None) == [a, b, c]
    assert _reduced([a, b, c], dim_zero_mean).tolist() == [2.0, 2.0]
    assert _reduced([a, b, c], lambda stacked: stacked.amax(0)).tolist() == [3.0, 5.0]
    assert _reduced([a, b], None).tolist() == [[1.0, 5.0], [3.0, 1.0]]


# --- metrics that are not finite ---


class Ratio(torchmetrics.MeanMetric):
    """Finite outputs may have a metric that is not: here where the mean is above a half."""

    def compute(self):
        mean = super().compute()
        return torch.where(mean > 0.5, torch.nan, mean)


def _evaluated(bias, eps):
    metric = Metric(name="ratio", higher_is_better=False, value=_value, torchmetric=Ratio, statistics=_statistics,
                    arguments=lambda output, target, valid: (output[:, 0][valid],))  # fmt: skip
    model = torch.nn.Linear(6, 1)
    torch.nn.init.constant_(model.weight, 1.0)
    torch.nn.init.constant_(model.bias, bias)
    task = tasks.custom("a", lambda output, target: output[:, 0] - target, metric=metric)
    estimator = _estimator(task, model)
    attack = MultiTaskPGD(estimator, eps=eps, max_iter=2, verbose=False)
    return evaluate(estimator, [attack], (np.full((8, 6), 0.5, np.float32), {"a": np.zeros(8)}), progress=False).results


def test_a_metric_that_is_not_finite_under_attack_is_told():
    with pytest.warns(RuntimeWarning, match="metric of task 'a' is not finite under attack 'equal'; Δ_MTL and Δ_Wor"):
        found = _evaluated(-2.9, 0.2)
    assert found.tasks[0].clean == pytest.approx(0.1) and found.attacks[0].values == (None,)
    table = make_table(found)
    assert table.rows[-1].cells[2].text == "not finite" and "equal leaves out a, whose metric" in table.notes[0]


def test_a_metric_that_is_not_finite_on_clean_inputs_is_an_error():
    with pytest.raises(ValueError, match="ratio of task 'a' should be finite on the clean inputs. Found nan"):
        _evaluated(-1.0, 0.2)


# --- outputs that are not finite on clean inputs ---


class Poisoned(torch.nn.Module):
    """Logits and a depth; those of one image are not finite."""

    def __init__(self, task, value):
        super().__init__()
        self.shift, self.task, self.value = torch.nn.Parameter(torch.zeros(())), task, value

    def forward(self, x):
        outputs = {"seg": 5 * (x - self.shift), "depth": x.mean(1, keepdim=True) + self.shift}
        bad = (x[:, :1, :1, :1] > 0.999).expand_as(outputs[self.task])
        return {**outputs, self.task: torch.where(bad, self.value, outputs[self.task])}


@pytest.mark.parametrize("run", ["evaluate", "diagnose"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("task", ["seg", "depth"])
def test_outputs_that_are_not_finite_on_clean_inputs_are_an_error(task, value, run):
    """Before, such an image had the same metric before an attack and after it: Δ was 0, as of a robust model."""
    x = np.random.default_rng(0).uniform(0.1, 0.9, size=(9, 3, 4, 5)).astype(np.float32)
    x[7, 0, 0, 0] = 1
    y = {"seg": x.argmax(1), "depth": x.mean(1) + 0.1}
    jobs = [tasks.segmentation("seg", 3), tasks.depth("depth")]
    estimator = PyTorchMultiTaskEstimator(Poisoned(task, value), jobs, (3, 4, 5), clip_values=(0, 1), device_type="cpu")
    attack = MultiTaskPGD(estimator, eps=0.05, max_iter=1, verbose=False)
    with pytest.raises(ValueError, match=f"task {task!r} should be finite on the clean inputs.*first in sample 7"):
        if run == "evaluate":
            evaluate(estimator, [attack], (x, y), batch_size=2, chunk=6, progress=False)
        else:
            diagnose(estimator, attack, x, y, batch_size=2)


def test_a_sample_without_a_label_may_have_any_output():
    x = np.random.default_rng(0).uniform(0.1, 0.9, size=(9, 3, 4, 5)).astype(np.float32)
    x[7, 0, 0, 0] = 1
    y = {"seg": x.argmax(1), "depth": (x.mean(1) + 0.1, np.arange(9) != 7)}
    jobs = [tasks.segmentation("seg", 3), tasks.depth("depth")]
    model = Poisoned("depth", float("nan"))
    estimator = PyTorchMultiTaskEstimator(model, jobs, (3, 4, 5), clip_values=(0, 1), device_type="cpu")
    attack = MultiTaskPGD(estimator, eps=0.05, max_iter=1, verbose=False)
    with pytest.warns(RuntimeWarning):
        found = evaluate(estimator, [attack], (x, y), progress=False).results
    assert found.tasks[1].clean == pytest.approx(0.1, abs=1e-5)
