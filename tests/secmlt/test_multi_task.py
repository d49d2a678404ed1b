"""Several tasks: ball and box, the model as it was, loaders and labels in every form, trackers, targets, chunks."""

from __future__ import annotations

import copy
import math
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, StackDataset, TensorDataset

from art_mtl import MultiTaskLabels, PyTorchMultiTaskEstimator, attacks, tasks
from art_mtl.core.warn import AttackWarning

pytest.importorskip("secmlt")
from secmlt.adv.evasion.base_evasion_attack import BaseEvasionAttack
from secmlt.models.pytorch.base_pytorch_nn import BasePyTorchClassifier
from secmlt.trackers.trackers import IMAGE, LossTracker, PerturbationNormTracker, Tracker

from art_mtl.secmlt import (
    MinMaxMultiTaskPGD,
    MultiTaskAutoPGD,
    MultiTaskPGD,
    StealthyMultiTaskPGD,
    TaskLossTracker,
    TaskWeightTracker,
    WorstTaskPGD,
)

KINDS = [MultiTaskPGD, MinMaxMultiTaskPGD, WorstTaskPGD, MultiTaskAutoPGD, StealthyMultiTaskPGD]


def make(kind, jobs, **options):
    extra = {"attacked": ["k"]} if kind is StealthyMultiTaskPGD else {}
    return kind(jobs, **{"num_steps": 5, **extra, **options})


def inputs(loader):
    return torch.cat([x for x, _ in loader])


def loss_by_hand(net, x, y):
    """Cross-entropy of the class and absolute error of the number, ``(B, 2)``."""
    out = net(x)
    k = -out["k"].log_softmax(1)[torch.arange(len(x)), y["k"]]
    return torch.stack([k, (out["v"] - y["v"]).abs().mean(1)], 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("norm", "order", "eps"), [("linf", math.inf, 0.05), ("l2", 2, 0.5), ("l1", 1, 3.0)])
def test_the_losses_rise_within_ball_and_box_and_nothing_else_changes(kind, norm, order, eps, net, jobs, data, loader):
    x, y = data
    net.train()
    net.drop.eval()
    before, state = x.clone(), copy.deepcopy(net.state_dict())
    batches, rng = list(loader), torch.get_rng_state()  # A DataLoader itself draws a seed.
    attack = make(kind, jobs, perturbation_model=norm, epsilon=eps)
    assert isinstance(attack, BaseEvasionAttack) and repr(attack).startswith(kind.__name__)
    found = torch.cat([found for found, _ in attack(net, batches, stream=True)])
    assert (found - x).flatten(1).norm(order, dim=1).max() <= eps * (1 + 1e-5) and 0 <= found.min() <= found.max() <= 1
    assert torch.equal(x, before) and torch.equal(rng, torch.get_rng_state())
    assert net.training and net.norm.training and not net.drop.training
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    net.eval()
    assert loss_by_hand(net, found, y)[:, 0].mean() > loss_by_hand(net, x, y)[:, 0].mean()


def test_an_exception_in_the_model_leaves_everything_as_it_was(net, jobs, loader):
    net.train()
    handle = net.k.register_forward_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("out of order")))
    tracker = TaskLossTracker()
    attack = MinMaxMultiTaskPGD(jobs, trackers=tracker)
    with pytest.raises(RuntimeError, match="out of order"):
        attack(net, loader)
    assert all(module.training for module in net.modules()) and all(p.requires_grad for p in net.parameters())
    handle.remove()
    attack(net, loader)
    assert tracker.get().shape == (10, 2, 10)


@pytest.mark.parametrize("kind", KINDS[:4])
def test_it_gives_the_same_bits_as_the_front_for_art(kind, net, jobs, data, loader):
    x, y = data
    estimator = PyTorchMultiTaskEstimator(net, jobs, (3, 4, 4), (0, 1), device_type="cpu")
    theirs = getattr(attacks, kind.__name__)(estimator, eps=0.1, max_iter=5, batch_size=4, verbose=False)
    expected = theirs.generate(x.numpy(), {name: values.numpy() for name, values in y.items()})
    assert np.array_equal(inputs(kind(jobs, epsilon=0.1, num_steps=5)(net, loader)).numpy(), expected)


# --- loaders ---


