"""Keypoints: coordinates or heatmaps, points that are not visible, distances in lengths of the sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import art_mtl.torchattacks as ta
from art_mtl import PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MultiTaskPGD, WorstTaskPGD
from art_mtl.metrics import describe_metric, read_metric

NAN = float("nan")
LENGTHS = {
    "box": lambda p: np.sqrt(np.prod(np.nanmax(p, 0) - np.nanmin(p, 0))),
    (1, 3): lambda p: np.linalg.norm(p[1] - p[3]),
    7.5: lambda p: 7.5,
}


def case(n=7, points=5):
    generator = np.random.default_rng(0)
    y = generator.uniform(0, 50, (n, points, 2)).astype(np.float32)
    y[2, [0, 4]] = NAN
    y[5, 2, 1] = NAN
    return y + generator.normal(0, 3, y.shape).astype(np.float32) * 1.0, y


def slow(output, y, normalise):
    """Normalised distances, NaN where a point is not visible."""
    rows = []
    for predicted, true in zip(output, y, strict=True):
        true = np.where(np.isnan(true).any(1, keepdims=True), NAN, true)
        rows.append([np.hypot(*(p - t)) / LENGTHS[normalise](true) for p, t in zip(predicted, true, strict=True)])
    return np.array(rows)


@pytest.mark.parametrize("normalise", LENGTHS, ids=str)
@pytest.mark.parametrize("pck", [None, 0.1])
def test_nme_and_pck_are_those_of_a_loop_over_points(normalise, pck):
    output, y = case()
    output = np.nan_to_num(output)
    distance = slow(output, y, normalise)
    task = tasks.keypoints("face", 5, normalise, pck=pck)
    target = task.targets(y)
    checked = task.check_output(torch.tensor(output), target)
    np.testing.assert_allclose(task.loss(checked, target), np.nanmean(distance, 1), rtol=1e-5)
    closeness = distance if pck is None else 2.0 ** (-distance / pck)
    np.testing.assert_allclose(task.score(checked, target), np.nanmean(closeness, 1), rtol=1e-5)
    known = ~np.isnan(distance)
    expected = distance[known].mean() if pck is None else (distance[known] <= pck).mean()
    assert 0.01 < expected < 1
    metric = task.metric.torchmetric()
    for part in (slice(0, 3), slice(3, None)):
        metric.update(*task.metric_arguments(checked[part], target[part]))
    assert metric.compute().item() == pytest.approx(expected, rel=1e-5)
    value = read_metric(describe_metric(task.metric)).value(task.statistics(checked, target).sum(0))
    assert value.item() == pytest.approx(expected, rel=1e-5)
    if pck is not None:
        margins = task.measure(checked, target).margins.numpy()
        np.testing.assert_allclose(margins[known], pck - distance[known], rtol=1e-4, atol=1e-6)


def test_layouts_of_outputs_and_labels_say_the_same():
    output, y = (np.nan_to_num(v) for v in case())
    task = tasks.keypoints("face", 5)
    target = task.targets(y)
    seen = np.concatenate([y, np.full((7, 5, 1), 2)], 2)
    for same in (y.reshape(7, 10), seen, torch.tensor(y)):
        assert torch.equal(task.targets(same).value, target.value)
    flat, points = (task.check_output(torch.tensor(o), target) for o in (output.reshape(7, 10), output))
    assert torch.equal(flat, points) and flat.shape == (7, 2, 5)
    assert torch.equal(task.decode(torch.tensor(output.reshape(7, 10))), torch.tensor(output))


def test_heatmaps_are_decoded_by_their_mean():
    y = np.random.default_rng(0).uniform(8, 20, (2, 3, 2))
    column, row = np.meshgrid(np.arange(16), np.arange(14))
    place = y / 2
    maps = [[-((column - x) ** 2 + (row - z) ** 2) / 2 for x, z in points] for points in place]  # a normal distribution
    maps = torch.tensor(np.array(maps))
    task = tasks.keypoints("face", 3, 1, stride=2)
    target = task.targets(y)
    np.testing.assert_allclose(task.check_output(maps, target).mT, y, atol=0.02)
    np.testing.assert_allclose(task.targets(maps).value[:, :2].mT, y, atol=0.02)
    raw = torch.randn(2, 3, 14, 16, dtype=torch.float64, requires_grad=True)
    share = raw.exp() / raw.exp().sum((2, 3), keepdim=True)
    expected = torch.stack([(share * torch.tensor(column)).sum((2, 3)), (share * torch.tensor(row)).sum((2, 3))], 1)
    torch.testing.assert_close(task.check_output(raw, target), 2 * expected)
    assert torch.autograd.gradcheck(lambda o: task.loss(task.check_output(o, target), target), raw, atol=1e-4)


def test_points_that_are_not_visible_change_nothing():
    output, y = case()
    task, output = tasks.keypoints("face", 5), np.nan_to_num(output)
    hidden = np.isnan(y).any(2)
    target = task.targets(y)
    coco = np.concatenate([np.nan_to_num(y, nan=3.0), np.where(hidden, 0, 1)[..., None]], 2)
    masked = np.ma.masked_array(np.nan_to_num(y, nan=3.0), np.repeat(hidden[..., None], 2, 2))
    for same in (coco, masked):
        found = task.targets(same)
        assert torch.equal(found.value, target.value) and torch.equal(found.valid, target.valid)
    leaf = torch.tensor(np.where(hidden[..., None], 1e6, output), requires_grad=True)
    checked = task.check_output(leaf, target)
    loss = task.loss(checked, target)
    assert torch.equal(loss, task.loss(task.check_output(torch.tensor(output), target), target))
    loss.sum().backward()
    assert torch.equal(leaf.grad.any(2), target.valid)


def test_missing_samples():
    _, y = case()
    task = tasks.keypoints("face", 5)
    rows = [None if i in (0, 3) else row for i, row in enumerate(y)]
    y[6] = NAN
    rows[6] = y[6]
    assert task.targets(rows).has_label.tolist() == [False, True, True, False, True, True, False]
    assert task.targets(y, np.arange(7) != 1).has_label.tolist() == [True, False, True, True, True, True, False]


def test_bad_labels_are_refused():
    task, pair = tasks.keypoints("face", 2), tasks.keypoints("face", 2, (0, 1))
    good = np.array([[0.0, 0, 2], [3, 4, 1]])
    with pytest.raises(ValueError, match="'face' should have a visible point in each sample.*Found none in sample 1"):
        task.targets(np.stack([good, good * [1, 1, 0]]))
    with pytest.raises(ValueError, match="'face' should have the points 0 and 1 visible and apart.*in sample 1"):
        pair.targets(np.stack([good, good * [[1, 1, 1], [1, 1, 0]]]))
    with pytest.raises(ValueError, match="points 0 and 1 visible and apart.*in sample 0"):
        pair.targets(np.ones((1, 2, 2)))
    with pytest.raises(ValueError, match="visible points that span a box.*in sample 0"):
        task.targets(np.array([[[0.0, 1], [9, 1]]]))
    with pytest.raises(ValueError, match="'face' should have shape \\(N, 2, 2\\), \\(N, 4\\) or \\(N, 2, 3\\)"):
        task.targets(np.zeros((1, 3, 2)))
    with pytest.raises(ValueError, match="finite"):
        task.targets(np.full((1, 2, 2), np.inf))


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (1, 3, 2), (1, 6), (2, 2, 2), (1, 1, 2, 8, 8)])
def test_outputs_of_the_wrong_count_are_named(shape):
    task = tasks.keypoints("face", 2)
    target = task.targets(np.array([[[0.0, 0], [3, 4]]]))
    with pytest.raises(ValueError, match="'face' should have shape \\(1, 2, 2\\), \\(1, 4\\) or \\(1, 2, H"):
        task.check_output(torch.zeros(shape), target)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_points": 0}, "`num_points`"),
        (
            {"normalise": "eyes"},
            "`normalise` of task 'p' should be 'box', a positive number or two different",
        ),
        ({"normalise": 0}, "`normalise`"),
        ({"normalise": (1, 1)}, "`normalise`"),
        ({"normalise": (0, 5)}, "`normalise`"),
        ({"normalise": (0, 1, 2)}, "`normalise`"),
        ({"pck": 0}, "`pck` of task 'p' should be positive"),
        ({"stride": -1}, "`stride` of task 'p' should be positive"),
        ({"image_size": (3,)}, "`image_size` of task 'p' should be None or a height and a width"),
    ],
)
def test_arguments_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        tasks.keypoints("p", **{"num_points": 5, **options})


def test_pictures():
    task = tasks.keypoints("face", 2, 1, image_size=(20, 40))
    shown = task.shown(task.targets(np.array([[[10.0, 5.0], [NAN, 3.0]]])))[0]
    picture = task.picture(shown)
    assert picture.shape == (128, 256, 3) and (picture[32, 64] != 1).any() and (picture != 1).any(-1).sum() == 81
    assert task.caption(shown) == "1 of 2 points"
    assert tasks.keypoints("face", 2, 1).picture(shown).shape == (128, 256, 3)
    grey = np.full((1, 20, 40), 0.25)
    over = task.picture(shown, image=grey)
    drawn = (picture != 1).any(-1)
    np.testing.assert_array_equal(over[drawn], picture[drawn])
    assert (over[~drawn] == 0.25).all()
    np.testing.assert_array_equal(tasks.keypoints("face", 2, 1).picture(shown, image=grey), over)


def detections(*parts):
    """One dict per sample, as of Keypoint R-CNN: the scores of detections, their points and the points' scores."""
    return [
        {
            "scores": torch.tensor(scores),
            "keypoints": torch.cat([torch.tensor(points), torch.ones(len(scores), 2, 1)], 2),
            "keypoints_scores": torch.tensor(point_scores),
        }
        for scores, points, point_scores in parts
    ]


