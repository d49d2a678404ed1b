"""A kind of another package: ragged labels, nested outputs. What it takes is in this file alone."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torchmetrics
from torch import Tensor, nn
from torchmetrics.utilities import dim_zero_cat

import art_mtl.torchattacks as ta
from art_mtl import PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import (
    MultiTaskAutoAttack,
    MultiTaskPatch,
    MultiTaskPGD,
    StealthyMultiTaskPGD,
    UniversalMultiTaskPGD,
    WorstTaskPGD,
)
from art_mtl.data.sources import as_source
from art_mtl.evaluation import Callback, diagnose, evaluate
from art_mtl.evaluation.report.gallery import Gallery
from art_mtl.evaluation.report.write import Background, write_report
from art_mtl.metrics import Metric
from art_mtl.structure import map_tensors, tensors_in
from art_mtl.tasks import RaggedTarget, Task

SLOTS = 4


class Found(torchmetrics.Metric):
    """Share of the points that are found, by lists of states of every update."""

    def __init__(self) -> None:
        super().__init__()
        self.add_state("hits", [], dist_reduce_fx="cat")
        self.add_state("points", [], dist_reduce_fx=None)

    def update(self, hits: Tensor, points: Tensor) -> None:
        self.hits.append(hits)
        self.points.append(points)

    def compute(self) -> Tensor:
        return dim_zero_cat(self.hits).sum() / dim_zero_cat(self.points).sum()


def _value(statistics: Tensor) -> Tensor:
    return statistics[..., 0] / statistics[..., 1].clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class Points(Task):
    """Points of an image, as many as there are: each should lie near one of the predicted points."""

    kind: ClassVar[str] = "points"
    radius: float

    @cached_property
    def metric(self) -> Metric:
        return Metric(name="found", higher_is_better=True, value=_value, torchmetric=Found, scale=100.0)

    @property
    def score_floor(self) -> float:
        return 0.01

    @property
    def loss_floor(self) -> float:
        return 0.01

    def targets(self, y: Any, present: Any = None) -> RaggedTarget:
        """One array ``(M, 2)`` a sample, rows of NaN left out; or one raw output a sample."""
        values = [self._points(row) for row in y]
        known = torch.ones(len(values), dtype=torch.bool) if present is None else torch.as_tensor(present)
        return RaggedTarget(tuple(values), known & torch.tensor([len(v) > 0 for v in values]))

    def _points(self, row: Any) -> Tensor:
        if row is None:
            return torch.zeros(0, 2)
        row = self._certain(map_arrays(row)) if isinstance(row, Mapping) else torch.as_tensor(row).float()
        return row[~row.isnan().any(1)]

    def decode(self, output: Any) -> list[Tensor]:
        return [self._certain(self.slice_output(output, i)) for i in range(len(self._predicted(output)))]

    @staticmethod
    def _certain(sample: Any) -> Tensor:
        """The points whose score is great enough: on these images two or three."""
        return sample["xy"][sample["rest"][0] > -0.15]

    @staticmethod
    def _predicted(output: Any) -> Sequence[Tensor]:
        """The predicted points of each sample."""
        return output["xy"]

    def loss(self, output: Any, target: Any) -> Tensor:
        found = [
            self._distances(o, t).square().sum() / max(len(t), 1)
            for o, t in zip(self._predicted(output), target.values, strict=True)
        ]
        return torch.where(target.has_label, torch.stack(found), 0.0)

    def score(self, output: Any, target: Any) -> Tensor:
        near = [torch.exp(-self._distances(o, t) / self.radius).sum() / max(len(t), 1)
                for o, t in zip(self._predicted(output), target.values, strict=True)]  # fmt: skip
        return torch.where(target.has_label, torch.stack(near), 0.0)

    def statistics(self, output: Any, target: Any) -> Tensor:
        rows = []
        for o, t, known in zip(self._predicted(output), target.values, target.has_label, strict=True):
            hits = (self._distances(o.detach(), t) < self.radius).sum()
            rows.append(torch.stack([hits, torch.tensor(len(t))]) * known)
        return torch.stack(rows).double()

    def metric_arguments(self, output: Any, target: Any) -> tuple[Tensor, Tensor]:
        return self.statistics(output, target).unbind(1)

    @staticmethod
    def _distances(output: Tensor, points: Tensor) -> Tensor:
        """To the nearest prediction, ``(M,)``."""
        return (output[None] - points[:, None]).square().sum(2).add(1e-12).sqrt().amin(1)


class Listed(Points):
    """The same, of a model that returns a list of one nest a sample, as detectors do."""

    def slice_output(self, output: Any, rows: Any) -> Any:
        return [output[i] for i in rows] if isinstance(rows, Tensor) else output[rows]

    def join_outputs(self, parts: Sequence[Any]) -> Any:
        return [sample for part in parts for sample in part]

    def check_size(self, output: Any, size: int) -> None:
        assert len(output) == size

    def finite(self, output: Any) -> Tensor:
        return torch.stack([torch.stack([t.isfinite().all() for t in tensors_in(one)]).all() for one in output])

    @staticmethod
    def _predicted(output: Any) -> Sequence[Tensor]:
        return [sample["xy"] for sample in output]


def map_arrays(nest: Any) -> Any:
    """A nest of arrays as one of tensors."""
    return {"xy": torch.as_tensor(nest["xy"]), "rest": [torch.as_tensor(nest["rest"][0]), nest["rest"][1]]}


class Net(nn.Module):
    """A class, and a nest: four points and a score of each, the latter used by labels of its own making only.

    With ``most``, its memory holds so many samples at once.
    """

    def __init__(self, listed: bool = False, most: int = 1000) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.listed, self.most = listed, most
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.Tanh())
        self.kind, self.points, self.score = nn.Linear(16, 3), nn.Linear(16, 2 * SLOTS), nn.Linear(16, SLOTS)

    def forward(self, x: Tensor) -> dict[str, Any]:
        if len(x) > self.most:
            raise RuntimeError("out of memory")
        hidden = self.trunk(x)
        nest: Any = {"xy": 4 * self.points(hidden).view(-1, SLOTS, 2), "rest": [self.score(hidden), "cosine"]}
        if self.listed:
            nest = [{"xy": nest["xy"][i], "rest": [nest["rest"][0][i], "cosine"]} for i in range(len(x))]
        return {"kind": 3 * self.kind(hidden), "points": nest}


TASK = Points(name="points", radius=0.3)
LISTED = Listed(name="points", radius=0.3)
KINDS = pytest.mark.parametrize("task", [TASK, LISTED], ids=["batch first", "a list"])


def estimator_of(task: Task, most: int = 1000) -> PyTorchMultiTaskEstimator:
    net = Net(isinstance(task, Listed), most)
    return PyTorchMultiTaskEstimator(
        net, [tasks.classification("kind", 3), task], (3, 4, 4), clip_values=(0, 1), device_type="cpu"
    )


@pytest.fixture
def estimator():
    return estimator_of(TASK)


@pytest.fixture
def data(estimator):
    """Points on the model's own predictions: 0 to 3 an image."""
    x = np.random.default_rng(0).uniform(size=(6, 3, 4, 4)).astype(np.float32)
    with torch.no_grad():
        out = estimator.model(torch.tensor(x))
    points = np.full((6, 5, 2), np.nan, np.float32)
    for i, count in enumerate([3, 1, 0, 2, 3, 1]):
        points[i, :count] = out["points"]["xy"][i, :count].numpy() + 0.01
    return x, {"kind": out["kind"].argmax(1).numpy(), "points": points}


