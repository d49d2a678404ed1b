"""Chunks of a data set, over which weights are shared, are even: none is too small to know what it should do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from art_mtl import tasks
from art_mtl.evaluation import load_victim


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(3, 4), nn.Linear(3, 1)

    def forward(self, x):
        return {"k": 5 * self.a(x), "v": self.b(x)}


JOBS = [tasks.classification("k", 4), tasks.regression("v")]


def tiny_data(size):
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.uniform(size=(size, 3)).astype(np.float32))
    return x, {"k": np.arange(size) % 4, "v": rng.normal(size=(size, 1)).astype(np.float32)}


def part_of(data, part):
    x, y = data
    return x[part], {name: labels[part] for name, labels in y.items()}


def sizes(attack, run):
    """How many samples each batch of a call holds."""
    seen = []
    attack.observer = lambda record: seen.append(len(record.inputs)) if record.step == 0 else None
    run()
    attack.observer = None
    return seen


@pytest.mark.parametrize(
    ("samples", "chunk", "batch", "expected"),
    [
        (257, None, 256, [132, 125]),
        (513, None, 256, [172, 172, 169]),
        (256, None, 256, [256]),
        (100, None, 256, [100]),
        (65, 64, 64, [36, 29]),
        (66, 64, 20, [20, 16, 20, 10]),
        (9, 4, 4, [3, 3, 3]),
        (5, 2, 2, [2, 2, 1]),
        (12, 4, 3, [3, 1, 3, 1, 3, 1]),
    ],
)
def test_a_call_is_cut_evenly(art, samples, chunk, batch, expected):
    x, y = tiny_data(samples)
    attack = art.make("WorstTaskPGD", Tiny(), JOBS, shape=(3,), steps=1, batch_size=batch, weight_group=chunk)
    assert sizes(attack, lambda: art.run(attack, x, y)) == expected


def test_a_chunk_is_attacked_as_if_it_were_alone(art):
    """An independent derivation of where the cuts are, beside the sizes."""
    data, net = tiny_data(65), Tiny()
    options = {"shape": (3,), "steps": 6, "eps": 0.3, "batch_size": 64}
    attack = art.make("WorstTaskPGD", net, JOBS, weight_group=64, **options)
    parts = [
        art.run(art.make("WorstTaskPGD", net, JOBS, **options), *part_of(data, s)) for s in (slice(36), slice(36, 65))
    ]
    assert torch.equal(art.run(attack, *data), torch.cat(parts))


@pytest.mark.parametrize(
    ("batches", "chunks"),
    [
        ([128, 128, 1], [0, 0, 0]),
        ([128, 128, 64], [0, 0, 0]),
        ([128, 128, 65], [0, 0, 1]),
        ([128, 128, 128], [0, 0, 1]),
        ([256, 1, 256], [0, 0, 1]),
        ([256, 256], [0, 1]),
        ([300, 1], [0, 1]),
    ],
)
def test_a_stream_lets_a_few_samples_join(for_torchattacks, batches, chunks):
    """A chunk of 256 takes a few more at its end. What begins one of its own is attacked as by a fresh attack."""
    data, net = tiny_data(sum(batches)), Tiny()
    attack = for_torchattacks.make("WorstTaskPGD", net, JOBS, steps=6, eps=0.3)
    starts = np.cumsum([0, *batches])
    parts = [part_of(data, slice(start, start + size)) for start, size in zip(starts, batches, strict=False)]
    found = [attack(*part) for part in parts]
    for chunk in set(chunks):
        attack.reset()
        alone = [attack(*part) for part, own in zip(parts, chunks, strict=True) if own == chunk]
        assert torch.equal(
            torch.cat(alone), torch.cat([f for f, own in zip(found, chunks, strict=True) if own == chunk])
        )


def degradations(victim, x, adversarial, y):
    """What each task has lost over these images, by its own metric, in (−∞, 1]."""
    found = []
    with torch.no_grad():
        for position, task in enumerate(victim.tasks):
            target = task.targets(y[task.name])
            clean, now = (
                task.metric.value(
                    task.statistics(task.check_output(task.select(victim.model(z), position), target), target).sum(0)
                )
                for z in (x, adversarial)
            )
            found.append((1 - now / clean if task.higher_is_better else 1 - clean / now).item())
    return found


def test_the_last_sample_is_attacked_no_more_weakly_than_the_others(front):
    """33 digits in chunks of 32, each of 16 digits the last one in turn: alone, a sample has weights of its own."""
    victim = load_victim("digits")
    victim.model.eval()
    x, y = victim.data("test", 33)
    x = torch.from_numpy(x)
    options = {"eps": 0.08, "steps": 10, "shape": tuple(x.shape[1:])}
    last = []
    for turn in range(16):
        order = np.roll(np.arange(33), turn)
        inputs, labels = part_of((x, y), order)
        attack = front.make("WorstTaskPGD", victim.model, victim.tasks, weight_group=32, **options)
        if front.name == "art":
            last.append(front.run(attack, inputs, labels)[-1])
        else:
            attack(*part_of((inputs, labels), slice(32)))
            last.append(attack(*part_of((inputs, labels), slice(32, 33)))[0])
    index = [np.roll(np.arange(33), turn)[-1] for turn in range(16)]
    found = torch.stack(last)
    whole = front.run(front.make("WorstTaskPGD", victim.model, victim.tasks, weight_group=64, **options), x, y)
    alone = torch.cat(
        [
            front.run(front.make("WorstTaskPGD", victim.model, victim.tasks, **options), *part_of((x, y), [i]))
            for i in index
        ]
    )
    chosen = part_of((x, y), index)
    worst = {
        name: min(degradations(victim, chosen[0], adversarial, chosen[1]))
        for name, adversarial in (("last", found), ("together", whole[index]), ("alone", alone))
    }
    assert worst["last"] >= worst["together"] - 0.05
    assert worst["alone"] < worst["together"] - 0.1, "or it would not matter"