def test_points_of_the_best_detection():
    task = tasks.keypoints("points", 2, normalise=10.0)
    output = detections(
        ([0.2, 0.9], [[[0.0, 0.0], [1.0, 1.0]], [[3.0, 4.0], [5.0, 6.0]]], [[1.0, 1.0], [2.0, -0.5]]),
        ([0.1], [[[7.0, 8.0], [9.0, 10.0]]], [[-200.0, 3.0]]),
    )
    output.append({"scores": torch.zeros(0), "keypoints": torch.zeros(0, 2, 3), "keypoints_scores": torch.zeros(0, 2)})
    chosen = task.select(output, position=1, count=2)
    np.testing.assert_array_equal(
        task.decode(chosen), [[[3, 4], [NAN, NAN]], [[NAN, NAN], [9, 10]], [[NAN, NAN], [NAN, NAN]]]
    )
    y = np.array([[[3.0, 5.0], [5.0, 6.0]], [[7.0, 8.0], [9.0, 13.0]], [[0.0, 0.0], [NAN, 1.0]]], np.float32)
    target = task.targets(y)
    # Points of low scores count where there is a label; where nothing is detected each point is a length off.
    losses = task.loss(task.check_output(chosen, target), target)
    np.testing.assert_allclose(losses, [0.05, 0.15, 1.0], rtol=1e-6)
    right = tasks.keypoints("points", 2, normalise=10.0, pck=0.2)
    statistics = right.statistics(right.check_output(chosen, target), target)
    assert statistics.tolist() == [[2, 2], [1, 2], [0, 1]]
    assert tasks.keypoints("points", 2, 1, output="pose").select({"pose": output}, 0).equal(chosen)
    with pytest.raises(ValueError, match=r"should have shape \(M, 3, 3\) to fit its labels. Found \(2, 2, 3\)"):
        tasks.keypoints("points", 3, 1).select(output, 0)
    with pytest.raises(ValueError, match="should be a tensor. Found a list"):
        task.select([output[0]["scores"].tolist()], 0)


