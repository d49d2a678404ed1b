"""Times side by side: variants shuffled within each round, ratios round by round, medians and quartiles."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

Variants = Mapping[str, Callable[[], object]]


@dataclass(frozen=True)
class Ratio:
    """How long a variant takes, relative to another, over the rounds.

    Attributes:
        name: Of the variant.
        seconds: Median of its own times.
        low: First quartile of the ratios.
        median: Of the ratios.
        high: Third quartile.
    """

    name: str
    seconds: float
    low: float
    median: float
    high: float


def compare(
    variants: Variants, base: str, rounds: int, device: torch.device, seed: int = 0, warm_up: bool = True
) -> list[Ratio]:
    """Run every variant once a round, in an order drawn anew each round, so that a drift of the machine hits all alike.

    Times are of the process on a CPU, which other processes disturb least, and on the wall, after waiting for the
    device, on a GPU.

    Args:
        variants: Name to what is timed.
        base: Name of the one that the others are divided by.
        rounds: Number of rounds, at least 2.
        device: Where the work is done.
        seed: Of the order.
        warm_up: Run each variant once before.

    Returns:
        One for each variant, in order.

    Examples:
        >>> variants = {"one": lambda: sum(range(1000)), "same": lambda: sum(range(1000))}
        >>> [ratio.name for ratio in compare(variants, "one", 3, torch.device("cpu"))]
        ['one', 'same']
    """
    if rounds < 2:
        raise ValueError(f"Parameter `rounds` should be at least 2, for there to be quartiles. Found {rounds}.")
    if base not in variants:
        raise ValueError(f"Parameter `base` should be one of {list(variants)}. Found {base!r}.")
    order = random.Random(seed)
    for run in variants.values() if warm_up else ():
        run()
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name in order.sample(list(variants), len(variants)):
            times[name].append(_seconds(variants[name], device))
    return [_ratio(name, own, times[base]) for name, own in times.items()]


def _ratio(name: str, own: list[float], base: list[float]) -> Ratio:
    ratios = [max(a, 1e-9) / max(b, 1e-9) for a, b in zip(own, base, strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Ratio(name, statistics.median(own), low, median, high)


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    if device.type != "cuda":
        start = time.process_time()
        run()
        return time.process_time() - start
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    torch.cuda.synchronize(device)
    return time.perf_counter() - start
