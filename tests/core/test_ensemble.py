"""The ensemble: never weaker than its members, early leavers, reports."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from art_mtl import losses, tasks
from art_mtl.core import RunConfig, attack, make_method
from art_mtl.core.searches.ensemble import EnsembleSearch
from art_mtl.core.searches.ensemble_members import VERSIONS, Member, make_members
from art_mtl.core.searches.population_choice import population_degradation, sample_degradation


@pytest.fixture
def ensemble(make_setup):
    """``(case, members, norm, eps) -> (inputs, report)``; warnings come as at the end of a call."""

    def run(case, members, norm=math.inf, eps=0.1, selection="population", batch_size=64):
        setup = make_setup(case, make_method("worst-task", case.tasks), norm, eps, batch_size=batch_size, seed=0)
        search = EnsembleSearch(members, selection)
        found = search.run(setup)
        setup.log.warn(len(case.x))
        return found, search.report

    return run


def few(case, norm=math.inf, version="standard", steps=6):
    return tuple(replace(member, steps=steps) for member in make_members(case.tasks, norm, version))


def judged(case, x):
    return [t.statistics(o, y) for t, o, y in zip(case.tasks, case.forward(x), case.targets, strict=True)]


def least(case, x):
    play = torch.stack([target.has_label for target in case.targets], 1)
    return sample_degradation(case.tasks, judged(case, x), judged(case, case.x), play)


def worst(case, x):
    now, before = ([part.sum(0) for part in judged(case, inputs)] for inputs in (x, case.x))
    return population_degradation(case.tasks, now, before).min().item()


def alone(case, member, threat):
    """What one member does by itself, on every sample."""
    jobs, targets = list(case.tasks), list(case.targets)
    for place, (task, output) in enumerate(zip(case.tasks, case.forward(case.x), strict=True)):
        if member.rank is not None and task.kind == "classification":
            jobs[place], targets[place] = task.targeted_margin(targets[place], output, member.rank)
    plan = RunConfig(member.steps, generator=torch.Generator().manual_seed(0))
    return attack(case.forward, case.x, jobs, targets, member.method, threat, plan)


@pytest.mark.parametrize("norm, eps", [(math.inf, 0.08), (2.0, 0.6), (1.0, 3.0)])
def test_is_never_weaker_than_a_member(mixed_case, ensemble, norm, eps):
    case = mixed_case(batch=8)
    threat, members = case.threat(norm, eps), few(case, norm)
    results = [alone(case, member, threat) for member in members]
    by_sample, report = ensemble(case, members, norm, eps, "sample")
    for result in results:
        assert (least(case, by_sample) >= least(case, result)).all()
    np.testing.assert_allclose(report.least, least(case, by_sample).numpy())
    by_population, report = ensemble(case, members, norm, eps)
    figures = [worst(case, result) for result in results]
    assert worst(case, by_population) >= max(figures)
    assert [min(degradation) for degradation in report.degradations[:-1]] == pytest.approx(figures, abs=1e-9)
    assert min(report.degradations[-1]) == pytest.approx(worst(case, by_population), abs=1e-9)


def test_keeps_whole_candidates(dense_case, ensemble):
    """Each sample is one member's work, the report says whose, and results are feasible."""
    case = dense_case(batch=6)
    threat, members = case.threat(math.inf, 0.1), few(dense_case(), version="fast")
    results = torch.stack([case.x, *(alone(case, member, threat) for member in members)])
    for selection in ("population", "sample"):
        found, report = ensemble(case, members, selection=selection)
        assert torch.equal(found, results[torch.tensor(report.winner) + 1, torch.arange(6)])
        assert (found - case.x).abs().max() <= 0.1 + 1e-12
        assert report.attacked == (6,) * len(members) and sum(report.counts.values()) == 6
        assert {i for name in report.members for i in report.won(name).tolist()} == set(
            np.flatnonzero(report.winner >= 0).tolist()
        )


def test_broken_samples_leave_early(linear_case, ensemble):
    """Two classifications, each with a coordinate of its own; the margin of a sample is its third coordinate."""
    jobs = (tasks.classification("a", 3), tasks.classification("b", 3))
    margin = torch.linspace(-0.1, 0.4, 12, dtype=torch.float64)
    x = torch.cat([torch.full((12, 2), 0.5, dtype=torch.float64), 0.5 + margin[:, None]], 1)
    targets = [job.targets(np.zeros(12, dtype=int)) for job in jobs]
    seen = []

    def forward(inputs):
        seen.append(len(inputs))
        right = inputs[:, 2:] - inputs[:, :2]
        return [torch.stack([z, torch.zeros_like(z), torch.full_like(z, -1.0)], 1) for z in right.unbind(1)]

    eps = torch.tensor([0.2, 0.2, 0.0], dtype=torch.float64)
    case = replace(linear_case(torch.ones(1, 3)), forward=forward, x=x, tasks=jobs, targets=targets)
    members = tuple(Member(name, make_method("equal", jobs), 3) for name in ("first", "second", "third"))
    found, report = ensemble(case, members, eps=eps)
    wrong, out_of_reach = int((margin < 0).sum()), int((margin > 0.2).sum())
    assert report.attacked == (12 - wrong, out_of_reach, out_of_reach)
    assert torch.equal(found[:wrong], x[:wrong]) and (report.winner[:wrong] == -1).all()
    assert (report.winner[wrong : 12 - out_of_reach] == 0).all() and (report.least[: 12 - out_of_reach] == 1).all()
    # A judgement of each member and of the clean inputs, and the steps of those left.
    assert sum(seen) == 4 * 12 + 3 * (12 - wrong) + 2 * 3 * out_of_reach