@pytest.fixture
def ragged(data):
    """Seven images, the last of which has two points; a column of one array a sample, and None."""
    x, y = data
    points = [row[~np.isnan(row).any(1)] for row in y["points"]]
    points = [p if len(p) else None for p in points]
    return np.concatenate([x, x[3:4]]), {"kind": np.append(y["kind"], y["kind"][3]), "points": [*points, points[3]]}


UNLABELLED = r"'points' has no valid label on sample\(s\) \[2\]"


def test_targets_are_indexed_mapped_and_moved(data):
    target = TASK.targets(data[1]["points"])
    assert len(target) == 6 and target.has_label.tolist() == [True, True, False, True, True, True]
    assert [len(v) for v in target[torch.tensor([3, 0])].values] == [2, 3]
    assert [len(v) for v in target[target.has_label].values] == [3, 1, 2, 3, 1]
    assert [len(v) for v in target[1:4].to("cpu").values] == [1, 0, 2]
    assert target.map(lambda t: t.double() if t.is_floating_point() else t).values[0].dtype == torch.float64
    with pytest.raises(ValueError, match="`has_label` should be boolean of shape \\(6,\\)"):
        RaggedTarget(target.values, target.has_label[:2])


def test_the_task_is_a_value():
    assert Points(name="points", radius=0.3) == TASK == copy.deepcopy(TASK) == pickle.loads(pickle.dumps(TASK))
    assert hash(TASK) == hash(copy.deepcopy(TASK)) and Points(name="points", radius=0.4) != TASK


