"""Which samples of a run are kept to be shown, and that those are shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from art_mtl import PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MultiTaskPGD
from art_mtl.evaluation import Callback, evaluate
from art_mtl.evaluation.examples import Examples, degradation_order, extreme_samples
from art_mtl.evaluation.report.gallery import Gallery, most_degraded

NAN = float("nan")


def test_samples_are_ordered_by_their_safest_task_then_by_their_mean() -> None:
    deltas = np.array([[-0.2, -0.9], [-0.2, -0.3], [NAN, -0.7], [NAN, NAN], [5.0, -1.0], [0.0, -0.5]])
    assert degradation_order(deltas) == [2, 0, 1, 4, 5]
    assert degradation_order(np.full((3, 2), NAN)) == []


def test_large_samples_are_fewer_and_none_comes_twice() -> None:
    deltas = -np.linspace(0, 1, 9)[:, None]
    assert extreme_samples(deltas, size=1) == [0, 1, 2, 8, 7, 6]
    assert extreme_samples(deltas, size=1 << 20) == [0, 1, 8, 7]
    assert extreme_samples(deltas, size=1 << 30) == [0, 8]
    for count, expected in ((1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (5, [0, 1, 2, 4, 3])):
        found = extreme_samples(deltas[:count], size=1)
        assert found == expected or sorted(found) == sorted(expected)
        assert len(set(found)) == len(found) == count
        assert found[0] == 0 and (count == 1 or found[most_degraded_place(found)] == count - 1)


def most_degraded_place(found: list[int]) -> int:
    return most_degraded([None] * len(found))  # type: ignore[list-item]


@pytest.mark.parametrize("size", [1, 4, 7])
def test_the_extremes_of_all_chunks_are_those_of_the_whole(size: int) -> None:
    draw = np.random.default_rng(size)
    deltas = -draw.integers(0, 5, (23, 2)) / 4.0  # with many equals
    inputs = draw.normal(size=(23, 3)).astype(np.float32)
    parts = []
    for start in range(0, 23, size):
        chosen = [start + i for i in extreme_samples(deltas[start : start + size], inputs[0].nbytes)]
        parts.append(Examples(tuple(chosen), inputs[chosen]))
    whole = Examples.joined(parts, deltas)
    assert list(whole.samples) == extreme_samples(deltas, inputs[0].nbytes)
    np.testing.assert_array_equal(whole.inputs, inputs[list(whole.samples)])


class Scaled(torch.nn.Module):
    """Depth, the input times what its corner says: so much more does an attack harm."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"depth": 1 + x * 10 * x[:, :, :1, :1].detach()}


# What the corner of each sample holds; the first sample is neither the least nor the most degraded one.
HARM = [0.50, 0.30, 0.70, 0.20, 0.60, 0.40, 0.80, 0.45, 0.55]


@pytest.mark.parametrize("form", ["memory", "stored", "resumed"])
def test_a_gallery_shows_the_least_and_the_most_degraded_samples(form: str, tmp_path: Path) -> None:
    estimator = PyTorchMultiTaskEstimator(
        Scaled(), tasks=[tasks.depth("depth")], input_shape=(1, 4, 4), clip_values=(0.0, 1.0), device_type="cpu"
    )
    x = np.full((len(HARM), 1, 4, 4), 0.5, dtype=np.float32)
    x[:, 0, 0, 0] = HARM
    y = {"depth": estimator.predict(x)["depth"] - 0.5}
    attack = MultiTaskPGD(estimator, eps=0.1, max_iter=2, verbose=False)
    heard: dict[str, Examples] = {}

    class Listener(Callback):
        def on_attack(self, result, examples):
            heard[result.name] = examples

    options = {"chunk": 4, "progress": False, "callbacks": [Listener()], "keep_adversarial": True}
    out = None if form == "memory" else tmp_path
    run = evaluate(estimator, {"a": attack}, (x, y), out=out, **options)
    if form == "resumed":
        run = evaluate(estimator, {"a": attack}, (x, y), out=out, **options)
    expected = extreme_samples(np.array(run["a"].sample_deltas, dtype=float), x[0].nbytes)
    harm = np.array(run["a"].sample_deltas)[:, 0]
    assert len(set(harm.tolist())) == len(HARM) and 0 not in expected
    assert expected == [*np.argsort(-harm)[:3], *np.argsort(harm)[:3]]
    assert list(heard["a"].samples) == expected
    np.testing.assert_array_equal(heard["a"].inputs, run.adversarial("a")[expected])

    gallery: Gallery = run._live.gallery
    (block,) = run.results.blocks()
    samples = gallery.drawn(run["a"])
    assert [sample.place for sample in samples] == expected
    for sample, (_, clean, attacked) in zip(samples, gallery.views(run["a"]), strict=True):
        before, after = x[sample.place], run.adversarial("a")[sample.place]
        np.testing.assert_array_equal(clean.image, before)
        np.testing.assert_array_equal(attacked.image, after)
        np.testing.assert_allclose(sample.clean[..., 0], 255 * before[0], atol=0.51)
        np.testing.assert_allclose(sample.attacked[..., 0], 255 * after[0], atol=0.51)
        np.testing.assert_allclose(sample.perturbation[..., 0], (after - before)[0], rtol=1e-3, atol=1e-7)
    title = gallery.figure(run.results, block).get_suptitle()
    assert title.startswith(f"Sample {int(np.argmin(harm))}, the most degraded")


def test_inputs_that_are_no_pictures_have_no_gallery(tmp_path: Path) -> None:
    model = torch.nn.Linear(4, 3)
    estimator = PyTorchMultiTaskEstimator(model, tasks=[tasks.classification("kind", 3)], input_shape=(4,),
                                          clip_values=(0.0, 1.0), device_type="cpu")  # fmt: skip
    x = np.random.default_rng(0).uniform(size=(5, 4)).astype(np.float32)
    attack = MultiTaskPGD(estimator, eps=0.1, max_iter=1, verbose=False)
    run = evaluate(estimator, [attack], (x, {"kind": estimator.predict(x)["kind"].argmax(1)}), progress=False)
    assert not any(run._live.gallery.shows(block) for block in run.results.blocks())
    files = run.report(tmp_path / "report")
    assert "report.html" in {path.name for path in files} and not [path for path in files if "example" in path.name]
    assert "<h2>Samples</h2>" not in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
