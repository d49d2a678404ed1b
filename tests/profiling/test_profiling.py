"""What is timed does what it says; ratios are what they are called."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from art_mtl.attacks import MinMaxMultiTaskPGD, MultiTaskPGD
from art_mtl.cli import main
from art_mtl.profiling import LIMIT, baselines, compare, degradation, load_subject, make_variants, sweep, timing
from art_mtl.profiling.degradation import time_to_degradation
from art_mtl.profiling.subject import Subject
from art_mtl.profiling.variants import ALL

STEPS = 3


@pytest.fixture(scope="module")
def subject():
    return load_subject("digits", 4, "cpu")


def ours(subject, make, *arguments):
    attack = make(
        subject.estimator, *arguments, norm=np.inf, eps=subject.eps, eps_step=baselines.SHARE * subject.eps,
        max_iter=STEPS, verbose=False,
    )  # fmt: skip
    return attack.generate(subject.x, subject.y)


@pytest.mark.parametrize(
    "baseline, make, arguments",
    [
        (baselines.hosted_in_art, MultiTaskPGD, ["equal"]),
        (baselines.torchattacks_loop, MultiTaskPGD, ["equal"]),
        (baselines.authors_loop, MinMaxMultiTaskPGD, ["official"]),
        (baselines.literal_algorithm, MinMaxMultiTaskPGD, ["paper"]),
    ],
)
def test_rivals_do_the_same_work(baseline, make, arguments, subject):
    """They end where this package's attacks end: pixels apart where a gradient is 0 to rounding."""
    found, expected = np.asarray(baseline(subject, STEPS)), ours(subject, make, *arguments)
    assert np.mean(np.abs(found - expected) > 1e-6) < 1e-3
    assert abs(found - subject.x).max() <= subject.eps + 1e-6


def test_the_limit_is_the_gradient_of_the_summed_losses(subject):
    expected = subject.estimator.loss_gradient(subject.x, subject.y)
    np.testing.assert_allclose(baselines.limit(subject, 1).numpy(), expected, atol=1e-6)


def test_rivals_leave_the_model_as_it_was(subject):
    for baseline in (baselines.hosted_in_art, baselines.authors_loop):
        baseline(subject, 1)
        assert all(not p.requires_grad and p.grad is None for p in subject.model.parameters())


def test_parameter_gradients_are_taken_where_it_says_so(subject):
    calls = []
    handle = next(subject.model.parameters()).register_hook
    with subject.learning():
        hook = handle(lambda gradient: calls.append(1))
        baselines.HandMadeEstimator(subject).loss_gradient(subject.x, subject.y)
        hook.remove()
    assert calls == [1]


def test_every_variant_is_known_and_runs(subject):
    chosen = [name for name in ALL if "compile" not in name and "graphs" not in name]
    variants = make_variants(subject, 1, chosen)
    assert list(variants) == chosen and next(iter(variants)) == LIMIT
    for run in variants.values():
        assert np.asarray(run()).shape == subject.x.shape
    with pytest.raises(ValueError, match=r"A variant should be one of .* Found 'minmx'"):
        make_variants(subject, 1, ["minmx"])
    with pytest.raises(ValueError, match="bf61"):
        make_variants(subject, 1, ["minmax:bf61"])


def test_ratios_are_taken_round_by_round(monkeypatch):
    """A machine that slows down hits both alike: the ratio stays."""
    clock, order = [1.0], []

    def seconds(run, device):
        clock[0] *= 1.5
        order.append(run())
        return clock[0] * {"base": 1.0, "double": 2.0}[order[-1]]

    monkeypatch.setattr(timing, "_seconds", seconds)
    base, double = compare(
        {"base": lambda: "base", "double": lambda: "double"}, "base", 20, torch.device("cpu"), warm_up=False
    )
    assert (base.low, base.median, base.high) == (1, 1, 1)
    assert {round(double.low, 3), round(double.high, 3)} == {round(2 / 1.5, 3), 3.0}
    pairs = list(zip(order[::2], order[1::2], strict=True))
    assert all(sorted(pair) == ["base", "double"] for pair in pairs) and len(set(pairs)) == 2


def test_figures_are_medians_of_what_is_timed_and_the_warm_up_is_not(monkeypatch):
    """Times of five rounds, one of them a hiccup; ratios 1, 2, 3, 4, 50 have the quartiles 2, 3, 4."""
    times = {"base": iter([1.0, 2.0, 2.0, 4.0, 1.0]), "other": iter([1.0, 4.0, 6.0, 16.0, 50.0])}
    ran, timed = [], []

    def seconds(run, device):
        timed.append(name := run())
        return next(times[name])

    monkeypatch.setattr(timing, "_seconds", seconds)
    variants = {name: lambda name=name: ran.append(name) or name for name in times}
    base, other = compare(variants, "base", 5, torch.device("cpu"))
    assert (base.seconds, other.seconds) == (2.0, 6.0)
    assert (other.low, other.median, other.high) == (2.0, 3.0, 4.0)
    assert ran == ["base", "other", *timed] and len(timed) == 10


