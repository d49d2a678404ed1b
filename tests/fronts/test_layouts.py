"""Inputs of any layout: channels last, signals, arrays of any memory order; torch's default device and type."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from torch import nn

from art_mtl import PyTorchMultiTaskEstimator, attacks, tasks
from art_mtl.core.searches.transforms import Brightness, Scale, Translate

KINDS = {
    "MultiTaskPGD": {"eps": 0.1, "steps": 4},
    "MinMaxMultiTaskPGD": {"eps": 0.1, "steps": 4},
    "WorstTaskPGD": {"norm": 2, "eps": 0.5, "steps": 4},
    "MultiTaskAutoPGD": {"norm": 1, "eps": 2.0, "steps": 6},
    "MultiTaskAutoAttack": {"eps": 0.05, "version": "fast"},
    "UniversalMultiTaskPGD": {"eps": 0.1, "steps": 4},
}
PATCHES = {
    "shared": {"size": (3, 2), "steps": 4},
    "each its own": {"size": (3, 2), "steps": 4, "shared": False},
    "transformed": {"size": (3, 2), "steps": 4, "transforms": [Translate(1), Scale(), Brightness()]},
    "by a mask": {"mask": np.eye(5, 6), "steps": 4},
}


class Images(nn.Module):
    """A class and a depth map of images ``(B, 3, 5, 6)``; ``last`` where their channels stand last."""

    def __init__(self, last=False):
        super().__init__()
        torch.manual_seed(0)
        self.last, self.trunk = last, nn.Conv2d(3, 6, 3, padding=1)
        self.dense, self.flat = nn.Conv2d(6, 1, 1), nn.Linear(6, 4)

    def forward(self, x):
        hidden = torch.tanh(3 * self.trunk(x.movedim(-1, 1).contiguous() if self.last else x))
        return {"k": 9 * self.flat(hidden.mean((2, 3))), "d": self.dense(hidden) + 2}


JOBS = [tasks.classification("k", 4), tasks.depth("d")]


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(5, 3, 5, 6)).astype(np.float32)
    return x, {"k": np.arange(5) % 4, "d": rng.uniform(1, 3, (5, 1, 5, 6)).astype(np.float32)}


def make(kind, last, options, **more):
    shape = (5, 6, 3) if last else (3, 5, 6)
    estimator = PyTorchMultiTaskEstimator(
        Images(last).eval(), JOBS, shape, (0, 1), channels_first=not last, device_type="cpu"
    )
    named = {"max_iter" if name == "steps" else name: value for name, value in options.items()}
    return getattr(attacks, kind)(estimator, verbose=False, **named, **more)


# --- channels last ---


@pytest.mark.parametrize(
    ("kind", "options"),
    [*KINDS.items(), *(("MultiTaskPatch", options) for options in PATCHES.values())],
    ids=[*KINDS, *(f"patch {name}" for name in PATCHES)],
)
def test_channels_last_give_what_channels_first_give(images, kind, options):
    x, y = images
    expected = make(kind, False, options).generate(x, y)
    found = make(kind, True, options).generate(np.ascontiguousarray(np.moveaxis(x, 1, -1)), y)
    np.testing.assert_allclose(np.moveaxis(found, -1, 1), expected, atol=1e-5)
    assert np.abs(expected - x).max() > 0.01


@pytest.mark.parametrize("shared", [True, False])
def test_a_patch_covers_rows_and_columns_not_channels(images, shared):
    x, y = np.moveaxis(images[0], 1, -1).copy(), images[1]
    attack = make("MultiTaskPatch", True, {"size": (3, 2), "location": (1, 4), "steps": 3, "shared": shared})
    changed = (attack.generate(x, y) != x).any((0, 3))
    expected = np.zeros((5, 6), bool)
    expected[1:4, 4:6] = True
    assert np.array_equal(changed, expected) and np.array_equal(attack.place, expected)
    with pytest.raises(ValueError, match="should lie inside the image of 5x6"):
        make("MultiTaskPatch", True, {"size": (3, 2), "location": (3, 0)})


# --- signals ---


class Signal(nn.Module):
    """A class and a number of signals ``(B, 2, 9)``, or of the same as images of one row."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trunk, self.head = nn.Conv1d(2, 6, 3, padding=1), nn.Linear(6, 5)

    def forward(self, x):
        out = self.head(torch.tanh(3 * self.trunk(x.reshape(len(x), 2, 9))).mean(2))
        return {"k": 9 * out[:, :4], "v": out[:, 4]}