def test_nests_are_cut_and_joined(estimator, data):
    output = TASK.select(estimator.model(torch.tensor(data[0])), 1, 2)
    parts = [TASK.slice_output(output, slice(0, 4)), TASK.slice_output(output, torch.tensor([4, 5]))]
    joined = TASK.join_outputs(parts)
    assert torch.equal(joined["xy"], output["xy"]) and joined["rest"][1] == "cosine"
    assert len(TASK.output_tensors(output)) == 2 and not TASK.detach_output(output)["xy"].requires_grad
    output["rest"][0].data[3] = float("inf")
    assert TASK.finite(output).tolist() == [True, True, True, False, True, True]
    half = TASK.check_output(map_tensors(output, torch.Tensor.half), TASK.targets(data[1]["points"]))
    assert all(tensor.dtype == torch.float32 for tensor in TASK.output_tensors(half))


def test_losses_and_gradients_of_the_estimator(estimator, data):
    x, y = data
    losses = estimator.compute_losses(x, y)["points"]
    np.testing.assert_allclose(losses, [2e-4, 2e-4, 0, 2e-4, 2e-4, 2e-4], rtol=0.05)
    gradient = estimator.loss_gradient(x, y)
    assert gradient.shape == x.shape and np.abs(gradient).max() > 0


@pytest.mark.parametrize("attack", [MultiTaskPGD, WorstTaskPGD])
def test_attacks_degrade_it(estimator, data, attack):
    x, y = data
    with pytest.warns(RuntimeWarning, match=r"'points' has no valid label on sample\(s\) \[2\]"):
        found = attack(estimator, eps=0.3, max_iter=10, batch_size=4, verbose=False).generate(x, y)
    target = TASK.targets(y["points"])
    with torch.no_grad():
        before, after = (estimator.model(torch.tensor(z))["points"] for z in (x, found))
    assert (TASK.score(after, target) < TASK.score(before, target))[target.has_label].all()
    assert TASK.metric.value(TASK.statistics(before, target).sum(0)) == 1
    assert TASK.metric.value(TASK.statistics(after, target).sum(0)) < 0.5


@KINDS
def test_predictions_are_a_column_of_nests(task, ragged):
    x, host = ragged[0], estimator_of(task)
    with torch.no_grad():
        xy = torch.stack(list(task._predicted(host.model(torch.tensor(x))["points"]))).numpy()
    for batch_size in (3, 100):
        found = host.predict(x, batch_size=batch_size)["points"]
        assert found.shape == (7,) and found[0]["rest"][1] == "cosine" and found[6]["rest"][0].shape == (SLOTS,)
        np.testing.assert_allclose(np.stack([one["xy"] for one in found]), xy, rtol=1e-5)
        own = host.own_labels(x, batch_size=batch_size)
        given = task.targets(found)
        assert all(map(np.array_equal, own["points"], given.values))
        assert len({len(points) for points in own["points"]}) > 1
    # Raw outputs given back as labels are decoded.
    assert np.allclose(host.compute_losses(x, host.predict(x))["points"], 0, atol=1e-9)


def test_an_output_of_too_few_samples_is_refused(data):
    host = estimator_of(TASK)
    host.model.points.register_forward_hook(lambda module, x, out: out[1:])
    with pytest.raises(ValueError, match="'points' should have one entry for each of 6 samples.*shape \\(5, 4, 2"):
        host.predict(data[0])


def run_art(task, x, y, most=1000, **options):
    attack = MultiTaskPGD(estimator_of(task, most), eps=0.3, max_iter=10, verbose=False, **options)
    return attack.generate(x, y)


