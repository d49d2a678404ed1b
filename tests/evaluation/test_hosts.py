"""What is known of other packages' attacks: the norm and the radius that their classes make certain."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
import torchattacks

from art_mtl import PyTorchMultiTaskEstimator, tasks
from art_mtl.evaluation import evaluate
from art_mtl.evaluation.hosts import TORCHATTACKS_NORMS, HostedAttack, hosted

EPS = 0.03
SAYS = {"APGD", "APGDT", "AutoAttack", "FAB", "Square"}
"""Classes with an option `norm`."""
WITHOUT = {"VANILA", "GN", "JSMA", "EADL1", "EADEN", "CW", "DeepFool", "SparseFool", "OnePixel", "Pixle", "LGV"}
"""Classes without a radius, or of which it is not known before they run."""
SMALLER = {"SPSA": {"nb_iter": 1, "nb_sample": 4, "max_batch_size": 4}}


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(),
        torch.nn.Linear(16, 5),
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def data(net: torch.nn.Module) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    x = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    return x.numpy(), {"kind": net(x).argmax(1).numpy()}


def host(net: torch.nn.Module, attack: Any) -> HostedAttack:
    job = [tasks.classification("kind", 5)]
    return hosted(attack, PyTorchMultiTaskEstimator(net, job, (3, 12, 12), (0, 1), device_type="cpu"), 8)


def make(net: torch.nn.Module, name: str, **options: Any) -> Any:
    kind = getattr(torchattacks, name)
    radius = "eps" if "eps" in inspect.signature(kind.__init__).parameters else "max_epsilon"
    return kind(net, **{radius: EPS}, **SMALLER.get(name, {}), **options)


def test_every_class_of_torchattacks_is_known() -> None:
    assert {*TORCHATTACKS_NORMS, *SAYS, *WITHOUT, "MultiAttack"} == set(torchattacks.__all__)
    assert not {*TORCHATTACKS_NORMS} & {*SAYS, *WITHOUT}
    for name in torchattacks.__all__:
        own = inspect.signature(getattr(torchattacks, name).__init__).parameters
        assert ("norm" in own) == (name in SAYS), name
        assert bool({"eps", "max_epsilon"} & {*own}) == (name in {*TORCHATTACKS_NORMS, *SAYS}), name


@pytest.mark.parametrize("name", TORCHATTACKS_NORMS)
def test_a_class_fills_the_ball_of_its_norm(net, data, name: str) -> None:
    """Its perturbation, of 432 pixels, is as long as the radius in its norm, and longer in any smaller one."""
    x, y = (torch.from_numpy(part) for part in (data[0], data[1]["kind"]))
    attack = make(net, name)
    torch.manual_seed(0)
    away = (attack(x, y) - x).detach().flatten(1)
    largest, length = float(away.abs().max()), float(away.norm(dim=1).max())
    if TORCHATTACKS_NORMS[name] == "linf":
        assert largest <= EPS * (1 + 1e-5) and length > 2 * EPS
    else:
        assert EPS / 2 < length <= EPS * (1 + 1e-5)
    known = host(net, attack)
    assert (known.norm, known.eps) == (TORCHATTACKS_NORMS[name], EPS)


def test_attacks_of_torchattacks_that_say_their_norm_are_believed(net) -> None:
    for norm in ("Linf", "L2"):
        known = host(net, make(net, "APGD", norm=norm))
        assert (known.norm, known.eps) == (norm, EPS)


def test_several_attacks_of_one_norm_are_in_the_largest_ball(net) -> None:
    def of(*attacks: Any) -> tuple[Any, Any]:
        known = host(net, torchattacks.MultiAttack([*attacks]))
        return known.norm, known.eps

    pgd, wide = make(net, "PGD"), torchattacks.BIM(net, eps=2 * EPS)
    assert of(pgd, wide) == ("linf", 2 * EPS) and of(pgd, make(net, "APGD")) == ("linf", EPS)
    assert (
        of(pgd, make(net, "PGDL2")) == of(pgd, torchattacks.CW(net)) == of(torchattacks.GN(net), wide) == (None, None)
    )


def test_what_is_not_certain_is_not_stated(net) -> None:
    class PGD(torchattacks.PGD):
        """May do anything."""

    normalised = make(net, "PGD")
    normalised.set_normalization_used([0.5] * 3, [0.2] * 3)
    for attack in (PGD(net, eps=EPS), normalised, torchattacks.CW(net)):
        assert host(net, attack).norm is None


def test_the_ball_of_such_an_attack_is_checked_and_in_the_results(net, data, monkeypatch) -> None:
    def run() -> Any:
        attack = torchattacks.PGDL2(net, eps=EPS, steps=2)
        job = (net, [tasks.classification("kind", 5)])
        return evaluate(job, [attack], data, progress=False, device="cpu").results.attacks[0]

    found = run()
    assert (found.norm, found.eps) == ("l2", EPS) and found.perturbation == pytest.approx(EPS, rel=1e-3)
    monkeypatch.setattr(torchattacks.PGDL2, "forward", lambda self, images, labels: (images + EPS).clamp(max=1))
    with pytest.raises(ValueError, match="'PGDL2' should stay within eps = 0.03 .l2.. Found a perturbation of 0.6"):
        run()


# --- secml-torch ---


def secml_pgd(model: str, **options: Any) -> Any:
    from secmlt.adv.evasion.pgd import PGD

    return PGD(model, EPS, 2, 0.02, random_start=False, backend="native", **options)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_constraint_of_an_attack_of_secml_torch_tells(net, data, norm: str, monkeypatch) -> None:
    pytest.importorskip("secmlt")
    job = (net, [tasks.classification("kind", 5)])
    found = evaluate(job, [secml_pgd(norm)], data, progress=False, device="cpu").results.attacks[0]
    assert (found.norm, found.eps) == (norm, EPS) and 0 < found.perturbation <= EPS * (1 + 1e-4)
    attack = secml_pgd(norm)
    attack.epsilon = 9.0
    known = host(net, attack)
    assert (known.norm, known.eps) == (norm, pytest.approx(EPS)), "the constraint decides"
    [constraint] = attack.manipulation_function.perturbation_constraints
    monkeypatch.setattr(type(constraint), "_apply_constraint", lambda self, x: x + 1)
    with pytest.raises(ValueError, match=f"should stay within eps = 0.03 .{norm}"):
        evaluate(job, [attack], data, progress=False, device="cpu")


def test_what_is_not_certain_of_secml_torch_is_not_stated(net) -> None:
    pytest.importorskip("secmlt")
    from secmlt.adv.evasion.base_evasion_attack import BaseEvasionAttack
    from secmlt.adv.evasion.fmn import FMNNative
    from secmlt.optimization.constraints import L2Constraint, MaskConstraint

    masked, twice, free = secml_pgd("linf"), secml_pgd("linf"), secml_pgd("linf")
    masked.manipulation_function.domain_constraints.append(MaskConstraint(torch.ones(3, 12, 12)))
    twice.manipulation_function.perturbation_constraints.append(L2Constraint(1.0))
    free.manipulation_function.perturbation_constraints[0].radius = torch.tensor(torch.inf)
    for attack in (masked, twice, free):
        assert host(net, attack).norm is None
    nearest = host(net, FMNNative("l2", num_steps=2, max_step_size=0.1))
    assert (nearest.norm, nearest.eps) == (2, None), "it looks for the nearest one: there is no radius"

    class Noise(BaseEvasionAttack):
        epsilon, models = EPS, {"l2"}

        @classmethod
        def get_perturbation_models(cls) -> set[str]:
            return cls.models

        @classmethod
        def _trackers_allowed(cls) -> bool:
            return False

        def _run(self, *_: Any) -> Any:
            raise NotImplementedError

    assert (host(net, Noise()).norm, host(net, Noise()).eps) == ("l2", EPS), "its class has one perturbation model"
    Noise.models = {"l2", "linf"}
    assert host(net, Noise()).norm is None
