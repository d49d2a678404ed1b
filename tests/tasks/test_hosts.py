"""Every kind in every host: both fronts, secml-torch, an evaluation and its report with pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchmetrics
from torch import nn

import art_mtl.torchattacks as ta
from art_mtl import PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MultiTaskPGD, WorstTaskPGD
from art_mtl.evaluation import evaluate

SHAPE = (3, 6, 8)


def candidates(outputs):
    """Eight boxes side by side that hardly move, and scores of two classes."""
    found = outputs["t"]
    edges = torch.arange(8.0)[:, None]
    boxes = torch.cat([edges, torch.zeros(8, 1), edges + 1, torch.full((8, 1), 6.0)], 1).to(found)
    return {"boxes": boxes + 0.02 * found[..., 2:].tanh(), "scores": torch.sigmoid(3 * found[..., :2])}


KINDS = {
    "segmentation": (tasks.segmentation("t", 3), (3, 6, 8)),
    "classification": (tasks.classification("t", 4), (4,)),
    "multilabel": (tasks.multilabel("t", 4), (4,)),
    "depth": (tasks.depth("t"), (1, 6, 8)),
    "disparity": (tasks.disparity("t"), (1, 6, 8)),
    "normals": (tasks.surface_normals("t"), (3, 6, 8)),
    "regression": (tasks.regression("t"), (2,)),
    "detection": (tasks.detection("t", 2, output=candidates, metric="recall"), (8, 6)),
    "binary": (tasks.binary("t"), (1,)),
    "binary_segmentation": (tasks.binary_segmentation("t"), (1, 6, 8)),
    "binary_segmentation, odsF": (tasks.binary_segmentation("t", metric="ods_f"), (6, 8)),
    "multilabel_segmentation": (tasks.multilabel_segmentation("t", 2), (2, 6, 8)),
    "image": (tasks.image("t", 2), (2, 6, 8)),
    "image, PSNR": (tasks.image("t", 3, metric="psnr"), (3, 6, 8)),
    "image, SSIM": (tasks.image("t", 1, metric="ssim"), (6, 8)),
    "keypoints": (tasks.keypoints("t", 4, 2.0), (4, 2)),
    "keypoints, PCK": (tasks.keypoints("t", 4, 2.0, pck=0.2), (4, 2)),
    "ordinal": (tasks.ordinal("t", 4), (4,)),
    "embedding": (tasks.embedding("t", 0.6, distance="euclidean"), (5,)),
    "segmentation of volumes": (tasks.segmentation("t", 3, spatial_dims=3), (3, 2, 6, 8)),
    "image of volumes": (tasks.image("t", 1, spatial_dims=3), (1, 2, 6, 8)),
}
each = pytest.mark.parametrize(("task", "shape"), KINDS.values(), ids=KINDS)
OTHER = tasks.classification("other", 3)


class Net(nn.Module):
    """An output of any shape, and a class."""

    def __init__(self, shape):
        super().__init__()
        torch.manual_seed(0)
        self.shape = shape
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(144, 24), nn.Tanh())
        self.main, self.other = nn.Linear(24, int(np.prod(shape))), nn.Linear(24, 3)

    def forward(self, x):
        hidden = self.trunk(x)
        return {"t": 2 * self.main(hidden).view(-1, *self.shape), "other": self.other(hidden)}


def setup(task, shape, jobs=None):
    model = Net(shape).eval()
    host = PyTorchMultiTaskEstimator(model, jobs or [task, OTHER], SHAPE, clip_values=(0, 1), device_type="cpu")
    x = np.random.default_rng(0).uniform(size=(6, *SHAPE)).astype(np.float32)
    y = dict(host.own_labels(x).items())
    # A perfect prediction cannot be followed: labels are those of an input nearby.
    near = np.clip(x + 0.02 * np.random.default_rng(1).normal(size=x.shape).astype(np.float32), 0, 1)
    y["t"] = np.array(host.own_labels(near)["t"])
    y["t"] = [None if i == 2 else label for i, label in enumerate(y["t"])]
    return host, x, y


def loss_of(host, task, x, y):
    target = task.targets(y["t"])
    return task.loss(task.check_output(host.raw_outputs(x)[0], target), target).numpy()


UNLABELLED = pytest.mark.filterwarnings("ignore:Task 't' has no valid label on sample")


@UNLABELLED
@each
@pytest.mark.parametrize("attack", [MultiTaskPGD, WorstTaskPGD])
def test_art(task, shape, attack):
    host, x, y = setup(task, shape)
    z = attack(host, eps=0.1, max_iter=8, verbose=False).generate(x, y)
    assert np.abs(z - x).max() <= 0.1 + 1e-6 and z.min() >= 0 and z.max() <= 1
    before, after = loss_of(host, task, x, y), loss_of(host, task, z, y)
    assert (np.delete(after - before, 2) > 0).all() and after[2] == before[2] == 0


@UNLABELLED
@each
@pytest.mark.parametrize(("norm", "eps"), [(2, 0.5), (1, 2.0)])
def test_inside_ball_and_box(task, shape, norm, eps):
    host, x, y = setup(task, shape)
    z = WorstTaskPGD(host, norm=norm, eps=eps, max_iter=3, num_random_init=1, verbose=False).generate(x, y)
    moved = np.linalg.norm((z.astype(float) - x).reshape(6, -1), ord=norm, axis=1)
    assert (moved <= eps * (1 + 1e-5)).all() and (moved > 0.5 * eps)[[0, 1, 3, 4, 5]].all()
    assert z.min() >= 0 and z.max() <= 1


@UNLABELLED
@each
def test_order_of_samples_and_tasks_changes_nothing(task, shape):
    host, x, y = setup(task, shape)
    run = {"eps": 0.1, "max_iter": 3, "verbose": False}
    z = MultiTaskPGD(host, **run).generate(x, y)
    order = np.array([4, 2, 0, 5, 1, 3])
    mixed = {"t": [y["t"][i] for i in order], "other": y["other"][order]}
    np.testing.assert_allclose(MultiTaskPGD(host, **run).generate(x[order], mixed), z[order], atol=1e-6)
    turned = setup(task, shape, [OTHER, task])[0]
    np.testing.assert_allclose(MultiTaskPGD(turned, **run).generate(x, y), z, atol=1e-6)
    np.testing.assert_allclose(MultiTaskPGD(host, **run, batch_size=4).generate(x, y), z, atol=1e-6)


@UNLABELLED
@each
def test_torchattacks_away_and_towards(task, shape):
    host, x, y = setup(task, shape)
    attack = ta.MultiTaskPGD(host.model, [task, OTHER], eps=0.1, steps=3)
    expected = MultiTaskPGD(host, eps=0.1, eps_step=attack.alpha, max_iter=3, verbose=False).generate(x, y)
    np.testing.assert_allclose(attack(torch.tensor(x), y).numpy(), expected, atol=1e-5)
    aim = {"t": y["t"][::-1]}
    aim["t"][3], aim["t"][0] = y["t"][0], y["t"][4]
    towards = ta.MultiTaskPGD(host.model, [task], eps=0.2, steps=8)
    towards.set_mode_targeted_by_label(quiet=True)
    z = towards(torch.tensor(x), aim).numpy()
    before, after = loss_of(host, task, x, aim), loss_of(host, task, z, aim)
    # The last step may lead a little beyond the optimum of an absolute error.
    assert (after <= before + 0.02).all() and after.sum() < before.sum()


@UNLABELLED
@each
def test_secml_torch(task, shape):
    secmlt = pytest.importorskip("art_mtl.secmlt")
    from torch.utils.data import DataLoader

    host, x, y = setup(task, shape)
    whole = [y["t"][0 if i == 2 else i] for i in range(len(x))]
    data = list(zip(torch.tensor(x), whole, torch.tensor(y["other"]), strict=True))
    loader = DataLoader(data, 3, collate_fn=lambda rows: (
        torch.stack([r[0] for r in rows]),
        {"t": [r[1] for r in rows], "other": torch.stack([r[2] for r in rows])},
    ))  # fmt: skip
    attack = secmlt.MultiTaskPGD([task, OTHER], perturbation_model="linf", epsilon=0.1, num_steps=4, step_size=0.025)
    z = torch.cat([batch for batch, _ in attack(host.model, loader)]).numpy()
    labels = {"t": whole}
    assert np.abs(z - x).max() <= 0.1 + 1e-6
    before, after = loss_of(host, task, x, labels), loss_of(host, task, z, labels)
    assert (np.delete(after - before, 2) > 0).all()


@UNLABELLED
@each
def test_evaluation_and_report(task, shape, tmp_path):
    host, x, y = setup(task, shape)

    def run(**options):
        return evaluate(host, ["equal", "worst-task"], (x, y), norm="linf", eps=0.1, steps=4, progress=False, **options)

    result = run(out=tmp_path / "run", chunk=4)
    target = task.targets(y["t"])
    output = task.check_output(host.raw_outputs(x)[0], target)
    metric = task.metric.torchmetric()
    metric.update(*task.metric_arguments(output, target))
    assert result.results.tasks[0].clean == pytest.approx(metric.compute().item(), rel=1e-5)
    value, clean = result["equal"].values[0], result.results.tasks[0].clean
    assert value < clean if task.higher_is_better else value > clean
    assert run(out=tmp_path / "run", chunk=4).results.attacks == result.results.attacks
    result.report(tmp_path / "report")
    assert any((tmp_path / "report").rglob("example*.png"))


def test_segmentation_of_volumes_is_that_of_torchmetrics():
    task = tasks.segmentation("t", 3, spatial_dims=3)
    output, y = torch.randn(4, 3, 2, 6, 8), torch.randint(-1, 3, (4, 2, 6, 8))
    oracle = torchmetrics.classification.MulticlassJaccardIndex(3, ignore_index=-1)
    oracle.update(output, y)
    target = task.targets(y)
    assert torch.equal(task.targets(y[:, None]).value, target.value)
    found = task.metric.value(task.statistics(task.check_output(output, target), target).sum(0))
    assert found.item() == pytest.approx(oracle.compute().item(), abs=1e-6)
    flat = tasks.segmentation("t", 3)
    picture, shown = task.picture(task.shown(target)[0]), flat.shown(flat.targets(y[:, 1]))[0]
    np.testing.assert_array_equal(picture, flat.picture(shown))
    with pytest.raises(ValueError, match="'t' should have shape \\(N, D, H, W\\), or \\(N, 3, D, H, W\\)"):
        task.targets(torch.zeros(2, 6, 8))