def test_labels_come_back_in_the_form_that_they_came_in(net, jobs, data, loader):
    x, y = data
    attack = MinMaxMultiTaskPGD(jobs, epsilon=0.1, num_steps=3)
    found = attack(net, loader)
    assert (found.batch_size, len(found), len(found.dataset)) == (4, 3, 10)
    for (adversarial, labels), (clean, known) in zip(found, loader, strict=True):
        assert adversarial.shape == clean.shape and labels.keys() == known.keys()
        assert all(torch.equal(labels[name], known[name]) for name in labels)
    again = inputs(attack(net, found))
    assert (again - x).abs().max() > 0.1 + 1e-3, "a loader that came out goes in again"
    ordered = attack(net, DataLoader(StackDataset(x, StackDataset(*y.values())), batch_size=4))
    assert torch.equal(inputs(ordered), inputs(found))
    assert [type(labels) for _, labels in ordered] == [list] * 3
    assert torch.equal(torch.cat([labels[1] for _, labels in ordered]), y["v"])


@pytest.mark.parametrize("form", ["container", "samples"])
def test_a_loader_that_makes_its_own_batches_gets_them_back(form, net, jobs, data, loader):
    x, y = data

    def collate(rows):
        numbers = [n for (n,) in rows]
        labels = MultiTaskLabels({name: values[numbers] for name, values in y.items()})
        rows = [{"k": y["k"][n].numpy(), "v": y["v"][n].numpy()} for n in numbers]
        return x[numbers], labels if form == "container" else rows

    found = MultiTaskPGD(jobs, epsilon=0.1)(
        net, DataLoader([(n,) for n in range(10)], batch_size=4, collate_fn=collate)
    )
    assert torch.equal(inputs(found), inputs(MultiTaskPGD(jobs, epsilon=0.1)(net, loader)))
    kind = MultiTaskLabels if form == "container" else list
    assert [(type(labels), len(labels)) for _, labels in found] == [(kind, 4), (kind, 4), (kind, 2)]


def test_any_iterable_of_batches_will_do_and_labels_may_be_the_models_own(net, jobs, data):
    x, _ = data
    found = MultiTaskPGD(jobs, epsilon=0.1)(net, ((part, None) for part in x.split(4)))
    assert [len(part) for part, _ in found] == [4, 4, 2] and all(labels is None for _, labels in found)
    with torch.no_grad():
        own = {"k": net(x)["k"].argmax(1), "v": net(x)["v"]}
    with torch.no_grad():
        assert (loss_by_hand(net, inputs(found), own) > loss_by_hand(net, x, own)).all()


def test_a_stream_attacks_batch_by_batch(net, jobs, loader):
    attack = WorstTaskPGD(jobs, epsilon=0.1, num_steps=4)
    whole = inputs(attack(net, loader))
    stream = attack(net, loader, stream=True)
    first = next(stream)[0]
    assert torch.equal(torch.cat([first, inputs(stream)]), whole)


