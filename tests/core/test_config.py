"""The options of an attack together: what does not go together is refused, and what a run is told follows from them."""

from __future__ import annotations

import math
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from art_mtl import tasks
from art_mtl.core import make_method
from art_mtl.core.config import NUDGE, AttackConfig
from art_mtl.core.options import METHOD_PARTS

CPU = torch.device("cpu")
DECIDES = (tasks.classification("kind", 3),)
JOBS = (*DECIDES, tasks.regression("size"))


def config(method="equal", norm=math.inf, eps=0.1, **options):
    return AttackConfig(method, norm, eps, **options)


# --- together ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_size": 0.1, "parts": {"schedule": "auto"}}, "'auto' has a step size of its own; leave `alpha` out"),
        ({"momentum": 0.5, "parts": {"schedule": "auto"}}, "'auto' has a momentum of its own"),
        ({"l1_step": "one-pixel"}, "`l1_step` is for the norm 1.*Found 'one-pixel' for the norm inf"),
        ({"l1_step": "one-pixel", "norm": 2.0}, "`l1_step` is for the norm 1.*for the norm 2"),
        ({"l1_step": "one-pixel", "norm": 1.0, "parts": {"schedule": "auto"}}, "`l1_step` is for the norm 1 and a sch"),
        ({"eps": np.ones((1, 3, 2, 2)), "norm": 2.0}, "`radius` should be one number a sample.*for L2"),
        ({"step_size": np.ones(3), "norm": 1.0}, r"`alpha` should be one number a sample.*Found shape \(3,\)"),
        ({"parts": {"weight_scope": "batch"}}, "'equal' has weights that do not depend on the samples"),
        ({"parts": {"gamma": 0.5}}, "`gamma` belongs to the min-max"),
    ],
)
def test_what_does_not_go_together_is_refused_by_the_hosts_names(options, message):
    with pytest.raises(ValueError, match=message):
        config(**options).check(JOBS, "radius", "alpha")


@pytest.mark.parametrize(
    "options",
    [
        {"eps": np.ones((4, 1, 1, 1)), "norm": 2.0, "step_size": np.ones((4, 1, 1, 1))},
        {"eps": np.ones((1, 3, 2, 2))},
        {"l1_step": "one-pixel", "norm": 1.0},
        {"momentum": 0.5, "parts": {"schedule": "linear"}},
        {"method": "minmax", "parts": {"weight_scope": "batch", "weight_group": 4, "gamma": 0.5}},
        {"method": "worst-task", "default_scope": "batch", "parts": {"keep": "last"}},
    ],
)
def test_what_goes_together_makes_the_method(options):
    parts = dict(options.get("parts", {}))
    extra = {name: options[name] for name in ("momentum", "default_scope") if name in options}
    expected = make_method(options.get("method", "equal"), JOBS, **parts, **extra)
    assert config(**options).check(JOBS) == config(**options).assemble(JOBS) == expected


def test_a_first_step_of_the_host_takes_the_place_of_the_methods_own():
    assert config("stealthy:kind", first_step=0.2).assemble(JOBS).first_step == 0.2
    assert config("stealthy:kind").assemble(JOBS).first_step == 0.3


def test_an_attack_object_is_read_by_its_hosts_names():
    parts = dict.fromkeys(METHOD_PARTS) | {"gamma": 0.25}
    attack = SimpleNamespace(norm="L2", eps=0.5, alpha=0.1, max_iter=7, seed=3, random_start=True, **parts)
    names = {"step_size": "alpha", "steps": "max_iter", "restarts": "num_random_init"}
    found = AttackConfig.of(attack, names, method="minmax", eps=0.25)
    assert found == config("minmax", 2.0, 0.25, step_size=0.1, steps=7, random_start=True, seed=3, parts=parts)
    assert found.assemble(JOBS).weighting.gamma == 0.25


# --- grey levels ---


@pytest.mark.parametrize("eps", [8, 8.0, np.full((2, 1, 1, 1), 8.0)])
def test_a_radius_in_grey_levels_is_asked_about(eps):
    said = "Parameter `radius` is 8, more than the width 1 of the inputs' range.*Did you mean 8/255?"
    with pytest.warns(RuntimeWarning, match=said) as caught:
        config(eps=eps).warn_of_grey_levels((0.0, 1.0), "radius")
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("norm", "eps", "bounds"),
    [
        (math.inf, 1.0, (0.0, 1.0)),
        (math.inf, 8 / 255, (0.0, 1.0)),
        (math.inf, 8, (0.0, 255.0)),
        (math.inf, 8, (-math.inf, math.inf)),
        (math.inf, 8, (torch.zeros(3, 1, 1), torch.tensor([1.0, 1.0, 9.0]).view(3, 1, 1))),
        (2.0, 8, (0.0, 1.0)),
        (1.0, 8, (0.0, 1.0)),
    ],
)
def test_other_radii_are_not(norm, eps, bounds):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config(norm=norm, eps=eps).warn_of_grey_levels(bounds)


# --- what a run is told ---


@pytest.mark.parametrize(
    ("jobs", "own_labels", "random_start", "start"),
    [
        (JOBS, False, False, 0.0),
        (JOBS, False, True, 1.0),
        (JOBS, True, True, 1.0),
        (JOBS, True, False, NUDGE),
        (DECIDES, True, False, 0.0),
    ],
)
def test_own_labels_of_an_error_are_left_by_a_nudge(jobs, own_labels, random_start, start):
    found = config(random_start=random_start).run_config(jobs, own_labels, CPU)
    assert found.start == start and (found.generator is not None) == (start == NUDGE)


def test_the_seed_decides_the_generator():
    calls = [(3, False), (3, True), (4, False), (None, True)]
    generators = [config(seed=seed).run_config(JOBS, own_labels, CPU).generator for seed, own_labels in calls]
    draws = [torch.rand(2, generator=generator).tolist() for generator in generators]
    assert draws[0] == draws[1] and draws[0] != draws[2]
    assert draws[3] == torch.rand(2, generator=torch.Generator().manual_seed(0)).tolist()
    assert config().run_config(JOBS, False, CPU).generator is None


def test_numbers_of_any_library_become_plain_ones():
    options = {"steps": np.int64(7), "restarts": np.int64(0), "targeted": np.bool_(True), "l1_step": "one-pixel"}
    found = config(**options).run_config(JOBS, False, CPU, channels_first=False)
    assert (found.steps, found.restarts, found.targeted) == (7, 1, True) and type(found.steps) is int
    assert found.l1_step == "one-pixel" and not found.channels_first
