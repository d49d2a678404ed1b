"""A model of your own: it returns a tuple, and one of its tasks is of a kind that the package does not know.

The model looks at a picture of a compass: which way does the needle point (an angle, so 359° and 1° are close), and is
it painted or not? This file is also a victim for the benchmark command:

    art-mtl benchmark --victim examples/own_model.py:victim --eps 0.15 --out results/compass
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from art_mtl import PyTorchMultiTaskEstimator, Task, tasks
from art_mtl.attacks import MinMaxMultiTaskPGD
from art_mtl.evaluation import evaluate


class Compass(nn.Module):
    """Returns a tuple: cosine and sine of the heading ``(B, 2)``, logits of "painted" ``(B, 2)``."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU())
        self.heading = nn.Linear(32 * 16, 2)
        self.painted = nn.Linear(32 * 16, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(x).flatten(1)
        return self.heading(features), self.painted(features)


def degrees_off(output: Tensor, target: Tensor) -> Tensor:
    """Angle between the predicted and the true heading, ``(B,)``, in degrees; ``target`` is in degrees, ``(B,)``."""
    true = torch.stack([torch.cos(torch.deg2rad(target)), torch.sin(torch.deg2rad(target))], 1)
    cosine = nn.functional.cosine_similarity(output, true).clamp(-1 + 1e-6, 1 - 1e-6)
    return torch.rad2deg(torch.arccos(cosine))


def compass_tasks() -> list[Task]:
    """Outputs are picked by position in the tuple, because neither task says otherwise."""
    heading = tasks.custom(
        "heading", loss=degrees_off, floor=1.0, decode=lambda o: torch.rad2deg(o[:, 1].atan2(o[:, 0]))
    )
    return [heading, tasks.classification("painted", num_classes=2)]


def pictures(count: int, seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Needles on a 16×16 picture in [0, 1], with headings in degrees."""
    generator = torch.Generator().manual_seed(seed)
    heading = 360 * torch.rand(count, generator=generator)
    painted = torch.randint(0, 2, (count,), generator=generator)
    grid = torch.linspace(-1, 1, 16)
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    c, s = (f(torch.deg2rad(heading)).view(-1, 1, 1) for f in (torch.cos, torch.sin))
    along, across = c * x - s * y, s * x + c * y
    needle = torch.sigmoid(20 * along) * torch.exp(-20 * across**2)
    level = (0.5 + 0.3 * painted.view(-1, 1, 1)) * needle
    noise = 0.05 * torch.randn(level.shape, generator=generator)
    return (level + noise).clamp(0, 1)[:, None], {"heading": heading, "painted": painted}


def train() -> Compass:
    """A few seconds of training."""
    torch.manual_seed(0)
    model, jobs = Compass(), compass_tasks()
    x, y = pictures(2000, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(15):
        for index in torch.randperm(len(x)).split(64):
            outputs = model(x[index])
            targets = [task.targets(y[task.name][index]) for task in jobs]
            losses = [task.loss(o, t).mean() for task, o, t in zip(jobs, outputs, targets, strict=True)]
            optimizer.zero_grad()
            (losses[0] / 30 + losses[1]).backward()
            optimizer.step()
    return model.eval()


def victim() -> tuple[nn.Module, list[Task], Tensor, dict[str, Tensor], tuple[float, float]]:
    """Model, tasks, inputs, labels, clip values: what ``--victim FILE:function`` asks for."""
    return train(), compass_tasks(), *pictures(200, seed=1), (0.0, 1.0)


if __name__ == "__main__":
    model, jobs, images, labels, clip_values = victim()
    estimator = PyTorchMultiTaskEstimator(model, tasks=jobs, input_shape=(1, 16, 16), clip_values=clip_values)
    attack = MinMaxMultiTaskPGD(estimator, eps=0.15, max_iter=10, verbose=False)
    run = evaluate(estimator, {"min-max": attack}, (images.numpy(), labels), progress=False)
    print(run)
    for task, attacked in zip(run.results.tasks, run["min-max"].values, strict=True):
        print(f"{task.name}: {task.metric} {task.clean:.2f} clean, {attacked:.2f} attacked")
    print(f"Δ_MTL {100 * run['min-max'].delta_mtl:.1f} %, Δ_Wor {100 * run['min-max'].delta_wor:.1f} %")
