"""Models of transformers and timm, made from their configurations: nothing is downloaded. `make libraries`
installs both and runs these tests.
"""

import numpy as np
import pytest
import torch
from torch import nn

from art_mtl import PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import WorstTaskPGD
from art_mtl.torchattacks import WorstTaskPGD as TorchWorstTaskPGD

X = np.random.default_rng(0).uniform(size=(3, 3, 32, 32)).astype(np.float32)


def both_fronts_raise_every_loss(model, told):
    """Labels are the model's own; every task is worse off after each front's attack."""
    model = model.eval()
    estimator = PyTorchMultiTaskEstimator(model, told, (3, 32, 32), clip_values=(0, 1), device_type="cpu")
    y = estimator.own_labels(X)
    before = estimator.compute_losses(X, y)
    attack = WorstTaskPGD(estimator, eps=0.1, max_iter=5, verbose=False)
    other = TorchWorstTaskPGD(model, told, eps=0.1, steps=5)
    for found in (attack.generate(X, y), other(torch.tensor(X), y).numpy()):
        after = estimator.compute_losses(found, y)
        assert all(after[task.name].mean() > before[task.name].mean() for task in told)


def test_a_model_output_of_transformers():
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8
    )
    model = transformers.ViTModel(config)
    told = [
        tasks.classification("kind", 16, output="pooler_output"),
        tasks.regression("first", output=lambda out: out.last_hidden_state[:, 0]),
    ]
    both_fronts_raise_every_loss(model, told)


def test_a_trunk_of_timm_with_three_heads():
    timm = pytest.importorskip("timm", reason="needs timm")

    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk = timm.create_model("resnet18", pretrained=False, num_classes=0)
            self.kind, self.age, self.tags = (nn.Linear(self.trunk.num_features, k) for k in (5, 1, 12))

        def forward(self, x):
            found = self.trunk(x)
            return {"kind": self.kind(found), "age": self.age(found), "tags": self.tags(found)}

    torch.manual_seed(0)
    told = [tasks.classification("kind", 5), tasks.regression("age"), tasks.multilabel("tags", 12)]
    both_fronts_raise_every_loss(Heads(), told)
