"""What a step costs, relative to one forward and one backward pass to the input, side by side in one run.

Variants are shuffled within each round, so that a drift of the machine's speed hits all alike; figures are medians of
the ratios round by round, with the quartiles. Process CPU time on a CPU, wall time after synchronisation on a GPU.

    python examples/step_cost.py [--rounds 30] [--batch 8] [--steps 10] [--victim rooms] [--device cpu]
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from art.attacks.evasion import ProjectedGradientDescent
from torch import Tensor

from art_mtl import PyTorchMultiTaskEstimator
from art_mtl.attacks import MinMaxMultiTaskPGD, MultiTaskPGD, WorstTaskPGD
from art_mtl.core import frozen
from art_mtl.evaluation import load_victim
from art_mtl.projections import project_simplex


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--victim", default="rooms")
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu")
    arguments = parser.parse_args()

    variants = make_variants(arguments.victim, arguments.batch, arguments.steps, arguments.device)
    for run in variants.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(arguments.rounds):
        names = list(variants)
        random.shuffle(names)
        for name in names:
            times[name].append(timed(variants[name], arguments.device))

    limit = times[LIMIT]
    print(
        f"{arguments.victim}, batch {arguments.batch}, {arguments.steps} steps, {arguments.rounds} rounds, "
        f"torch {torch.__version__}"
    )
    print(f"limit: {1000 * statistics.median(limit) / arguments.steps:.2f} ms a step\n")
    print("| variant | time / limit | quartiles |\n| --- | --- | --- |")
    for name, seconds in times.items():
        ratios = [own / base for own, base in zip(seconds, limit, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"| {name} | {middle:.3f} | {low:.3f} – {high:.3f} |")


LIMIT = "one forward + one backward to the input (limit)"


def make_variants(victim_name: str, batch: int, steps: int, device: str) -> dict[str, Callable[[], object]]:
    """Everything that is timed, each on the same images and for the same number of steps."""
    victim = load_victim(victim_name)
    x, y = victim.data("test", batch)
    low, high = victim.clip_values
    eps = victim.eps["linf"][0]
    estimator = PyTorchMultiTaskEstimator(
        victim.model,
        tasks=victim.tasks,
        input_shape=victim.input_shape,
        clip_values=victim.clip_values,
        device_type=device,
    )
    images = torch.from_numpy(x).to(estimator.device)
    targets = [target.to(estimator.device) for target in estimator.targets(estimator.labels(y, batch), batch)]

    def losses(inputs: Tensor) -> list[Tensor]:
        outputs = estimator.forward_tasks(inputs)
        return [task.loss(o, t) for task, o, t in zip(victim.tasks, outputs, targets, strict=True)]

    def limit() -> None:
        with frozen(victim.model):
            for _ in range(steps):
                leaf = images.clone().requires_grad_(True)
                torch.autograd.grad(sum(loss.sum() for loss in losses(leaf)), leaf)

    def torchattacks_style() -> None:
        """A loop as torchattacks writes it: the sum of mean losses, parameters not frozen."""
        with frozen(victim.model):
            for parameter in victim.model.parameters():
                parameter.requires_grad_(True)
            adversarial = images.clone()
            for _ in range(steps):
                adversarial.requires_grad_(True)
                cost = sum(loss.mean() for loss in losses(adversarial))
                (gradient,) = torch.autograd.grad(cost, adversarial)
                adversarial = adversarial.detach() + eps / 4 * gradient.sign()
                delta = torch.clamp(adversarial - images, min=-eps, max=eps)
                adversarial = torch.clamp(images + delta, min=low, max=high).detach()
            for parameter in victim.model.parameters():
                parameter.requires_grad_(False)

    def two_forwards() -> None:
        """Algorithm 1 read literally: one forward for δ, another for w at the new δ."""
        with frozen(victim.model):
            adversarial, weights = images, torch.full((batch, len(victim.tasks)), 1 / len(victim.tasks)).to(images)
            for _ in range(steps):
                leaf = adversarial.clone().requires_grad_(True)
                value = (weights * torch.stack(losses(leaf), 1)).sum()
                (gradient,) = torch.autograd.grad(value, leaf)
                adversarial = (images + (leaf.detach() + eps / 4 * gradient.sign() - images).clamp(-eps, eps)).clamp(
                    low, high
                )
                with torch.no_grad():
                    slope = torch.stack(losses(adversarial), 1) + weights - 1 / len(victim.tasks)
                    weights = project_simplex(weights - slope / 30)

    arguments = {
        "norm": np.inf,
        "eps": eps,
        "eps_step": eps / 4,
        "max_iter": steps,
        "batch_size": batch,
        "verbose": False,
    }
    ours = {
        "ours: MinMaxMultiTaskPGD (Algorithm 1)": MinMaxMultiTaskPGD(estimator, **arguments),
        "ours: MultiTaskPGD('equal')": MultiTaskPGD(estimator, "equal", **arguments),
        "ours: WorstTaskPGD": WorstTaskPGD(estimator, **arguments),
        "ART's ProjectedGradientDescent on the same estimator": ProjectedGradientDescent(estimator, **arguments),
    }
    labels = estimator.labels(y, batch)
    variants: dict[str, Callable[[], object]] = {LIMIT: limit}
    for name, attack in ours.items():
        variants[name] = lambda attack=attack: attack.generate(x, labels)
    variants["torchattacks-style loop"] = torchattacks_style
    variants["Algorithm 1 with two forwards"] = two_forwards
    return variants


def timed(run: Callable[[], object], device: str) -> float:
    """Seconds of process time (CPU) or wall time (GPU)."""
    if device == "cpu":
        start = time.process_time()
        run()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