class Landmarks(nn.Module):
    """Points by their coordinates, or as heatmaps; and a class."""

    def __init__(self, heatmaps):
        super().__init__()
        torch.manual_seed(0)
        self.heatmaps = heatmaps
        self.trunk = nn.Sequential(nn.Conv2d(1, 4, 5, padding=2), nn.Tanh())
        self.maps, self.points, self.kind = nn.Conv2d(4, 3, 3, padding=1), nn.Linear(400, 6), nn.Linear(400, 3)

    def forward(self, x):
        hidden = self.trunk(x)
        points = 3 * self.maps(hidden) if self.heatmaps else 5 + 10 * self.points(hidden.flatten(1))
        return {"points": points, "kind": self.kind(hidden.flatten(1))}


@pytest.mark.parametrize("heatmaps", [False, True])
@pytest.mark.parametrize("pck", [None, 0.3])
def test_the_fronts_attack_it(heatmaps, pck):
    model = Landmarks(heatmaps).eval()
    jobs = [tasks.keypoints("points", 3, 2.0, pck=pck), tasks.classification("kind", 3)]
    host = PyTorchMultiTaskEstimator(model, jobs, (1, 10, 10), clip_values=(0, 1), device_type="cpu")
    x = np.random.default_rng(0).uniform(size=(6, 1, 10, 10)).astype(np.float32)
    y = {name: np.array(values) for name, values in host.own_labels(x).items()}
    y["points"][1, 0] = NAN
    y["points"][2] = NAN
    before = host.compute_losses(x, y)["points"]
    order = np.array([3, 1, 5, 0, 2, 4])
    for attack in (MultiTaskPGD, WorstTaskPGD):
        run = attack(host, eps=0.2, max_iter=6, num_random_init=1, verbose=False)
        with pytest.warns(RuntimeWarning, match="'points' has no valid label on sample\\(s\\) \\[2\\]"):
            z = run.generate(x, y)
        after = host.compute_losses(z, y)["points"]
        assert (after > before + 0.01)[[0, 1, 3, 4, 5]].all() and after[2] == 0
        assert np.abs(z - x).max() <= 0.2 + 1e-6 and z.min() >= 0 and z.max() <= 1
    plain = MultiTaskPGD(host, eps=0.2, max_iter=3, verbose=False)
    shifted = {"points": y["points"] + 1, "kind": y["kind"]}
    with pytest.warns(RuntimeWarning, match="no valid label"):
        z = plain.generate(x, shifted)
        mixed = plain.generate(x[order], {name: values[order] for name, values in shifted.items()})
    np.testing.assert_allclose(mixed, z[order], atol=1e-6)
    front = ta.MultiTaskPGD(model, jobs, eps=0.2, steps=3)
    with pytest.warns(RuntimeWarning, match="no valid label"):
        np.testing.assert_allclose(front(torch.tensor(x), shifted).numpy(), z, atol=1e-5)
        aim = ta.MultiTaskPGD(model, jobs[:1], eps=0.2, steps=6)
        aim.set_mode_targeted_by_label(quiet=True)
        towards = aim(torch.tensor(x), {"points": shifted["points"]}).numpy()
    target = jobs[0].targets(shifted["points"])
    near, far = (jobs[0].loss(jobs[0].check_output(host.raw_outputs(v)[0], target), target) for v in (towards, x))
    assert (near < far)[target.has_label].all()