def run_torchattacks(task, x, y, most=1000, batch_size=None, **options):
    """A call is one batch: batches are cut by the caller."""
    net = Net(isinstance(task, Listed), most).eval()
    attack = ta.MultiTaskPGD(net, [tasks.classification("kind", 3), task], eps=0.3, steps=10, **options)
    size = batch_size or len(x)
    parts = [slice(start, start + size) for start in range(0, len(x), size)]
    given = [None if y is None else {"kind": y["kind"][p], "points": y["points"][p]} for p in parts]
    return torch.cat([attack(torch.tensor(x[p]), labels) for p, labels in zip(parts, given, strict=True)]).numpy()


FRONTS = pytest.mark.parametrize("run", [run_art, run_torchattacks], ids=["art", "torchattacks"])


@FRONTS
@KINDS
@pytest.mark.parametrize("own", [False, True], ids=["labels", "own predictions"])
def test_both_fronts_degrade_it(run, task, own, ragged):
    x, y = ragged
    x, y = (np.delete(x, 2, 0), {k: [one for i, one in enumerate(v) if i != 2] for k, v in y.items()})
    host = estimator_of(task)
    target = task.targets(host.own_labels(x)["points"] if own else y["points"])
    whole = run(task, x, None if own else y)
    score = [task.score(host.raw_outputs(z)[1], target) for z in (x, whole)]
    assert (score[1] < score[0]).all() and target.has_label.all()
    assert task.metric.value(task.statistics(host.raw_outputs(whole)[1], target).sum(0)) < 0.5
    # In batches, the last of them smaller, of which memory takes two samples at a time; and on a prepared copy.
    for options in ({"batch_size": 4, "most": 2}, {"batch_size": 4, "prepare": "fp32"}):
        found = run(task, x, None if own else y, **options)
        # On its own predictions the first gradient is rounding.
        assert (np.abs(found - whole) > 1e-5).mean() <= (0.05 if own else 0)


@KINDS
@pytest.mark.parametrize("name", ["worst-task", "auto-attack", "universal", "patch", "stealthy"])
def test_other_searches_run_on_it(task, name, ragged):
    x, y = ragged
    x, y = x[:2], {"kind": y["kind"][:2], "points": y["points"][:2]}
    host = estimator_of(task)
    attack = {
        "worst-task": lambda: WorstTaskPGD(host, eps=0.3, max_iter=3, num_random_init=2, keep="best", verbose=False),
        "auto-attack": lambda: MultiTaskAutoAttack(host, eps=0.3, verbose=False),
        "universal": lambda: UniversalMultiTaskPGD(host, eps=0.3, max_iter=3, verbose=False),
        "patch": lambda: MultiTaskPatch(host, size=(2, 2), max_iter=3, verbose=False),
        "stealthy": lambda: StealthyMultiTaskPGD(host, "points", eps=0.3, max_iter=3, verbose=False),
    }[name]()
    assert not np.array_equal(attack.generate(x, y), x)


@dataclass(frozen=True, kw_only=True)
class Mute(Points):
    """A kind that makes no labels of outputs."""

    def decode(self, output: Any) -> Any:
        return Task.decode(self, output)


@FRONTS
def test_a_kind_that_makes_no_labels_of_outputs_needs_them(run, data):
    task = Mute(name="points", radius=0.3)
    with pytest.raises(ValueError, match="labels of task 'points' should be given.*Found no labels, and an output"):
        run(task, data[0], None)


@KINDS
def test_saved_and_loaded(task, ragged, tmp_path):
    x, y = torch.tensor(ragged[0]), {"kind": torch.tensor(ragged[1]["kind"]), "points": ragged[1]["points"]}
    attack = ta.MultiTaskPGD(Net(isinstance(task, Listed)), [tasks.classification("kind", 3), task], eps=0.3, steps=10)
    loader = [(x[p], {"kind": y["kind"][p], "points": y["points"][p]}) for p in (slice(3, 6), slice(6, 7))]
    metrics, _, _ = attack.save(loader, tmp_path / "a.pt", False, return_verbose=True, save_predictions=True)
    (batch,) = attack.load(tmp_path / "a.pt", load_predictions=True)
    adversarial, labels, predictions = batch
    host = estimator_of(task)
    assert [len(points) for points in labels["points"]] == [2, 3, 1, 2]
    assert all(map(np.allclose, predictions["points"], host.own_labels(adversarial.numpy())["points"]))
    target = task.targets(labels["points"])
    value = task.metric.value(task.statistics(host.raw_outputs(adversarial)[1], target).sum(0)).item()
    assert metrics["points found"] == pytest.approx(value) and value < 1