def test_nothing_left_to_attack(linear_case, ensemble):
    job = [tasks.classification("a", 3)]

    def forward(inputs):
        return [torch.stack([-inputs.sum(1), inputs.sum(1), inputs[:, 0]], 1)]

    case = linear_case(torch.ones(1, 3), batch=4)
    members, targets = few(case), [job[0].targets(np.zeros(4, dtype=int))]
    case = replace(case, forward=forward, tasks=job, targets=targets)
    found, report = ensemble(case, members, batch_size=2)
    assert torch.equal(found, case.x) and set(report.attacked) == {0} and report.counts["clean"] == 4


def test_square_wins_where_the_gradient_is_masked(dense_case, ensemble):
    case = dense_case(batch=4, dtype=torch.float32)
    inner = case.forward
    case.forward = lambda x: inner((x * 16).round() / 16 + 0 * x)
    members = few(case, version="fast", steps=5)
    members = (*members[:-1], replace(members[-1], steps=80))
    found, report = ensemble(case, members)
    assert report.counts["square"] == 4 and min(report.degradations[-1]) > 0.02
    assert all(max(degradation) <= 1e-6 for degradation in report.degradations[:-2])


def test_batches_chunks_and_radii_of_samples(mixed_case, ensemble):
    """A batch smaller than the data set, and one radius a sample."""
    case = mixed_case(batch=7)
    eps = torch.linspace(0.01, 0.1, 7, dtype=torch.float64).view(7, 1, 1, 1)
    members = few(case, version="fast", steps=4)
    found, report = ensemble(case, members, eps=eps, batch_size=3)
    assert ((found - case.x).abs() <= eps + 1e-12).all() and report.attacked == (7,) * len(members)


def test_a_sample_without_labels_stays(mixed_case, ensemble):
    case = mixed_case(batch=4)
    for target in case.targets:
        target.valid[2] = False
    found, report = ensemble(case, few(case, version="fast", steps=3))
    assert torch.equal(found[2], case.x[2]) and report.winner[2] == -1 and report.least[2] == -math.inf
    assert set(report.attacked) == {3}


def test_non_finite_outputs_end_with_one_warning_and_their_index(mixed_case, ensemble):
    case = mixed_case(batch=4)
    inner, bad = case.forward, case.x[3]
    for target in case.targets:
        target.valid[0] = False  # a sample that is left out, so that places among the others are not indices

    def forward(x):
        poisoned = ((x - bad).abs().flatten(1).amax(1) < 0.2).view(-1, 1)
        outputs = inner(x)
        return [*outputs[:2], torch.where(poisoned, float("nan"), outputs[2])]

    with pytest.warns(RuntimeWarning, match=r"sample\(s\) \[3\]") as caught:
        found, _ = ensemble(replace(case, forward=forward), few(case, version="fast", steps=3))
    assert len(caught) == 1 and torch.equal(found[3], case.x[3]) and torch.isfinite(found).all()


def test_towards_is_the_margin_to_the_ranked_class():
    job = tasks.classification("kind", 4)
    clean = torch.tensor([[3.0, 1.0, 2.0, 0.0], [0.0, 1.0, 2.0, 3.0]])
    target = job.targets(np.array([0, 2]))
    for rank, others in [(1, [2, 3]), (2, [1, 1]), (3, [3, 0]), (9, [3, 0])]:
        changed, labels = job.targeted_margin(target, clean, rank)
        assert labels.value.tolist() == [[0, others[0]], [2, others[1]]]
        margin = torch.tensor([clean[0, 0] - clean[0, others[0]], clean[1, 2] - clean[1, others[1]]])
        assert torch.equal(changed.measure(clean, labels).margins, margin)
        pair = torch.stack([clean[[0, 1], [0, 2]], clean[[0, 1], others]], 1)
        torch.testing.assert_close(changed.loss(clean, labels), losses.cross_entropy(pair, torch.tensor([0, 0])))
        assert torch.equal(changed.statistics(clean, labels), job.statistics(clean, target))
        assert torch.equal(changed.score(clean, labels), job.score(clean, target))


def test_versions():
    kinds = [tasks.classification("a", 10), tasks.classification("b", 3), tasks.depth("d")]
    assert [member.name for member in make_members(kinds, math.inf)] == [
        "worst-task", "auto:worst-task", "auto:worst-image", "auto:single:a", "auto:single:b", "auto:single:d",
        "auto:targeted-1", "auto:targeted-2", "auto:targeted-3", "square",
    ]  # fmt: skip
    budget = VERSIONS["standard"]
    assert {m.steps for m in make_members(kinds, 2.0) if m.name != "square"} == {budget.steps}
    assert make_members(kinds, 2.0)[-1].steps == budget.queries
    assert "square" not in [member.name for member in make_members(kinds, 1.0)]
    two = [tasks.classification("a", 2), tasks.segmentation("s", 5)]
    assert not [member for member in make_members(two, 2.0) if member.rank], (
        "there is one wrong class, or a map of them"
    )
    assert [member.name for member in make_members(kinds[2:], 1.0)] == [
        "worst-task", "auto:worst-task", "auto:worst-image",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="Parameter `version` should be one of"):
        make_members(kinds, 2.0, "slow")


def test_the_report_is_a_table(mixed_case, ensemble):
    case = mixed_case(batch=3)
    _, report = ensemble(case, few(case, version="fast", steps=2))
    lines = str(report).splitlines()
    assert lines[0].split() == ["member", "run", "on", "kept", "worst", "seg", "depth", "kind"]
    assert [line.split()[0] for line in lines[1:]] == [*report.members, "ensemble"]
    assert len({len(line) for line in lines}) == 1
    assert float(lines[-1].split()[3]) == pytest.approx(100 * min(report.degradations[-1]), abs=0.01)
    with pytest.raises(ValueError, match="Parameter `member` should be one of"):
        report.won("tank")
