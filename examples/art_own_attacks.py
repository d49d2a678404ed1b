"""ART's own attacks and adversarial trainer on a model of two tasks.

The model and the images are made here, so this runs in seconds: each image shows a bright square, the model says in
which corner it is (classification) and how bright (regression). What it prints also shows what these attacks lack: the
sum of the losses follows the task that is easiest to hurt, and the other stays nearly whole.
"""

from __future__ import annotations

import numpy as np
import torch
from art.attacks.evasion import AutoProjectedGradientDescent, FastGradientMethod, ProjectedGradientDescent, SquareAttack
from art.defences.trainer import AdversarialTrainer

from art_mtl import tasks
from art_mtl.estimators import PyTorchMultiTaskEstimator
from art_mtl.labels import MultiTaskLabels

EPS = 0.15


class CornerNet(torch.nn.Module):
    """One trunk, two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = torch.nn.Sequential(
            torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.AvgPool2d(3), torch.nn.Flatten()
        )
        self.corner = torch.nn.Linear(128, 4)
        self.brightness = torch.nn.Linear(128, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.trunk(x)
        return {"corner": self.corner(hidden), "brightness": self.brightness(hidden)}


def make_data(n: int, rng: np.random.Generator) -> tuple[np.ndarray, MultiTaskLabels]:
    """Noisy images ``(n, 1, 12, 12)`` in [0, 1] with a square in one corner."""
    corner, brightness = rng.integers(0, 4, n), rng.uniform(0.5, 1.0, n)
    x = rng.uniform(0, 0.3, (n, 1, 12, 12))
    for image, where, value in zip(x, corner, brightness, strict=True):
        row, column = 6 * (where // 2), 6 * (where % 2)
        image[0, row + 1 : row + 5, column + 1 : column + 5] = value
    return x.astype(np.float32), MultiTaskLabels({"corner": corner, "brightness": brightness.astype(np.float32)})


def report(name: str, estimator: PyTorchMultiTaskEstimator, x: np.ndarray, y: MultiTaskLabels) -> None:
    """One line: accuracy of the one task, mean absolute error of the other."""
    raw = estimator.predict(x)
    accuracy = (raw["corner"].argmax(1) == y["corner"]).mean()
    error = estimator.compute_losses(x, y, reduction="mean")["brightness"]
    print(f"{name:34s} corner: {100 * accuracy:5.1f} % right   brightness: off by {error:.3f}")


def main() -> None:
    """Train, attack, train against the attack."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002, ART draws from NumPy's global generator
    (x_train, y_train), (x, y) = (make_data(n, np.random.default_rng(seed)) for seed, n in ((1, 128), (2, 32)))

    model = CornerNet()
    estimator = PyTorchMultiTaskEstimator(
        model,
        [tasks.classification("corner", num_classes=4), tasks.regression("brightness")],
        input_shape=(1, 12, 12),
        clip_values=(0.0, 1.0),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.01),
    )
    estimator.fit(x_train, y_train, batch_size=32, nb_epochs=15)
    report("clean", estimator, x, y)

    # Attacks that follow the gradient of the summed losses.
    pgd = ProjectedGradientDescent(estimator, eps=EPS, eps_step=EPS / 3, max_iter=5, verbose=False)
    report("FastGradientMethod", estimator, FastGradientMethod(estimator, eps=EPS).generate(x, y=y), y)
    report("ProjectedGradientDescent", estimator, pgd.generate(x, y=y), y)

    # A black-box attack: it wants to know what to lower, and when an image is done.
    square = SquareAttack(
        estimator,
        loss=lambda x, y: -estimator.compute_loss(x, y),
        adv_criterion=lambda raw, y: raw["corner"].argmax(1) != y["corner"],
        eps=EPS,
        max_iter=20,
        verbose=False,
    )
    report("SquareAttack", estimator, square.generate(x, y=y), y)

    # An attack that asks for a classifier sees one head.
    view = estimator.task_view("corner")
    apgd = AutoProjectedGradientDescent(view, eps=EPS, eps_step=EPS / 4, max_iter=6, nb_random_init=1, verbose=False)
    report("AutoProjectedGradientDescent", estimator, apgd.generate(x, y=y["corner"]), y)

    AdversarialTrainer(estimator, pgd, ratio=0.5).fit(x_train, y_train, batch_size=32, nb_epochs=4)
    report("after AdversarialTrainer, clean", estimator, x, y)
    report("after AdversarialTrainer, PGD", estimator, pgd.generate(x, y=y), y)


if __name__ == "__main__":
    main()