@pytest.mark.parametrize("kind", KINDS)
def test_a_signal_is_attacked_as_an_image_of_one_row(front, kind):
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.uniform(size=(5, 2, 9)).astype(np.float32))
    y, jobs = {"k": np.arange(5) % 4, "v": rng.normal(size=5)}, [tasks.classification("k", 4), tasks.regression("v")]
    found, as_image = (front.attack(kind, Signal(), jobs, inputs, y, **KINDS[kind]) for inputs in (x, x[:, :, None]))
    assert torch.equal(found, as_image[:, :, 0]) and not torch.equal(found, x)


@pytest.mark.parametrize("kind", KINDS)
def test_so_is_a_vector(front, kind):
    class Vector(Signal):
        def forward(self, x):
            return super().forward(torch.cat([x.flatten(1), x.flatten(1)], 1))

    x = torch.from_numpy(np.random.default_rng(0).uniform(size=(5, 9)).astype(np.float32))
    y, jobs = {"k": np.arange(5) % 4, "v": np.ones(5)}, [tasks.classification("k", 4), tasks.regression("v")]
    found, as_image = (front.attack(kind, Vector(), jobs, z, y, **KINDS[kind]) for z in (x, x[:, None, None]))
    assert torch.equal(found, as_image[:, 0, 0]) and not torch.equal(found, x)


@pytest.mark.parametrize("shape", [(9,), (2, 9), (3, 2, 4, 4)])
def test_a_patch_needs_images(front, shape):
    x = torch.zeros(2, *shape)
    with pytest.raises(ValueError, match="A patch needs images of three dimensions"):
        front.attack("MultiTaskPatch", nn.Flatten(), [tasks.regression("v")], x, {"v": np.zeros((2, 9))}, size=(1, 1))


# --- memory ---

FORMS = {
    "flipped": lambda array: array[::-1],
    "columns flipped": lambda array: np.flip(array, -1),
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "Fortran order": np.asfortranarray,
    "read-only": lambda array: _read_only(array.copy()),
    "a part of a larger one": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
    "double": lambda array: array.astype(np.float64) if array.dtype.kind == "f" else array.astype(np.int16),
}


def _read_only(array):
    array.setflags(write=False)
    return array


@pytest.mark.parametrize("form", FORMS)
def test_arrays_of_any_form_are_taken(front, images, form):
    x, y = (FORMS[form](images[0]), {name: FORMS[form](labels) for name, labels in images[1].items()})
    plain = (
        np.array(x, np.float32, order="C"),
        {name: np.array(labels, labels.dtype.newbyteorder("="), order="C") for name, labels in y.items()},
    )

    def run(x, y):
        attack = front.make("MultiTaskPGD", Images().eval(), JOBS, shape=(3, 5, 6), eps=0.1, steps=3)
        if front.name == "art":
            return attack.generate(x, y)
        return attack(torch.from_numpy(np.array(x, np.float32)), y).numpy()

    before = np.array(x)
    assert np.array_equal(run(x, y), run(*plain)) and np.array_equal(x, before)


@pytest.mark.parametrize("kind", ["UniversalMultiTaskPGD", "MultiTaskPatch"])
def test_so_are_those_that_something_is_applied_to(images, kind):
    x, y = images
    attack = make(kind, False, {"UniversalMultiTaskPGD": {"eps": 0.1}, "MultiTaskPatch": {"size": (2, 2)}}[kind])
    attack.set_params(max_iter=2)
    attack.generate(x, y)
    for form in FORMS.values():
        assert np.array_equal(attack.apply(form(x)), attack.apply(np.array(form(x), np.float32)))


# --- torch's defaults ---


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


DEFAULTS = {
    "device": lambda: torch.device("meta"),
    "double": lambda: default_dtype(torch.float64),
    "half": lambda: default_dtype(torch.float16),
}


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("default", DEFAULTS)
@pytest.mark.parametrize("kind", [*KINDS, *PATCHES])
def test_torchs_defaults_change_nothing(front, images, kind, default, labelled):
    """The device "meta" stands for a GPU: what is made there by mistake fails."""
    x, y = torch.from_numpy(images[0]), images[1] if labelled else None
    name, options = (kind, KINDS[kind]) if kind in KINDS else ("MultiTaskPatch", PATCHES[kind])
    net = Images().eval()
    expected = front.attack(name, net, JOBS, x, y, **options)
    with DEFAULTS[default]():
        found = front.attack(name, net, JOBS, x, y, **options)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("default", DEFAULTS)
def test_nor_do_they_change_random_starts(front, images, default):
    x, y = torch.from_numpy(images[0]), images[1]
    options = {"eps": 0.1, "steps": 2, "restarts": 2, "seed": 0}
    net = Images().eval()
    expected = front.attack("MultiTaskPGD", net, JOBS, x, y, **options)
    with DEFAULTS[default]():
        assert torch.equal(front.attack("MultiTaskPGD", net, JOBS, x, y, **options), expected)