def test_comparisons_refuse_what_has_no_quartiles():
    with pytest.raises(ValueError, match="Parameter `rounds` should be at least 2"):
        compare({"a": int}, "a", 1, torch.device("cpu"))
    with pytest.raises(ValueError, match="Parameter `base`"):
        compare({"a": int}, "b", 2, torch.device("cpu"))


def test_costs_grow_with_the_heads():
    costs = sweep((1, 3), (1,), steps=1, rounds=2, device="cpu")
    assert [(cost.tasks, cost.batch) for cost in costs] == [(1, 1), (3, 1)]
    assert costs[0].flops == costs[0].time == 1 and 1.2 < costs[1].flops < 1.5


def test_costs_are_of_one_step_and_one_sample(monkeypatch):
    monkeypatch.setattr(timing, "_seconds", lambda run, device: 0.012)
    [cost] = sweep((1,), (2,), steps=3, rounds=2, device="cpu")
    assert cost.milliseconds == pytest.approx(12 / 3 / 2) and (cost.time, cost.overhead) == (1, 1)


def test_the_limit_is_told_a_step(monkeypatch, capsys):
    monkeypatch.setattr(timing, "_seconds", lambda run, device: 0.012)
    few = ["bench", "--victim", "digits", "--batch", "2", "--steps", "3", "--rounds", "2", "--device", "cpu"]
    assert main([*few, "--variants", "minmax:fp32"]) == 0
    assert "Limit: 4.00 ms a step." in capsys.readouterr().out


def test_the_strongest_published_method_is_the_one_to_reach_in_the_fewest_steps(subject, monkeypatch):
    """Published methods do −30, −31, … % and the last −50; worst-task does −9 % a step."""
    done = {name: -30.0 - place for place, name in enumerate(degradation.PUBLISHED)}
    done[degradation.PUBLISHED[-1]] = -50.0
    monkeypatch.setattr(degradation, "_published", lambda subject, name: SimpleNamespace(damage=done[name]))
    monkeypatch.setattr(
        degradation, "_worst_task", lambda subject, steps, how: SimpleNamespace(damage=-9.0 * steps, generate=print)
    )
    monkeypatch.setattr(degradation, "_degradation", lambda subject, attack: attack.damage)
    monkeypatch.setattr(degradation, "compare", lambda *_: ("ours", "hosted"))
    trained = Subject("t", subject.estimator, subject.x, subject.y, 0.1, trained=True)
    [found] = time_to_degradation(trained, ("fp32",))
    assert (found.method, found.degradation) == (degradation.PUBLISHED[-1], -50)
    assert (found.steps, found.reached, found.hosted) == (6, -54, "hosted")


def test_degradation_needs_a_trained_model(subject):
    noise = Subject("noise", subject.estimator, subject.x, subject.y, 0.1, trained=False)
    with pytest.raises(ValueError, match="Degradation needs a trained model"):
        time_to_degradation(noise)
    with pytest.raises(ValueError, match="Parameter `victim` should be one of"):
        load_subject("nothing", 1)


def test_the_command(capsys):
    few = ["bench", "--victim", "digits", "--batch", "2", "--steps", "1", "--rounds", "2", "--device", "cpu"]
    assert main([*few, "--variants", "minmax:fp32", "art"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("digits, batch 2, 1 steps, 2 rounds, CPU")
    assert [line.split(" | ")[0] for line in lines if line.startswith("| ")][2:] == [
        "| limit",
        "| minmax:fp32",
        "| art",
    ]
    assert main([*few, "--activations", "--degradation", "--prepare", "fp32"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("| fp32 |") == 2 and "| exact | 0.6 | 1.000 |" in shown
    assert main([*few[:-4], "--rounds", "1"]) == 2
    assert "--rounds should be an integer of at least 2" in capsys.readouterr().err


def test_time_to_degradation(capsys):
    assert (
        main(
            [
                "bench",
                "--victim",
                "digits",
                "--batch",
                "8",
                "--rounds",
                "2",
                "--time-to-degradation",
                "--prepare",
                "fp32",
            ]
        )
        == 0
    )
    row = capsys.readouterr().out.splitlines()[-2]
    assert row.startswith("| fp32 | ") and float(row.split("|")[5].split("(")[0]) > 1
