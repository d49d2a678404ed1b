"""Tasks are values: those made by one call are equal, through copy and pickle, and so hosts may compare them."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

import art_mtl.torchattacks as ta
from art_mtl import metrics, tasks


def _distance(output, target):
    return (output - target).square().sum(1)


def _head(outputs):
    return outputs[0]


CALLS = {
    "segmentation": lambda: tasks.segmentation("s", 5, ignore_index=255, output="head"),
    "classification": lambda: tasks.classification("c", np.int64(5)),
    "multilabel": lambda: tasks.multilabel("m", 3, output=1),
    "depth": lambda: tasks.depth("d", output=_head),
    "depth, nan": lambda: tasks.depth("d", invalid=float("nan")),
    "disparity": lambda: tasks.disparity("d", invalid=float("inf")),
    "surface_normals": lambda: tasks.surface_normals("n", coding="image"),
    "regression": lambda: tasks.regression("r"),
    "binary": lambda: tasks.binary("b", 0.3),
    "binary_segmentation": lambda: tasks.binary_segmentation("e", 0.3, 255, metric="ods_f", spatial_dims=3),
    "multilabel_segmentation": lambda: tasks.multilabel_segmentation("p", np.int64(3), 255),
    "segmentation of volumes": lambda: tasks.segmentation("s", 5, spatial_dims=3),
    "image": lambda: tasks.image("i", 3, metric="psnr", data_range=255),
    "image, ssim": lambda: tasks.image("i", 3, metric="ssim"),
    "keypoints": lambda: tasks.keypoints("k", 3, [0, 1], image_size=[4, 5]),
    "keypoints, pck": lambda: tasks.keypoints("k", 3, 2, pck=1),
    "ordinal": lambda: tasks.ordinal("o", 3),
    "embedding": lambda: tasks.embedding("v", 1, distance="euclidean"),
    "detection": lambda: tasks.detection("d", 3, image_size=[4, 5], metric="recall", loss=_distance),
    "custom": lambda: tasks.custom("x", _distance),
    "custom with a metric": lambda: tasks.custom(
        "x", _distance, metric=metrics.mean_of("far", _distance, higher_is_better=False)
    ),
}


@pytest.mark.parametrize("make", CALLS.values(), ids=CALLS)
def test_tasks_of_one_call_are_equal(make):
    task = make()
    task.metric  # noqa: B018 - what is kept on the way changes nothing
    for other in (make(), copy.deepcopy(task), pickle.loads(pickle.dumps(task)), replace(task)):
        assert other == task and hash(other) == hash(task) and len({other, task}) == 1
        assert other.metric == task.metric
    assert replace(task, name="other") != task


def test_tasks_of_other_calls_differ():
    made = [make() for make in CALLS.values()]
    made += [tasks.segmentation("s", 6, ignore_index=255, output="head"), tasks.depth("d", invalid=1), tasks.depth("e")]
    made += [tasks.segmentation("s", 5, ignore_index=255, output="head", average_ignored=True)]
    assert len(set(made)) == len(made)
    assert tasks.depth("d", invalid=-1) != tasks.disparity("d", invalid=-1)


def test_attacks_of_equal_tasks_go_together():
    net = torch.nn.Conv2d(3, 5, 1)
    attacks = [kind(net, [tasks.segmentation("seg", 5)]) for kind in (ta.MultiTaskPGD, ta.WorstTaskPGD)]
    assert len(ta.MultiAttack(attacks).attacks) == 2
    with pytest.raises(ValueError, match="same tasks"):
        ta.MultiAttack([attacks[0], ta.WorstTaskPGD(net, [tasks.segmentation("seg", 5, ignore_index=0)])])