def test_what_cannot_be_done_is_refused_with_the_name_of_the_task(estimator, data):
    x, y = data[0][:2], {name: values[:2] for name, values in data[1].items()}
    attack = MultiTaskPGD(estimator, eps=0.3, max_iter=2, verbose=False)
    with pytest.raises(ValueError, match="output for task 'points' should be a tensor: the sanity checks.*'rest'"):
        diagnose(estimator, attack, x, y, progress=False)

    class Bare(Points):
        metric_arguments = Task.metric_arguments

    class Unmeasured(Points):
        metric = Metric(name="found", higher_is_better=True, value=_value, torchmetric=None)

    for kind, message in ((Bare, "'points' should have `metric_arguments`"), (Unmeasured, "'points' should have a `t")):
        host = estimator_of(kind(name="points", radius=0.3))
        with pytest.raises((ValueError, NotImplementedError), match=message):
            evaluate(host, [MultiTaskPGD(host, eps=0.3, max_iter=2, verbose=False)], (x, y), progress=False)


class Samples:
    """A data set of single samples."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], {name: values[i] for name, values in self.y.items()}


@KINDS
@pytest.mark.parametrize("form", ["arrays", "samples"])
def test_it_is_evaluated_and_reported(task, form, ragged, tmp_path):
    x, y = ragged
    host = estimator_of(task)
    gallery = Gallery(host, as_source((x, y), host.tasks))

    class Listener(Callback):
        def on_attack(self, result, examples):
            gallery.on_attack(result, examples)

    def run(**options):
        attacks = {"equal": MultiTaskPGD(host, eps=0.3, max_iter=10, batch_size=4, verbose=False)}
        dataset = (x, y) if form == "arrays" else Samples(x, y)
        with pytest.warns(RuntimeWarning, match=UNLABELLED):
            return evaluate(host, attacks, dataset, batch_size=3, seed=0, progress=False, **options)

    found = run(callbacks=[Listener()], chunk=5, out=tmp_path / "run", keep_adversarial=True)
    results = found.results
    target = task.targets(y["points"])
    for value, inputs in ((results.tasks[1].clean, x), (results["equal"].values[1], found.adversarial("equal"))):
        rows = task.statistics(host.raw_outputs(inputs)[1], target)
        assert value == pytest.approx((rows[:, 0].sum() / rows[:, 1].sum()).item())
    assert results.tasks[1].clean == 1 and results["equal"].values[1] < 0.5
    assert results["equal"].deltas[1] == pytest.approx(results["equal"].values[1] - 1)
    assert [row[1] is None for row in results["equal"].sample_values] == [False, False, True, *[False] * 4]
    # Nothing is computed again of what is stored; and chunks change nothing that is not shared by samples.
    again = evaluate(host, {"equal": MultiTaskPGD(host, eps=0.3, max_iter=10, batch_size=4, verbose=False)},
                     (x, y) if form == "arrays" else Samples(x, y), batch_size=3, seed=0, progress=False, chunk=5,
                     out=tmp_path / "run", keep_adversarial=True).results  # fmt: skip
    assert again.attacks == results.attacks and again.tasks == results.tasks
    assert run().results.attacks[0].values == pytest.approx(results.attacks[0].values)

    write_report(tmp_path / "report", results, Background(gallery))
    page = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    shown = 100 * results["equal"].values[1]
    assert "points found ↑ (×100)" in page and f"{shown:.2f}" in page and "example-linf-0.3.png" in page
    header, clean, equal = (tmp_path / "report" / "table.csv").read_text(encoding="utf-8").splitlines()
    column = dict(zip(header.split(","), equal.split(","), strict=True))
    assert float(column["Δ points"]) == results["equal"].deltas[1]
    assert type(results).from_json_text((tmp_path / "report" / "results.json").read_text()) == results
