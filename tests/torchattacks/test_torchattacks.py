"""The torchattacks-facing classes: host contract, modes, normalisation, saving, both fronts alike."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from art_mtl import MultiTaskLabels, PyTorchMultiTaskEstimator, attacks, tasks

torchattacks = pytest.importorskip("torchattacks")
from torchattacks.attack import Attack  # noqa: E402

from art_mtl.torchattacks import MinMaxMultiTaskPGD, MultiAttack, MultiTaskPGD, WorstTaskPGD  # noqa: E402

CLASSES = (MultiTaskPGD, MinMaxMultiTaskPGD, WorstTaskPGD)


class Outputs(NamedTuple):
    seg: torch.Tensor
    depth: torch.Tensor
    digit: torch.Tensor


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.drop = torch.nn.Dropout(0.5)
        self.dense = torch.nn.Conv2d(8, 5, 1)
        self.flat = torch.nn.Linear(8, 4)
        self.flat.weight.data *= 20
        self.seen = []
        self.fail = False
        self.fail_at = None

    def forward(self, x):
        self.seen.append((x.detach().amin().item(), x.detach().amax().item(), self.training, self.drop.training))
        if self.fail or len(self.seen) == self.fail_at:
            raise RuntimeError("out of order")
        features = self.drop(torch.tanh(self.norm(self.trunk(x))))
        dense = self.dense(features)
        return Outputs(dense[:, :4], dense[:, 4:].exp(), self.flat(features.mean((2, 3))))


JOBS = [tasks.segmentation("seg", 4), tasks.depth("depth"), tasks.classification("digit", 4)]
DECISIONS = [JOBS[0], tasks.classification("digit", 4, output="digit")]


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def data():
    g = torch.Generator().manual_seed(1)
    x = torch.rand(6, 3, 8, 8, generator=g)
    return x, {
        "seg": torch.randint(-1, 4, (6, 8, 8), generator=g),
        "depth": torch.rand(6, 1, 8, 8, generator=g) + 0.5,
        "digit": torch.randint(0, 4, (6,), generator=g),
    }


def losses(net, x, y, jobs=JOBS):
    with torch.no_grad():
        outputs = net(x)
    return {
        task.name: task.loss(getattr(outputs, task.name), task.targets(y[task.name])).mean().item() for task in jobs
    }


@pytest.mark.parametrize("make", CLASSES)
@pytest.mark.parametrize("norm, order, eps", [("Linf", math.inf, 0.05), ("L2", 2, 0.5), ("L1", 1, 3.0)])
def test_degradations_the_losses_within_the_ball_and_changes_nothing_else(make, norm, order, eps, net, data):
    x, y = data
    net.train()
    net.drop.eval()
    before_x, state = x.clone(), {name: value.clone() for name, value in net.state_dict().items()}
    rng = torch.get_rng_state()
    atk = make(net, JOBS, eps=eps, norm=norm)
    assert isinstance(atk, Attack) and repr(atk).startswith(make.__name__)
    adv = atk(x, y)
    assert (adv - x).flatten(1).norm(order, dim=1).max() <= eps * (1 + 1e-5) and adv.min() >= 0 and adv.max() <= 1
    assert torch.equal(x, before_x) and torch.equal(rng, torch.get_rng_state())
    assert net.training and net.norm.training and not net.drop.training
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    net.eval()
    assert sum(losses(net, adv, y).values()) > sum(losses(net, x, y).values())


def test_an_exception_in_the_model_leaves_everything_as_it_was(net, data):
    x, y = data
    net.train()
    atk = MinMaxMultiTaskPGD(net, JOBS)
    atk.set_normalization_used([0.5] * 3, [0.25] * 3)
    net.fail = True
    with pytest.raises(RuntimeError, match="out of order"):
        atk((x - 0.5) / 0.25, y)
    assert all(module.training for module in net.modules()) and atk._normalization_applied is True
    assert all(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("norm, art_norm", [("Linf", np.inf), ("L2", 2), ("L1", 1)])
@pytest.mark.parametrize("random_start", [False, True])
@pytest.mark.parametrize(
    "method", ["equal", "normalize", "dgba", "alternate", "single:depth", "minmax", "minmax-official", "worst-task"]
)
def test_both_fronts_give_the_same_bits(method, random_start, norm, art_norm, net, data):
    x, y = data
    estimator = PyTorchMultiTaskEstimator(net, JOBS, input_shape=(3, 8, 8), clip_values=(0, 1), device_type="cpu")
    eps = {"Linf": 0.05, "L2": 0.5, "L1": 3.0}[norm]
    art = attacks.MultiTaskPGD(
        estimator, method, art_norm, eps, max_iter=5, num_random_init=int(random_start), seed=3, verbose=False
    )
    atk = MultiTaskPGD(net, JOBS, method, eps=eps, steps=5, random_start=random_start, norm=norm, seed=3)
    labels = {name: values.numpy() for name, values in y.items()}
    assert np.array_equal(art.generate(x.numpy(), labels), atk(x, y).numpy())
    atk.reset()
    assert np.array_equal(art.generate(x.numpy()), atk(x).numpy())


def test_worst_task_remembers_batches_until_reset(net, data):
    x, y = data
    estimator = PyTorchMultiTaskEstimator(net, JOBS, input_shape=(3, 8, 8), clip_values=(0, 1), device_type="cpu")
    art = attacks.WorstTaskPGD(estimator, eps=0.1, max_iter=4, batch_size=3, verbose=False)
    whole = art.generate(x.numpy(), {name: values.numpy() for name, values in y.items()})
    atk = WorstTaskPGD(net, JOBS, eps=0.1, steps=4)
    parts = [slice(0, 3), slice(3, 6)]
    first = [atk(x[p], {name: v[p] for name, v in y.items()}) for p in parts]
    assert np.array_equal(whole, torch.cat(first).numpy())
    atk.reset()
    again = [atk(x[p], {name: v[p] for name, v in y.items()}) for p in parts]
    assert torch.equal(torch.cat(first), torch.cat(again))
    atk.reset()
    assert not torch.equal(first[1], atk(x[parts[1]], {name: v[parts[1]] for name, v in y.items()}))


def test_a_failed_call_leaves_no_trace_and_changed_settings_start_anew(net, data):
    x, y = data
    expected = WorstTaskPGD(net, JOBS, eps=0.1, steps=4)(x, y)
    atk = WorstTaskPGD(net, JOBS, eps=0.1, steps=4)
    net.fail_at = len(net.seen) + 3
    with pytest.raises(RuntimeError, match="out of order"):
        atk(1 - x, y)  # other images: sums of the same ones twice would have the same means
    assert torch.equal(expected, atk(x, y))
    sweep = WorstTaskPGD(net, JOBS, eps=0.3, steps=4)
    sweep(x, y)
    sweep.eps = 0.1
    assert torch.equal(expected, sweep(x, y))


def test_normalisation_is_undone_and_redone(net, data):
    x, y = data
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.5]
    view = [torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std)]

    class Normalised(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, images):
            return self.net((images - view[0]) / view[1])

    expected = MinMaxMultiTaskPGD(Normalised(), JOBS, eps=0.05, steps=5)(x, y)
    atk = MinMaxMultiTaskPGD(net, JOBS, eps=0.05, steps=5)
    atk.set_normalization_used(mean, std)
    found = atk((x - view[0]) / view[1], y) * view[1] + view[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    plain = [MultiTaskPGD(net, JOBS, eps=0.05, steps=2) for _ in range(2)]
    for attack in plain:
        attack.set_normalization_used(mean, std)
    both = MultiAttack(plain)
    both.set_normalization_used(mean, std)
    found = both((x - view[0]) / view[1], y) * view[1] + view[0]
    expected = MultiTaskPGD(Normalised(), JOBS, eps=0.05, steps=2)(x, y)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_bounds(net, data):
    x, y = data
    centred = 2 * x - 1
    with pytest.raises(ValueError, match="`images`.*`bounds`"):
        MultiTaskPGD(net, JOBS)(centred, y)
    adv = MultiTaskPGD(net, JOBS, eps=0.9, bounds=(-1, 1))(centred, y)
    assert adv.min() == -1 and adv.max() == 1
    lower = torch.zeros(3, 1, 1)
    upper = torch.tensor([1.0, 0.5, 1.0]).view(3, 1, 1)
    adv = MultiTaskPGD(net, JOBS, eps=0.9, bounds=(lower, upper))(x.minimum(upper), y)
    assert adv[:, 1].max() == 0.5 and adv[:, 0].max() == 1


def test_model_training_mode_is_honoured(net, data):
    x, y = data
    atk = MultiTaskPGD(net, JOBS, steps=2)
    atk.set_model_training_mode(model_training=True)
    atk(x, y)
    assert all(training and not drop for _, _, training, drop in net.seen) and not net.training
    net.seen.clear()
    atk.set_model_training_mode(model_training=True, dropout_training=True)
    atk(x, y)
    assert all(drop for *_, drop in net.seen) and not net.drop.training


def test_targeted_by_label_and_by_function(net, data, capsys):
    x, y = data
    by_label = MultiTaskPGD(net, JOBS, eps=0.1)
    by_label.set_mode_targeted_by_label()
    assert losses(net, by_label(x, y), y)["seg"] < losses(net, x, y)["seg"]
    assert "targeted" in capsys.readouterr().out
    with pytest.raises(ValueError, match="targeted\\(label\\)"):
        by_label(x)
    by_function = MultiTaskPGD(net, JOBS, eps=0.1)
    wanted = {**y, "digit": (y["digit"] + 1) % 4}
    by_function.set_mode_targeted_by_function(
        lambda images, labels: {**dict(labels.items()), "digit": (labels["digit"] + 1) % 4}, quiet=True
    )
    assert torch.equal(by_function(x, MultiTaskLabels(y)), by_label(x, wanted))
    by_label.set_mode_default()
    assert torch.equal(by_label(x, y), MultiTaskPGD(net, JOBS, eps=0.1)(x, y))


def test_targeted_random_and_least_likely(net, data):
    x, y = data
    labels = {name: y[name] for name in ("seg", "digit")}
    atk = MultiTaskPGD(net, DECISIONS, eps=0.1)
    with torch.no_grad():
        outputs = net(x)
    for kth in (1, 2, 3):
        atk.set_mode_targeted_least_likely(kth, quiet=True)
        chosen = atk.get_target_label(x, labels)
        wrong = outputs.digit.clone()
        wrong[torch.arange(6), y["digit"]] = float("inf")
        assert torch.equal(chosen["digit"], wrong.argsort(1)[:, kth - 1])
        assert torch.equal(chosen["seg"] == -1, y["seg"] == -1)
    atk.set_mode_targeted_least_likely(1, quiet=True)
    adv = atk(x, labels)
    least = dict(atk.get_target_label(x, labels).items())
    assert losses(net, adv, least, DECISIONS)["digit"] < losses(net, x, least, DECISIONS)["digit"]
    atk.set_mode_targeted_random(quiet=True)
    draws = torch.stack([atk.get_target_label(x, labels)["digit"] for _ in range(60)])
    assert (draws != y["digit"]).all() and all(len(draws[:, i].unique()) == 3 for i in range(6))
    atk.set_mode_targeted_least_likely(4, quiet=True)
    with pytest.raises(ValueError, match="`kth_min`.*at most 3"):
        atk(x, labels)
    with pytest.raises(ValueError, match="'depth'.*has none"):
        MultiTaskPGD(net, JOBS).set_mode_targeted_random()


def test_save_and_load(net, data, tmp_path, capsys):
    x, y = data
    rows = [{name: values[i] for name, values in y.items()} for i in range(6)]
    rows[1]["digit"] = None
    batches = [(x[:4], rows[:4]), (x[4:], {name: v[4:] for name, v in y.items()})]
    atk = MinMaxMultiTaskPGD(net, JOBS, eps=0.05, steps=3)
    path = tmp_path / "adv.pt"
    with pytest.warns(RuntimeWarning, match="'digit' has no valid label"):
        metrics, l2, seconds = atk.save(
            batches, path, return_verbose=True, save_predictions=True, save_clean_inputs=True
        )
        adv = torch.cat([atk(*batch) for batch in batches])
    assert "seg mIoU" in capsys.readouterr().out and seconds > 0
    assert l2 == pytest.approx((adv - x).flatten(1).norm(dim=1).mean().item())
    keep = torch.arange(6) != 1
    with torch.no_grad():
        right = (net(adv).digit.argmax(1) == y["digit"])[keep].float().mean().item()
    assert metrics["digit accuracy"] == pytest.approx(right)
    loader = atk.load(path, batch_size=4, load_predictions=True, load_clean_inputs=True)
    loaded = list(loader)
    assert torch.equal(torch.cat([batch[0] for batch in loaded]), adv)
    assert torch.equal(torch.cat([batch[3] for batch in loaded]), x)
    assert not loaded[0][1].present("digit")[1] and loaded[0][1].present("digit").sum() == 3
    assert torch.equal(loaded[0][1]["seg"], y["seg"][:4])
    with torch.no_grad():
        assert torch.equal(loaded[0][2]["digit"], net(adv[:4]).digit.argmax(1))
    with pytest.warns(RuntimeWarning):
        atk(loaded[0][0], loaded[0][1])

    atk.save(batches[1:], path, verbose=False, save_type="int")
    (images, _), *_ = list(atk.load(path))
    assert (images - adv[4:]).abs().max() <= 0.5 / 255 + 1e-6
    with pytest.raises(ValueError, match="clean_inputs"):
        atk.load(path, load_clean_inputs=True)
    with pytest.raises(ValueError, match="`save_type`"):
        atk.save(batches, path, save_type="half")
    with pytest.raises(ValueError, match="`data_loader`"):
        atk.save([], path)


def test_saving_is_all_or_nothing(net, data, tmp_path, monkeypatch):
    x, y = data
    path = tmp_path / "adv.pt"
    path.write_bytes(b"earlier")

    def broken(stored, target):
        Path(target).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(OSError, match="disk full"):
        MultiTaskPGD(net, JOBS, steps=1).save([(x, y)], path, verbose=False)
    assert path.read_bytes() == b"earlier" and list(tmp_path.iterdir()) == [path]


def test_multi_attack_keeps_the_worst_case_of_each_sample(net, data, capsys):
    x, y = data
    members = [MultiTaskPGD(net, JOBS, method, eps=0.05, steps=4) for method in ("single:seg", "single:depth", "equal")]

    def least(adv):
        with torch.no_grad():
            clean, now = net(x), net(adv)
        degradation = []
        for task in JOBS:
            target = task.targets(y[task.name])
            before, after = (task.score(getattr(o, task.name), target) for o in (clean, now))
            degradation.append(1 - before / after if not task.higher_is_better else 1 - after / before)
        return torch.stack(degradation, 1).amin(1)

    both = MultiAttack(members, verbose=True)
    adv = both(x, y)
    assert "Kept" in capsys.readouterr().out
    expected = torch.stack([least(member(x, y)) for member in members]).amax(0)
    torch.testing.assert_close(least(adv), expected, atol=1e-4, rtol=1e-3)

    calls = []
    members[1].observer = lambda record: calls.append(len(record.inputs))
    early = MultiAttack(members, success=lambda outputs, labels: torch.arange(len(outputs[0])) < 4)
    early(x, y)
    assert calls and set(calls) == {2}, "samples that succeed leave early"
    with pytest.raises(ValueError, match="at least two"):
        MultiAttack(members[:1])
    with pytest.raises(ValueError, match="one model"):
        MultiAttack([members[0], MultiTaskPGD(Net(), JOBS)])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"eps": 0}, "`eps`"),
        ({"eps": float("nan")}, "`eps`"),
        ({"alpha": -1.0}, "`alpha`"),
        ({"steps": 0}, "`steps`"),
        ({"restarts": 2}, "`restarts`.*random_start"),
        ({"norm": "L3"}, "`norm`"),
        ({"bounds": (1, 0)}, "`bounds`"),
        ({"method": "pgd"}, "`method`"),
        ({"decay": float("inf")}, "`decay`"),
        ({"eps": torch.full((3, 8, 8), 0.1), "norm": "L2"}, "`eps`"),
    ],
)
def test_bad_arguments_are_named(arguments, message, net):
    with pytest.raises(ValueError, match=message):
        MultiTaskPGD(net, JOBS, **arguments)


def test_bad_inputs_are_named(net, data):
    x, y = data
    atk = MultiTaskPGD(net, JOBS)
    with pytest.raises(TypeError, match="`images`.*ndarray"):
        atk(x.numpy(), y)
    with pytest.raises(TypeError, match="`images`.*uint8"):
        atk((255 * x).byte(), y)
    with pytest.raises(ValueError, match="`images`.*at least one"):
        atk(x[:0], {name: v[:0] for name, v in y.items()})
    with pytest.raises(ValueError, match="unknown: \\['dept'\\]"):
        atk(x, {"seg": y["seg"], "dept": y["depth"], "digit": y["digit"]})
    with pytest.raises(TypeError, match="`model`"):
        MultiTaskPGD(lambda images: images, JOBS)
    with pytest.raises(TypeError, match="`seed`.*0.5"):
        MultiTaskPGD(net, JOBS, seed=0.5)
    with pytest.raises(TypeError, match="`method`.*0.03"):
        MultiTaskPGD(net, JOBS, 0.03)
    for bounds in (1, ("a", "b"), (0, 1, 2)):
        with pytest.raises(TypeError, match="`bounds`"):
            MultiTaskPGD(net, JOBS, bounds=bounds)
    with pytest.raises(TypeError, match="`tasks`"):
        MultiTaskPGD(net, ["seg"])


def test_attributes_may_be_any_value(net):
    atk = MultiTaskPGD(net, JOBS)
    atk.note = [torch.ones(2), torch.ones(2)]
    atk.extra = {"a": np.ones(2)}
    assert atk.note[0].sum() == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("make", CLASSES)
def test_cuda_equals_cpu(make, net, data):
    x, y = data
    cpu = make(net, JOBS, eps=0.5, norm="L2", steps=3)(x, y)
    gpu = make(net.cuda(), JOBS, eps=0.5, norm="L2", steps=3)(x.cuda(), {name: v.cuda() for name, v in y.items()})
    torch.testing.assert_close(cpu, gpu.cpu(), atol=1e-3, rtol=0)
