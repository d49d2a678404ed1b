"""torchvision's detectors, of random weights on small images, in both fronts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import art_mtl.torchattacks as ta
from art_mtl import PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MultiTaskPGD

models = pytest.importorskip("torchvision.models.detection")

SMALL = {"weights": None, "weights_backbone": None, "num_classes": 3}
FEW = {"min_size": 64, "max_size": 64, "rpn_pre_nms_top_n_test": 200, "rpn_post_nms_top_n_test": 50}
MAKE = {
    "faster_rcnn": lambda: models.fasterrcnn_mobilenet_v3_large_320_fpn(**SMALL, **FEW),
    "mask_rcnn": lambda: models.maskrcnn_resnet50_fpn(**SMALL, **FEW, box_detections_per_img=3),
    "keypoint_rcnn": lambda: models.keypointrcnn_resnet50_fpn(
        **SMALL, **FEW, box_detections_per_img=3, num_keypoints=3
    ),
    "retinanet": lambda: models.retinanet_resnet50_fpn(**SMALL, min_size=64, max_size=64, score_thresh=0.0),
    "fcos": lambda: models.fcos_resnet50_fpn(**SMALL, min_size=64, max_size=64, score_thresh=0.0),
    "ssd": lambda: models.ssdlite320_mobilenet_v3_large(**SMALL),
}


def enliven(model, x):
    """Scale each layer so that what comes out of it has a spread of 1: else random weights give one score to all."""

    def scale(layer, inputs, out):
        spread = out.std()
        if spread > 0:
            layer.weight.data /= spread
            return layer._conv_forward(inputs[0], layer.weight, layer.bias) if out.ndim == 4 else layer(inputs[0])
        return out

    layers = [m for m in model.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    hooks = []
    for layer in layers:
        if layer.bias is not None:
            layer.bias.data.zero_()
        hooks.append(layer.register_forward_hook(lambda m, i, o: o if m in done else (done.add(m), scale(m, i, o))[1]))
    done = set()
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return model


def test_the_fronts_attack_the_points_of_keypoint_rcnn_and_its_boxes():
    torch.manual_seed(0)
    x = np.random.default_rng(0).uniform(size=(2, 3, 64, 64)).astype(np.float32)
    model = enliven(MAKE["keypoint_rcnn"]().eval(), torch.tensor(x))
    told = [tasks.keypoints("pose", 3, normalise=64.0), tasks.detection("things", 3, score_threshold=0.3)]
    host = PyTorchMultiTaskEstimator(model, told, (3, 64, 64), clip_values=(0, 1), device_type="cpu")
    with torch.no_grad():
        raw = model(torch.tensor(x))
    best = [int(one["scores"].argmax()) for one in raw]
    own = host.own_labels(x)
    for points, one, place in zip(own["pose"], raw, best, strict=True):
        seen = (one["keypoints_scores"][place] > 0).numpy()
        np.testing.assert_allclose(points[seen], one["keypoints"][place, seen, :2], atol=1e-4)
        assert np.isnan(points[~seen]).all()
    y = {"pose": np.stack([one["keypoints"][place, :, :2].numpy() + 3 for one, place in zip(raw, best, strict=True)])}
    y["things"] = own["things"]
    before = host.compute_losses(x, y)["pose"]
    np.testing.assert_allclose(before, 3 * np.sqrt(2) / 64, rtol=1e-4)
    gradient = host.loss_gradient(x, y)
    assert np.isfinite(gradient).all() and (gradient != 0).any()
    adversarial = {
        "art": MultiTaskPGD(host, eps=0.05, max_iter=2, verbose=False).generate(x, y),
        "torchattacks": ta.MultiTaskPGD(model, told, eps=0.05, steps=2)(torch.tensor(x), y).numpy(),
    }
    for z in adversarial.values():
        assert (host.compute_losses(z, y)["pose"] > before).all() and np.abs(z - x).max() <= 0.05 + 1e-6


@pytest.mark.parametrize("name", MAKE)
def test_the_fronts_attack_it(name):
    torch.manual_seed(0)
    x = np.random.default_rng(0).uniform(size=(2, 3, 64, 64)).astype(np.float32)
    model = enliven(MAKE[name]().eval(), torch.tensor(x))
    task = tasks.detection("things", 3, score_threshold=0.3, metric="recall", image_size=(64, 64))
    host = PyTorchMultiTaskEstimator(model, [task], (3, 64, 64), clip_values=(0, 1), device_type="cpu")
    # What the model finds is what there is.
    y = {"things": [{key: value[:2] for key, value in one.items()} for one in host.own_labels(x)["things"]]}
    assert all(len(labels["boxes"]) for labels in y["things"])
    target = task.targets(y["things"])
    before = task.loss(task.check_output(host.raw_outputs(x)[0], target), target)
    adversarial = {
        "art": MultiTaskPGD(host, eps=0.05, max_iter=2, verbose=False).generate(x, y),
        "torchattacks": ta.MultiTaskPGD(model, [task], eps=0.05, steps=2)(torch.tensor(x), y).numpy(),
    }
    for z in adversarial.values():
        after = task.loss(task.check_output(host.raw_outputs(z)[0], target), target)
        assert (after > before).all() and np.abs(z - x).max() <= 0.05 + 1e-6
