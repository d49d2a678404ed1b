"""The task-selective, universal and patch attacks with torchattacks' names: the same as with ART's, and safe."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from art_mtl import PyTorchMultiTaskEstimator, tasks
from art_mtl.core.searches.transforms import Translate

pytest.importorskip("torchattacks")

from art_mtl import attacks as with_art
from art_mtl import torchattacks as with_torchattacks
from art_mtl.torchattacks import MultiAttack, MultiTaskPGD, WorstTaskPGD

JOBS = [tasks.segmentation("seg", 3), tasks.depth("depth"), tasks.classification("kind", 5)]


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk, self.heads = torch.nn.Conv2d(3, 6, 3, padding=1), torch.nn.Conv2d(6, 4, 1)
        self.last = torch.nn.Linear(6, 5)

    def forward(self, x):
        hidden = torch.tanh(3 * self.trunk(2 * x - 1))
        out = self.heads(hidden)
        return 3 * out[:, :3], out[:, 3:] + 2, 6 * self.last(hidden.mean((2, 3)))


@pytest.fixture
def net():
    torch.manual_seed(3)
    return Net()


@pytest.fixture
def data(net):
    x = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    seg, depth, kind = (output.detach() for output in net(x))
    return x, {"seg": seg.argmax(1), "depth": depth.abs() + 0.1, "kind": kind.argmax(1)}


PAIRS = {
    "stealthy": (
        lambda net: with_torchattacks.StealthyMultiTaskPGD(net, JOBS, "seg", eps=0.1, steps=8),
        lambda e: with_art.StealthyMultiTaskPGD(e, "seg", eps=0.1, max_iter=8, verbose=False),
    ),
    "universal": (
        lambda net: with_torchattacks.UniversalMultiTaskPGD(net, JOBS, eps=0.1, steps=8, batch_size=4),
        lambda e: with_art.UniversalMultiTaskPGD(e, eps=0.1, max_iter=8, batch_size=4, verbose=False),
    ),
    "patch": (
        lambda net: with_torchattacks.MultiTaskPatch(
            net, JOBS, size=(3, 3), location=(1, 2), transforms=[Translate(1)], steps=8
        ),
        lambda e: with_art.MultiTaskPatch(
            e, size=(3, 3), location=(1, 2), transforms=[Translate(1)], max_iter=8, verbose=False
        ),
    ),
    "patch each": (
        lambda net: with_torchattacks.MultiTaskPatch(net, JOBS, size=(3, 3), shared=False, steps=8),
        lambda e: with_art.MultiTaskPatch(e, size=(3, 3), shared=False, max_iter=8, verbose=False),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_both_fronts_give_the_same_bits(net, data, name):
    x, y = data
    one, other = PAIRS[name]
    estimator = PyTorchMultiTaskEstimator(
        net, tasks=JOBS, input_shape=(3, 8, 8), clip_values=(0.0, 1.0), device_type="cpu"
    )
    adversarial = one(net)(x, y)
    assert np.array_equal(adversarial.numpy(), other(estimator).generate(x.numpy(), y))
    assert (adversarial != x).any()


@pytest.mark.parametrize("name", PAIRS)
def test_the_model_is_as_it_was(net, data, name):
    x, y = data
    net.train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    PAIRS[name][0](net)(x, y)
    assert net.training and all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("name", ["universal", "patch"])
def test_what_was_found_is_put_on_other_images(net, data, name):
    x, y = data
    attack = PAIRS[name][0](net)
    with pytest.raises(ValueError, match="call `fit` first"):
        attack.apply(x)
    found = attack.fit(x[:4], {task: labels[:4] for task, labels in y.items()})
    other = attack.apply(x[4:])
    if name == "universal":
        assert torch.equal(other, (x[4:] + found).clamp(0, 1))
    else:
        assert torch.equal(other[:, :, 1:4, 2:5], found[:, :, 1:4, 2:5].expand(2, -1, -1, -1))
        assert ((other != x[4:]).sum((1, 2, 3)) <= 27).all()


def test_normalised_images_are_handled(net, data):
    x, y = data
    mean, std = [0.4, 0.5, 0.6], [0.5, 0.25, 0.3]

    class Normalised(torch.nn.Module):
        def forward(self, z):
            return net(z * torch.tensor(std).view(1, 3, 1, 1) + torch.tensor(mean).view(1, 3, 1, 1))

    plain = with_torchattacks.UniversalMultiTaskPGD(net, JOBS, eps=0.1, steps=4)
    scaled = with_torchattacks.UniversalMultiTaskPGD(Normalised(), JOBS, eps=0.1, steps=4)
    scaled.set_normalization_used(mean, std)
    adversarial = scaled.inverse_normalize(scaled(scaled.normalize(x), y))
    torch.testing.assert_close(adversarial, plain(x, y), rtol=0, atol=1e-4)
    applied = scaled.inverse_normalize(scaled.apply(scaled.normalize(x)))
    torch.testing.assert_close(applied, plain.apply(x), rtol=0, atol=1e-4)


def test_targets_of_some_tasks(net, data):
    x, y = data
    wanted = {"depth": y["depth"] + 1}
    attack = with_torchattacks.MultiTaskPGD(net, JOBS, eps=0.1, steps=8)
    attack.set_mode_targeted_by_label(quiet=True)
    with pytest.warns(RuntimeWarning, match=r"No targets of the task\(s\) \['seg', 'kind'\] were given"):
        adversarial = attack(x, wanted)

    class Depth(torch.nn.Module):
        def forward(self, x):
            return net(x)[1]

    alone = with_torchattacks.MultiTaskPGD(Depth(), [JOBS[1]], eps=0.1, steps=8)
    alone.set_mode_targeted_by_label(quiet=True)
    assert torch.equal(adversarial, alone(x, wanted))
    with pytest.raises(ValueError, match="missing"):
        with_torchattacks.MultiTaskPGD(net, JOBS, eps=0.1)(x, wanted)
    single = with_torchattacks.MultiTaskPGD(net, JOBS, "single:seg", eps=0.1)
    single.set_mode_targeted_by_label(quiet=True)
    with pytest.raises(ValueError, match=r"should have targets of the tasks that it attacks.*\['seg'\]"):
        single(x, wanted)


def test_weights_of_a_stealthy_attack_remember_batches(net, data):
    """As those of any attack with scope "dataset": equal settings go on, reset forgets."""
    x, y = data
    attack = with_torchattacks.StealthyMultiTaskPGD(net, JOBS, "seg", eps=0.1, steps=6)
    first = attack(x, y)
    attack(1 - x, y)
    third = attack(x, y)
    attack.reset()
    assert not torch.equal(first, third) and torch.equal(attack(x, y), first)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda net: with_torchattacks.StealthyMultiTaskPGD(net, JOBS, "sky"),
            ValueError,
            "`attacked` should name tasks",
        ),
        (lambda net: with_torchattacks.UniversalMultiTaskPGD(net, JOBS, batch_size=0), ValueError, "`batch_size`"),
        (
            lambda net: with_torchattacks.UniversalMultiTaskPGD(net, JOBS, keep="best"),
            TypeError,
            "Universal.* decides `keep`",
        ),
        (
            lambda net: with_torchattacks.UniversalMultiTaskPGD(net, JOBS, eps=torch.full((2, 1, 1, 1), 0.1)),
            ValueError,
            "`eps` should be one number",
        ),
        (lambda net: with_torchattacks.MultiTaskPatch(net, JOBS, size=(3, 3), transforms=[1]), TypeError, "callables"),
        (
            lambda net: with_torchattacks.MultiTaskPatch(net, JOBS, size=(3, 3), bounds=(0, float("inf"))),
            ValueError,
            "finite `bounds`",
        ),
    ],
)
def test_bad_arguments_are_named(net, make, error, message):
    with pytest.raises(error, match=message):
        make(net)


def test_a_patch_outside_the_images_is_named(net, data):
    x, y = data
    with pytest.raises(ValueError, match="should lie inside the image of 8x8"):
        with_torchattacks.MultiTaskPatch(net, JOBS, size=(3, 3), location=(6, 0), steps=2)(x, y)
    with pytest.raises(ValueError, match="each has its own"):
        with_torchattacks.MultiTaskPatch(net, JOBS, size=(3, 3), shared=False, steps=2).fit(x, y)


# --- several attacks ---


def early(outputs, labels):
    """Every other sample leaves after the first attack."""
    return torch.arange(len(labels)) % 2 == 0


@pytest.mark.parametrize("kind", ["eps", "alpha", "bounds", "an array", "nested"])
def test_samples_that_leave_early_take_their_own_options_along(kind):
    net, jobs, x, y = small_case()
    per_sample = torch.linspace(0.05, 0.2, len(x)).view(-1, 1, 1, 1)
    options = {
        "eps": {"eps": per_sample},
        "alpha": {"alpha": per_sample / 2},
        "bounds": {"bounds": (torch.zeros(len(x), 1, 1, 1), 1 + per_sample)},
        "an array": {"eps": per_sample.numpy()},
        "nested": {"eps": per_sample},
    }[kind]
    first, last = (MultiTaskPGD(net, jobs, method, steps=3, **options) for method in ("single:v", "equal"))
    inner = MultiAttack([last, last]) if kind == "nested" else last
    found = MultiAttack([first, inner], success=early)(x, y)
    alone, stayed = MultiAttack([first, first])(x, y), MultiAttack([first, inner])(x, y)
    leaves = early(None, x)
    assert torch.equal(found[leaves], alone[leaves]) and torch.equal(found[~leaves], stayed[~leaves])
    assert not torch.equal(found, stayed) and all(getattr(last, n) is v for n, v in options.items() if n != "bounds")


def test_several_attacks_are_checked_when_they_are_called():
    net, jobs, x, y = small_case()
    attack = MultiAttack([MultiTaskPGD(net, jobs), MultiTaskPGD(net, jobs, "minmax")])
    assert attack.name == "strongest of equal, minmax"
    with pytest.raises(TypeError, match="`success` should be None or a function .* Found int"):
        MultiAttack(attack.attacks, success=5)
    attack.success = 5
    with pytest.raises(TypeError, match="`success` should be None or a function .* Found int"):
        attack(x, y)
    attack.success = lambda outputs, labels: torch.zeros(2)
    with pytest.raises(
        ValueError, match=r"`success` should return a boolean tensor of shape \(6,\). Found torch.float"
    ):
        attack(x, y)
    attack.success, attack.attacks = None, []
    with pytest.raises(ValueError, match=r"`attacks` should hold at least two attacks .* Found \[\]"):
        attack(x, y)


def test_to_reset_several_attacks_resets_each():
    net, jobs, x, y = small_case()
    attack = MultiAttack([WorstTaskPGD(net, jobs, steps=4), WorstTaskPGD(net, jobs, steps=4, norm="L2", eps=0.5)])
    first = attack(x, y)
    attack(1 - x, y)
    attack.reset()
    assert torch.equal(attack(x, y), first)


def small_case():
    """A class and a number of 6 images."""

    class Small(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.k, self.v = torch.nn.Linear(48, 4), torch.nn.Linear(48, 1)

        def forward(self, x):
            return {"k": self.k(x.flatten(1)), "v": self.v(x.flatten(1))[:, 0]}

    jobs = [tasks.classification("k", 4), tasks.regression("v")]
    x = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return Small(), jobs, x, {"k": torch.arange(6) % 4, "v": torch.linspace(0, 1, 6)}
