"""The authors' equal and normalized attacks against a plain re-derivation of their loop."""

from __future__ import annotations

import math

import pytest
import torch

from art_mtl.core import RunConfig, attack, make_method, method_names

STEPS = 10
OFFICIAL = ("equal-official", "normalize-official")


def pooled_loss(task, output, target):
    """Mean over all valid places of a batch."""
    if task.kind == "segmentation":
        each = -output.log_softmax(1).gather(1, target.value[:, None])[:, 0]
    else:
        each = (output - target.value).abs().sum(1)
    return each[target.valid].mean()


def plain(case, norm, eps, divide):
    """Their loop for one batch; iterates and gradients of every step, and the result."""
    x, clean, seen = case.x, None, []
    delta = torch.zeros_like(x)
    for _ in range(STEPS):
        leaf = delta.clone().requires_grad_(True)
        triples = list(zip(case.tasks, case.forward(x + leaf), case.targets, strict=True))
        losses = torch.stack([pooled_loss(*triple) for triple in triples])
        clean = losses.detach() if clean is None else clean
        (losses / (3 * clean) if divide else losses).sum().backward()
        seen.append((x + delta, leaf.grad))
        if norm == math.inf:
            delta = (delta + 0.25 * eps * leaf.grad.sign()).clamp(-eps, eps)
        else:
            z = delta + 0.2 * eps * leaf.grad / (leaf.grad.flatten(1).norm(dim=1).view(-1, 1, 1, 1) + 1e-10)
            delta = z * (eps / z.flatten(1).norm(dim=1).view(-1, 1, 1, 1)).clamp(max=1)
        delta = (x + delta).clamp(0, 1) - x
    return seen, x + delta


@pytest.mark.parametrize("norm", [math.inf, 2.0])
@pytest.mark.parametrize("name", OFFICIAL)
def test_it_is_the_authors_loop(dense_case, name, norm):
    case = dense_case(batch=6)  # a group of 4 and a remainder of 2; the counts of valid pixels are uneven
    eps, divide = (0.1 if norm == math.inf else 1.5), name == "normalize-official"
    method, records = make_method(name, case.tasks), []
    result = attack(
        case.forward, case.x, case.tasks, case.targets, method, case.threat(norm, eps), RunConfig(STEPS),
        observer=records.append,
    )  # fmt: skip
    for group in ([0, 1, 2, 3], [4, 5]):
        seen, expected = plain(case[group], norm, eps, divide)
        for record, (inputs, gradient) in zip(records, seen, strict=True):
            torch.testing.assert_close(record.inputs[group], inputs, rtol=0, atol=1e-7)
            scale = 3 if divide else 1  # a factor that no step sees
            torch.testing.assert_close(record.gradient[group], scale * gradient, rtol=1e-5, atol=1e-8)
        torch.testing.assert_close(result[group], expected, rtol=0, atol=1e-7)


def test_pooling_counts_places_and_not_images(dense_case):
    """An image with few valid places weighs less than its batch mates, as it does not in the package's own form."""
    case = dense_case(batch=4)
    case.targets[1].valid[0, 1:] = False
    valid = case.targets[1].valid
    leaf = case.x.clone().requires_grad_(True)
    total = (case.forward(leaf)[1] - case.targets[1].value).abs()[:, 0][valid].sum()
    (gradient,) = torch.autograd.grad(total, leaf)
    for name, count in (("equal", valid[0].sum()), ("equal-official", valid.sum())):
        records = []
        method = make_method(name, case.tasks, weighting=[0.0, 1.0, 0.0])
        threat = case.threat(2.0, 1.0)
        attack(case.forward, case.x, case.tasks, case.targets, method, threat, RunConfig(1), observer=records.append)
        torch.testing.assert_close(records[0].gradient[0], gradient[0] / count)


@pytest.mark.parametrize("name", OFFICIAL)
def test_a_task_out_of_play_in_a_group_changes_nothing_there(dense_case, name):
    """In a group without any depth label the attack is that on the other two tasks."""
    case = dense_case(batch=6)
    case.targets[1].valid[4:] = False
    runs = []
    for part in (case, case.only([0, 2])):
        method = make_method(name, part.tasks)
        runs.append(attack(part.forward, part.x, part.tasks, part.targets, method, part.threat(2.0, 1.0), RunConfig(4)))
    assert torch.equal(runs[0][4:], runs[1][4:])
    assert not torch.equal(runs[0][:4], runs[1][:4])


@pytest.mark.parametrize(("name", "objective"), [("equal-official", "loss"), ("normalize-official", "normalized")])
def test_with_one_sample_a_row_it_is_the_per_sample_form(dense_case, name, objective):
    case = dense_case()
    methods = [
        make_method(name, case.tasks, weight_scope="sample"),
        make_method("equal", case.tasks, objective=objective, projection="ball-then-box"),
    ]
    results = [
        attack(case.forward, case.x, case.tasks, case.targets, method, case.threat(2.0, 1.0), RunConfig(5))
        for method in methods
    ]
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", OFFICIAL)
def test_pooled_losses_are_refused_over_a_data_set(dense_case, name):
    assert name in method_names()
    with pytest.raises(ValueError, match=f"'{name}' pools a batch.*should be 'batch' or 'sample'. Found 'dataset'"):
        make_method(name, dense_case().tasks, weight_scope="dataset")