class Shifted(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("shift", torch.zeros(()))

    def forward(self, x):
        return x + self.shift


def hooked(net):
    net.v.register_forward_hook(lambda module, arguments, output: 30 * output)


LOUD = tasks.regression("v", output=lambda raw: 30 * raw["v"])


MIDSTREAM = {
    "the digits of ε": lambda attack, model: setattr(attack, "epsilon", 0.1 + 1e-8),
    "an array in place": lambda attack, model: attack.step_size.fill(0.07),
    "tasks": lambda attack, model: setattr(attack, "tasks", (attack.tasks[0], LOUD)),
    "a buffer": lambda attack, model: model.model.norm.running_var.mul_(4),
    "weights by their data": lambda attack, model: model.model.hidden.weight.data.mul_(1.5),
    "a hook": lambda attack, model: hooked(model.model),
    "preprocessing": lambda attack, model: model._preprocessing.shift.fill_(0.1),
}


@pytest.mark.parametrize("change", MIDSTREAM)
def test_a_stream_notices_a_change(net, jobs, loader, change):
    model = BasePyTorchClassifier(net, preprocessing=Shifted())
    attack = WorstTaskPGD(jobs, epsilon=0.1, num_steps=4, step_size=np.full((1, 1, 1, 1), 0.05))
    stream, batches = attack(model, loader, stream=True), list(loader)
    next(stream)
    MIDSTREAM[change](attack, model)
    found = next(stream)[0]
    assert torch.equal(found, inputs(attack(model, batches[1:2])))


def test_a_stream_notices_that_the_model_was_trained(net, jobs, loader):
    attack = WorstTaskPGD(jobs, epsilon=0.1, num_steps=4)
    stream, batches = attack(net, loader, stream=True), list(loader)
    next(stream)
    with torch.no_grad():
        net.hidden.weight.mul_(1.5)
    alone = WorstTaskPGD(jobs, epsilon=0.1, num_steps=4)(net, batches[1:2])
    assert torch.equal(next(stream)[0], inputs(alone))


# --- chunks ---


def test_batches_of_one_loader_share_weights_in_chunks(net, jobs, loader):
    batches = list(loader)

    def alone(*numbers, **options):
        return inputs(WorstTaskPGD(jobs, epsilon=0.1, num_steps=4, **options)(net, [batches[n] for n in numbers]))

    attack = WorstTaskPGD(jobs, epsilon=0.1, num_steps=4)
    whole = inputs(attack(net, loader))
    assert torch.equal(whole[:4], alone(0)) and not torch.equal(whole[4:8], alone(1))
    assert torch.equal(whole, inputs(attack(net, loader))), "another call begins anew"
    attack.weight_group = 4
    assert torch.equal(inputs(attack(net, loader))[:8], torch.cat([alone(0), alone(1)]))
    per_image = inputs(WorstTaskPGD(jobs, epsilon=0.1, num_steps=4, weight_scope="sample")(net, loader))
    assert torch.equal(per_image, torch.cat([alone(n, weight_scope="sample") for n in range(3)]))


def test_a_seed_decides_the_starts_and_each_batch_has_its_own(net, jobs, data):
    x, y = data
    same = DataLoader(StackDataset(x[[0, 0]], StackDataset(k=y["k"][[0, 0]], v=y["v"][[0, 0]])), batch_size=1)
    attack = MultiTaskPGD(jobs, epsilon=0.3, num_steps=1, step_size=0.01, random_start=True, seed=3)
    first, second = inputs(attack(net, same))
    assert not torch.equal(first, second)
    assert torch.equal(inputs(attack(net, same)), torch.stack([first, second]))


# --- trackers ---


def test_trackers_hold_the_right_numbers(net, jobs, data, loader):
    x, y = data

    class Steps(Tracker):
        """Keeps every argument as it comes."""

        def __init__(self):
            super().__init__("Steps", IMAGE)
            self.told = []

        def track(self, *step):
            self.told.append(step)

    losses, weights, weighted, norms = TaskLossTracker(), TaskWeightTracker(), LossTracker(), PerturbationNormTracker()
    steps = Steps()
    trackers = [losses, weights, weighted, norms, steps]
    MinMaxMultiTaskPGD(jobs, epsilon=0.1, num_steps=4, trackers=trackers)(net, loader)
    assert losses.get().shape == weights.get().shape == (10, 2, 4) and weighted.get().shape == (10, 4)
    assert torch.allclose(weights.get().sum(1), torch.ones(10, 4)) and weights.get().std() > 0
    assert [step[0] for step in steps.told] == [0, 1, 2, 3] * 3
    for number, (iteration, loss, outputs, x_adv, delta, gradient) in enumerate(steps.told):
        part = slice(4 * (number // 4), 4 * (number // 4) + 4)
        labels = {name: values[part] for name, values in y.items()}
        leaf = x_adv.clone().requires_grad_()
        by_hand = loss_by_hand(net, leaf, labels)
        assert torch.allclose(losses.get()[part, :, iteration], by_hand, atol=1e-5)
        share = weights.get()[part, :, iteration]
        assert torch.allclose(loss, (share * by_hand).sum(1), atol=1e-5)
        assert torch.equal(weighted.get()[part, iteration], loss)
        assert torch.equal(delta, x_adv - x[part])
        assert torch.allclose(norms.get()[part, iteration], delta.flatten(1).norm(dim=1))
        (slope,) = torch.autograd.grad(-(share * by_hand).sum(), leaf)
        assert torch.allclose(gradient, slope, atol=1e-5)
        assert torch.allclose(outputs[0], net(x_adv)["k"], atol=1e-5)
        assert torch.allclose(outputs[1], net(x_adv)["v"], atol=1e-5)


def test_trackers_inside_another_one_hold_the_same(net, jobs, loader):
    """As TensorboardTracker has them."""

    class Several(Tracker):
        def __init__(self, trackers):
            super().__init__("Several")
            self.trackers = trackers

        def init_tracking(self):
            for tracker in self.trackers:
                tracker.init_tracking()

        def track(self, *step):
            for tracker in self.trackers:
                tracker.track(*step)

        def end_tracking(self):
            for tracker in self.trackers:
                tracker.end_tracking()

    inside, outside = TaskWeightTracker(), TaskWeightTracker()
    WorstTaskPGD(jobs, num_steps=3, trackers=[Several([inside]), outside])(net, loader)
    assert torch.equal(inside.get(), outside.get()) and inside.get().shape == (10, 2, 3)


def test_trackers_gather_the_calls_until_they_are_reset(net, jobs, loader):
    tracker = TaskLossTracker()
    attack = MultiTaskPGD(jobs, num_steps=2, trackers=tracker)
    assert attack.trackers == [tracker]
    attack(net, loader)
    attack(net, loader)
    assert tracker.get().shape == (20, 2, 2) and torch.equal(tracker.get()[:10], tracker.get()[10:])
    tracker.reset()
    attack.num_steps = 3
    with pytest.warns(UserWarning, match="Only consumed batches will be tracked"):
        next(attack(net, loader, stream=True))
    assert tracker.get().shape == (4, 2, 3)
    attack.trackers = None
    attack(net, loader)
    assert tracker.get().shape == (4, 2, 3)


def test_trackers_and_an_observer_change_no_result(net, jobs, loader):
    expected = inputs(WorstTaskPGD(jobs, num_steps=4)(net, loader))
    attack, seen = WorstTaskPGD(jobs, num_steps=4, trackers=[TaskLossTracker(), LossTracker()]), []
    attack.observer = seen.append
    assert torch.equal(inputs(attack(net, loader)), expected) and len(seen) == 3 * 4


# --- targets ---


def test_a_target_is_one_label_for_all_samples(net, jobs, data, loader):
    x, y = data
    target = {"k": 2, "v": -3.0}
    tracker = LossTracker()
    attack = MultiTaskPGD(jobs, epsilon=0.3, num_steps=8, y_target=target, trackers=tracker)
    found = inputs(attack(net, loader))
    aims = {"k": torch.full((10,), 2), "v": torch.full((10, 1), -3.0)}
    before, after = loss_by_hand(net, x, aims).sum(1), loss_by_hand(net, found, aims).sum(1)
    assert (after < before).all() and torch.allclose(tracker.get()[:, 0], -before, atol=1e-5)
    same = MultiTaskPGD(jobs, epsilon=0.3, num_steps=8, y_target={"k": np.array(2), "v": torch.tensor([-3.0])})
    assert torch.equal(inputs(same(net, loader)), found)


def test_a_task_without_a_target_is_left_alone(net, jobs, data, loader):
    with pytest.warns(AttackWarning, match=r"No targets of the task\(s\) \['v'\]"):
        found = inputs(MultiTaskPGD(jobs, epsilon=0.3, y_target={"k": 2})(net, loader))
    only = MultiTaskPGD(jobs[:1], epsilon=0.3, y_target=2)
    one = DataLoader(TensorDataset(data[0], data[1]["k"]), batch_size=4)
    assert torch.equal(inputs(only(net, one)), found)


def test_a_preserved_task_keeps_its_true_labels(net, jobs, data, loader):
    options = {"attacked": ["k"], "epsilon": 0.3, "num_steps": 20}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = inputs(StealthyMultiTaskPGD(jobs, y_target={"k": 2}, **options)(net, loader))
    x, y = data
    estimator = PyTorchMultiTaskEstimator(net, jobs, (3, 4, 4), (0, 1), device_type="cpu")
    theirs = attacks.StealthyMultiTaskPGD(
        estimator, "k", eps=0.3, max_iter=20, targeted=True, batch_size=4, verbose=False
    )
    assert np.array_equal(found.numpy(), theirs.generate(x.numpy(), {"k": np.full(10, 2), "v": y["v"].numpy()}))


@pytest.mark.parametrize("target", [2, {"w": 1}, {}, (1, 2)])
def test_a_target_of_no_known_task_is_refused(target, net, jobs, loader):
    message = r"`y_target` should be None or a dict of one target for each of some of the tasks \['k', 'v'\]. Found "
    with pytest.raises(ValueError, match=message):
        MultiTaskPGD(jobs, y_target=target)
    attack = MultiTaskPGD(jobs)
    attack.y_target = target
    with pytest.raises(ValueError, match=message):
        attack(net, loader)


# --- prepared models ---


def test_steps_may_run_on_a_prepared_copy(net, jobs, loader):
    plain, quick = (inputs(MultiTaskPGD(jobs, epsilon=0.1, prepare=how)(net, loader)) for how in (None, "fp32"))
    assert (plain - quick).abs().max() < 1e-4
    attack = MultiTaskPGD(jobs, epsilon=0.1, prepare="bf16")
    assert (inputs(attack(net, loader)) - torch.cat([batch[0] for batch in loader])).abs().max() <= 0.1 + 1e-6
    assert net.k.weight.dtype == torch.float32
