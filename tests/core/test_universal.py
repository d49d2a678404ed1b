"""One perturbation for a data set: optima known in closed form, what it costs, what it leaves out."""

from __future__ import annotations

import math

import pytest
import torch

from art_mtl.core import make_method
from art_mtl.core.run_log import RunLog
from art_mtl.core.searches.universal import Continued, UniversalSearch, check_shared
from art_mtl.core.weightings import Uniform
from art_mtl.projections import sample_norm


@pytest.fixture
def search(make_setup):
    """``(case, method, norm, eps) -> perturbation (1, ...)``."""

    def run(case, method="worst-task", norm=math.inf, eps=0.1, passes=4, batch_size=2, seed=0, log=None, **options):
        if isinstance(method, str):
            method = make_method(method, case.tasks, default_scope="batch", keep="last", momentum=0.9)
        setup = make_setup(case, method, norm, eps, steps=passes, batch_size=batch_size, seed=seed, **options)
        setup.log = RunLog() if log is None else log
        search = UniversalSearch()
        result = search.run(setup)
        assert torch.equal(result, (case.x + search.found).clamp(0, 1))
        return search.found

    return run


def uneven(linear_case, batch=6):
    """A linear case whose samples pull in different directions: slopes times 1, or −0.2 for every third."""
    slopes = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    case = linear_case(slopes, torch.full((1,), 5.0, dtype=torch.float64), batch=batch)
    pull = torch.tensor([1.0, 1.0, -0.2], dtype=torch.float64).repeat(batch // 3)
    inner = case.forward

    def forward(x):
        # Which sample is which shows in a coordinate that no loss depends on.
        return [5 + (output - 5) * pull[(x[:, 3] * batch).round().long()] for output in inner(x[:, :3])]

    mark = torch.arange(batch, dtype=torch.float64)[:, None] / batch
    case.forward, case.x = forward, torch.cat([case.x, mark], 1)
    return case


@pytest.mark.parametrize("method", ["equal", "worst-task", "single:t0"])
def test_it_is_the_best_for_all_samples_together(linear_case, search, method):
    case = uneven(linear_case)
    mask = torch.tensor([[1.0, 1.0, 1.0, 0.0]], dtype=torch.float64)
    found = search(case, method, mask=mask, batch_size=3, passes=10)
    expected = torch.tensor([[0.1, -0.1, 0.1, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_min_max_over_the_tasks(linear_case, search):
    """max min(δ₁ + δ₂, 2 δ₂ − δ₁) in the box 0.1: δ₂ = 0.1, δ₁ = 0.05, worth 0.15; equal weights stop at 0.1."""
    slopes = torch.tensor([[1.0, 1.0], [-1.0, 2.0]], dtype=torch.float64)
    case = linear_case(slopes, torch.ones(2, dtype=torch.float64), batch=6)

    def least(method):
        return (search(case, method, passes=30)[0] @ slopes.T).min().item()

    assert least("equal") == pytest.approx(0.1, abs=1e-9)
    assert 0.14 < least("worst-task") <= 0.15 + 1e-9


@pytest.mark.parametrize("norm", [math.inf, 2.0, 1.0])
@pytest.mark.parametrize("method", ["equal", "normalize", "dgba", "alternate", "minmax", "worst-task"])
def test_it_harms_all_samples_and_lies_in_the_ball(dense_case, search, norm, method):
    case, eps = dense_case(batch=5, dtype=torch.float32), {math.inf: 0.1, 2.0: 1.5, 1.0: 10.0}[norm]
    found = search(case, method, norm, eps, passes=6)
    assert found.shape == (1, 3, 6, 7)
    assert sample_norm(found.double(), norm).item() <= eps * (1 + 1e-5)

    def total(x):
        triples = zip(case.tasks, case.forward(x), case.targets, strict=True)
        return torch.stack([task.loss(output, target) for task, output, target in triples]).mean(1)

    before, after = total(case.x), total((case.x + found).clamp(0, 1))
    assert (after / before).mean() > 1.05


@pytest.mark.parametrize(("method", "extra"), [("equal", 0), ("worst-task", 3), ("normalize", 3)])
def test_a_pass_is_one_forward_a_batch(dense_case, search, method, extra):
    """And one more for each batch, once, where clean outputs are needed."""
    case, calls = dense_case(batch=5), []
    inner = case.forward

    def counting(x):
        calls.append(len(x))
        return inner(x)

    case.forward = counting
    search(case, method, passes=4)
    assert len(calls) == 4 * 3 + extra and sum(calls[-3:]) == 5


def test_the_seed_decides(dense_case, search):
    case = dense_case(batch=5)
    state = torch.get_rng_state()
    first = search(case)
    assert torch.equal(search(case), first) and not torch.equal(search(case, seed=1), first)
    noisy = search(case, own_labels=True)
    assert torch.equal(search(case, own_labels=True), noisy) and not torch.equal(noisy, first)
    assert torch.equal(torch.get_rng_state(), state)


def test_samples_that_are_not_finite_are_left_out(dense_case, search):
    """As if they were not there, and named."""
    case, log = dense_case(batch=4), RunLog()
    part = case[[0, 1, 3]]
    inner = case.forward

    def broken(x):
        outputs = inner(x)
        bad = (x[:, :, 0, 0] == 0.123).all(1)
        return [torch.where(bad.view(-1, 1, 1, 1), float("nan"), output) for output in outputs]

    case.forward = broken
    case.x[2, :, 0, 0] = 0.123
    mask = torch.ones_like(case.x[:1])
    mask[:, :, 0, 0] = 0
    found = search(case, "equal", batch_size=4, passes=3, mask=mask, log=log)
    expected = search(part, "equal", batch_size=3, passes=3, mask=mask)
    assert log.stopped == {2}
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_towards_targets(dense_case, search):
    case = dense_case(batch=4)
    case.targets = dense_case(batch=4, seed=5).targets

    def total(x):
        triples = zip(case.tasks, case.forward(x), case.targets, strict=True)
        return torch.stack([task.loss(output, target) for task, output, target in triples]).mean(1)

    found = search(case, targeted=True, passes=8)
    assert (total((case.x + found).clamp(0, 1)) / total(case.x)).mean() < 0.98


def test_labels_that_are_the_models_own_are_left_by_a_small_noise(dense_case, search):
    """One step from there: an absolute error has no slope at no perturbation, and a masked place has no noise."""
    case = dense_case(batch=1, dtype=torch.float32).only([1])
    case.targets = [case.tasks[0].targets(case.forward(case.x)[0])]
    mask = torch.ones_like(case.x[:1])
    mask[..., :3] = 0
    stuck, log = search(case, "equal", passes=1), RunLog()
    found = search(case, "equal", passes=1, own_labels=True, mask=mask, log=log)
    assert not stuck.any() and not found[..., :3].any() and found[..., 3:].abs().amax() > 0.05
    assert log == RunLog()


def test_one_perturbation_has_one_mask(dense_case, search):
    case = dense_case(batch=3)
    with pytest.raises(ValueError, match=r"`mask` should be one for all samples.*Found \(3, 1, 6, 7\)"):
        search(case, mask=torch.ones(3, 1, 6, 7))


def test_weights_see_the_mean_of_the_last_batches():
    seen = []

    class StepRecorder(Uniform):
        def begin(self, steps):
            def run(values, known, step):
                seen.append((values.clone(), known.clone(), step))
                return known.to(values.dtype)

            return run

    weighting = Continued(StepRecorder(), steps=10, window=2)
    shown = [[1.0, 5.0], [3.0, 7.0], [5.0, 0.0], [5.0, 9.0]]
    known = [[True, False], [True, True], [True, False], [True, True]]
    expected = [[1.0, 0.0], [2.0, 7.0], [3.5, 7.0], [4.25, 8.0]]
    for values, here in zip(shown, known, strict=True):
        weighting.begin(1)(torch.tensor([values]), torch.tensor([here]), 0)
    assert [values[0].tolist() for values, _, _ in seen] == expected
    assert [step for _, _, step in seen] == [0, 1, 2, 3]
    assert [here[0].tolist() for _, here, _ in seen] == [[True, False], *[[True, True]] * 3]


@pytest.mark.parametrize("name", ["minmax-official", "equal-official", "stealthy:seg", "smta:seg"])
def test_methods_that_cannot_share_are_refused(dense_case, name):
    with pytest.raises(ValueError, match=f"One perturbation for many samples needs.*Found '{name}'"):
        check_shared(make_method(name, dense_case().tasks))
