"""Laws of the task-selective, universal, patch and combining attacks, with ART's names: one table of attacks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from art_mtl import MultiTaskLabels, PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MultiTaskPatch, MultiTaskPGD, StealthyMultiTaskPGD, UniversalMultiTaskPGD
from art_mtl.core.searches.transforms import Brightness, Scale, Translate

EPS = 0.1


class Net(torch.nn.Module):
    """Segmentation, depth and a class, with a dropout that only shows where training mode is left on."""

    def __init__(self):
        super().__init__()
        self.trunk, self.heads = torch.nn.Conv2d(3, 6, 3, padding=1), torch.nn.Conv2d(6, 4, 1)
        self.last, self.drop = torch.nn.Linear(6, 5), torch.nn.Dropout(0.5)

    def forward(self, x):
        hidden = self.drop(torch.tanh(3 * self.trunk(2 * x - 1)))
        out = self.heads(hidden)
        return {"seg": 3 * out[:, :3], "depth": out[:, 3:] + 2, "kind": 6 * self.last(hidden.mean((2, 3)))}


JOBS = {"seg": tasks.segmentation("seg", 3), "depth": tasks.depth("depth"), "kind": tasks.classification("kind", 5)}


def make_estimator(names=("seg", "depth", "kind")):
    torch.manual_seed(3)
    return PyTorchMultiTaskEstimator(
        Net(), tasks=[JOBS[name] for name in names], input_shape=(3, 8, 8), clip_values=(0.0, 1.0), device_type="cpu"
    )


def make_data(estimator, size=6):
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(size, 3, 8, 8)).astype(np.float32)
    raw = estimator.predict(x)
    labels = {
        "seg": lambda out: np.where(rng.uniform(size=(size, 8, 8)) < 0.1, -1, out.argmax(1)),
        "depth": lambda out: np.abs(out + 0.2 * rng.standard_normal(out.shape)).astype(np.float32) + 0.05,
        "kind": lambda out: out.argmax(1),
    }
    return x, {task.name: labels[task.name](raw[task.name]) for task in estimator.tasks}


SETTINGS = {"max_iter": 12, "batch_size": 4, "verbose": False, "seed": 0}
ATTACKS = {
    "stealthy": lambda e, **s: StealthyMultiTaskPGD(e, "seg", eps=EPS, **{**SETTINGS, **s}),
    "stealthy L2": lambda e, **s: StealthyMultiTaskPGD(e, "seg", norm=2, eps=1.0, **{**SETTINGS, **s}),
    "stealthy by sample": lambda e, **s: StealthyMultiTaskPGD(
        e, ["seg"], eps=EPS, weight_scope="sample", **{**SETTINGS, **s}
    ),
    "smta": lambda e, **s: MultiTaskPGD(e, "smta:seg", eps=EPS, **{**SETTINGS, **s}),
    "universal": lambda e, **s: UniversalMultiTaskPGD(e, eps=EPS, **{**SETTINGS, **s}),
    "universal L2": lambda e, **s: UniversalMultiTaskPGD(e, norm=2, eps=1.0, **{**SETTINGS, **s}),
    "universal L1": lambda e, **s: UniversalMultiTaskPGD(e, "equal", norm=1, eps=20.0, **{**SETTINGS, **s}),
    "patch": lambda e, **s: MultiTaskPatch(e, size=(4, 4), **{**SETTINGS, **s}),
    "patch EOT": lambda e, **s: MultiTaskPatch(
        e, size=(4, 4), transforms=[Translate(1), Scale(), Brightness()], **{**SETTINGS, **s}
    ),
    "patch each": lambda e, **s: MultiTaskPatch(e, size=(4, 4), shared=False, **{**SETTINGS, **s}),
    "jd:mgda": lambda e, **s: MultiTaskPGD(e, "jd:mgda", eps=EPS, **{**SETTINGS, **s}),
}
"""One row an attack: what makes it from an estimator and settings."""
PATCHES = [name for name in ATTACKS if name.startswith("patch")]


def make_attack(name, estimator, **settings):
    if name.startswith("jd:"):
        pytest.importorskip("torchjd")
    return ATTACKS[name](estimator, **settings)


def losses(estimator, x, y):
    return np.stack(list(estimator.compute_losses(x, y, reduction="none").values()), 1)


@pytest.mark.parametrize("name", ATTACKS)
def test_results_are_feasible_and_do_harm(name):
    estimator = make_estimator()
    x, y = make_data(estimator)
    attack = make_attack(name, estimator)
    x_adv = attack.generate(x, y)
    assert x_adv.dtype == np.float32 and x_adv.shape == x.shape and x_adv.min() >= 0 and x_adv.max() <= 1
    moved = x_adv.astype(np.float64) - x
    if name in PATCHES:
        assert (moved[:, :, ~attack.place] == 0).all() and attack.place.sum() == 16
    else:
        norms = {np.inf: np.abs(moved).max((1, 2, 3)), 2: np.sqrt((moved**2).sum((1, 2, 3)))}
        norms[1] = np.abs(moved).sum((1, 2, 3))
        assert (norms[attack.norm] <= attack.eps * (1 + 1e-5) + 1e-5).all()
    before, after = losses(estimator, x, y), losses(estimator, x_adv, y)
    grown = after.mean(0) / before.mean(0)
    assert (grown[0] if name.startswith(("stealthy", "smta")) else grown.mean()) > 1.05


@pytest.mark.parametrize("name", ATTACKS)
def test_the_same_seed_gives_the_same_result_and_the_model_is_as_it_was(name):
    estimator = make_estimator()
    model = estimator.model
    x, y = make_data(estimator)
    model.train()
    model.trunk.eval()
    model.last.weight.requires_grad_(False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state, numpy_state, clean = torch.get_rng_state(), np.random.get_state()[1].copy(), x.copy()
    attack = make_attack(name, estimator)
    first = attack.generate(x, y)
    assert np.array_equal(attack.generate(x, y), first)
    assert torch.equal(torch.get_rng_state(), state) and np.array_equal(np.random.get_state()[1], numpy_state)
    assert np.array_equal(x, clean)
    assert model.training and model.drop.training and not model.trunk.training
    assert not model.last.weight.requires_grad and model.trunk.weight.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", ATTACKS)
def test_with_one_task_it_attacks_that_task(name):
    estimator = make_estimator(("seg",))
    x, y = make_data(estimator)
    x_adv = make_attack(name, estimator).generate(x, y)
    assert losses(estimator, x_adv, y).mean() > 1.05 * losses(estimator, x, y).mean()


@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in PATCHES])
def test_what_the_mask_excludes_stays(name):
    estimator = make_estimator()
    x, y = make_data(estimator)
    mask = np.zeros((1, 1, 8, 8), np.float32)
    mask[..., :5] = 1
    x_adv = make_attack(name, estimator).generate(x, y, mask=mask)
    assert np.array_equal(x_adv[..., 5:], x[..., 5:]) and (x_adv[..., :5] != x[..., :5]).any()


@pytest.mark.parametrize("name", ATTACKS)
def test_every_step_is_told(name):
    estimator = make_estimator()
    x, y = make_data(estimator)
    attack, seen = make_attack(name, estimator, max_iter=3), []
    attack.observer = seen.append
    attack.generate(x, y)
    assert len(seen) == 3 * 2
    for record in seen:
        assert torch.isfinite(record.gradient).all() and (record.weights >= 0).all()
        assert record.losses.shape == record.weights.shape == (len(record.inputs), 3)


@pytest.mark.parametrize("name", ATTACKS)
def test_labels_may_be_the_models_own_and_may_be_missing(name):
    estimator = make_estimator()
    x, y = make_data(estimator)
    own = make_attack(name, estimator).generate(x)
    assert np.isfinite(own).all() and (own != x).any()
    y["kind"] = (y["kind"], np.array([True, False, True, True, True, True]))
    with pytest.warns(RuntimeWarning, match="'kind' has no valid label on sample"):
        result = make_attack(name, estimator).generate(x, y)
    assert np.isfinite(result).all() and (result != x).any()


@pytest.mark.parametrize("name", ATTACKS)
def test_parameters_go_round(name):
    estimator = make_estimator()
    x, y = make_data(estimator)
    attack = make_attack(name, estimator)
    for parameter in attack.attack_params:
        assert hasattr(attack, parameter), parameter
    first = attack.generate(x, y)
    attack.set_params(max_iter=2)
    other = attack.generate(x, y)
    attack.set_params(max_iter=12)
    assert not np.array_equal(other, first) and np.array_equal(attack.generate(x, y), first)
    with pytest.raises(ValueError, match="`max_iter`"):
        attack.set_params(max_iter=0)
    assert attack.max_iter == 12


FIRST_STEPS = [("stealthy", 0.3), ("stealthy L2", 0.3), ("universal", 2), ("universal L2", 2)]


@pytest.mark.parametrize(("name", "share"), FIRST_STEPS)
def test_the_first_step_where_none_is_given(name, share):
    estimator = make_estimator()
    x, y = make_data(estimator)
    eps = 1.0 if name.endswith("L2") else EPS
    found, same, longer = (
        ATTACKS[name](estimator, eps_step=step).generate(x, y) for step in (None, share * eps, 1.5 * share * eps)
    )
    np.testing.assert_allclose(found, same, atol=1e-4)
    assert np.abs(found - longer).max() > 0.001


# --- stealthy ---


def test_the_general_class_knows_the_method_too():
    estimator = make_estimator()
    x, y = make_data(estimator)
    one = StealthyMultiTaskPGD(estimator, "seg", tolerance=0.1, eps=EPS, **SETTINGS)
    other = MultiTaskPGD(estimator, "stealthy", eps=EPS, attacked=["seg"], tolerance=0.1, **SETTINGS)
    assert one.name == other.name == "stealthy:seg"
    assert np.array_equal(one.generate(x, y), other.generate(x, y))


def test_stealthy_arguments_are_checked_before_any_work():
    estimator = make_estimator()
    with pytest.raises(ValueError, match="attacked or preserved, not both"):
        StealthyMultiTaskPGD(estimator, "seg", preserved=["seg"])
    with pytest.raises(ValueError, match=r"`attacked` should name tasks of .*Found \['sky'\]"):
        StealthyMultiTaskPGD(estimator, "sky")
    attack = StealthyMultiTaskPGD(estimator, "seg")
    with pytest.raises(ValueError, match="`tolerance` should be a finite number above 0 and below 1"):
        attack.set_params(tolerance=1.5)
    assert attack.tolerance == 0.05


# --- targets for some of the tasks ---

LEFT_ALONE = r"No targets of the task\(s\) \[{}\] were given"


def test_tasks_without_targets_are_left_alone():
    """As if the model had only the others."""
    estimator, part = make_estimator(), make_estimator(("seg", "kind"))
    x, y = make_data(estimator)
    wanted = {"seg": (y["seg"] + 1) % 3, "kind": (y["kind"] + 1) % 5}
    for name in ("equal", "minmax", "worst-task"):
        with pytest.warns(RuntimeWarning, match=LEFT_ALONE.format("'depth'")):
            found = MultiTaskPGD(estimator, name, eps=EPS, targeted=True, **SETTINGS).generate(x, wanted)
        expected = MultiTaskPGD(part, name, eps=EPS, targeted=True, **SETTINGS).generate(x, wanted)
        assert np.array_equal(found, expected)
    labels = MultiTaskLabels(wanted)
    rows = [{"seg": s, "kind": k} for s, k in zip(wanted["seg"], wanted["kind"], strict=True)]
    for form in (labels, rows):
        with pytest.warns(RuntimeWarning, match=LEFT_ALONE.format("'depth'")):
            found = MultiTaskPGD(estimator, "worst-task", eps=EPS, targeted=True, **SETTINGS).generate(x, form)
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("name", ["universal", "patch", "patch each"])
def test_shared_perturbations_take_targets_of_some_tasks_too(name):
    estimator = make_estimator()
    x, y = make_data(estimator)
    wanted = {"depth": y["depth"] + 1}
    with pytest.warns(RuntimeWarning, match=LEFT_ALONE.format("'seg', 'kind'")):
        x_adv = make_attack(name, estimator, targeted=True).generate(x, wanted)
    distance = [np.abs(estimator.predict(inputs)["depth"] - wanted["depth"]).mean() for inputs in (x, x_adv)]
    assert distance[1] < 0.99 * distance[0]


def test_towards_a_target_while_others_are_preserved():
    estimator = make_estimator()
    x, y = make_data(estimator)
    wanted = {**y, "depth": y["depth"] + 1}
    attack = StealthyMultiTaskPGD(estimator, "depth", eps=EPS, targeted=True, weight_scope="sample", **SETTINGS)
    x_adv = attack.generate(x, wanted)
    distance = [np.abs(estimator.predict(inputs)["depth"] - wanted["depth"]).mean() for inputs in (x, x_adv)]
    assert distance[1] < distance[0]


def test_what_lacks_targets_is_named():
    estimator = make_estimator()
    x, y = make_data(estimator)
    some = {"depth": y["depth"]}

    def run(method, labels=some, **kwargs):
        return MultiTaskPGD(estimator, method, eps=EPS, targeted=True, **SETTINGS, **kwargs).generate(x, labels)

    with pytest.raises(ValueError, match=r"'single:seg' should have targets of the tasks that it attacks.*\['seg'\]"):
        run("single:seg")
    with pytest.raises(ValueError, match=r"'stealthy:depth' should have.*preserves.*\['seg', 'kind'\]"):
        run("stealthy:depth")
    with pytest.raises(ValueError, match=r"Found \['detph'\]"):
        run("equal", {"detph": y["depth"]})
    with pytest.raises(ValueError, match="should hold the target labels"):
        run("equal", None)
    with pytest.raises(ValueError, match="missing: \\['seg', 'kind'\\]"):
        MultiTaskPGD(estimator, "equal", eps=EPS, **SETTINGS).generate(x, some)


# --- universal and patch ---


def test_a_perturbation_is_applied_to_unseen_inputs():
    estimator = make_estimator()
    x, y = make_data(estimator, 8)
    attack = UniversalMultiTaskPGD(estimator, eps=EPS, **SETTINGS)
    with pytest.raises(ValueError, match="call `fit` first"):
        attack.apply(x)
    noise = attack.fit(x[:4], {name: labels[:4] for name, labels in y.items()})
    assert noise.shape == (3, 8, 8) and np.abs(noise).max() <= EPS * (1 + 1e-6)
    assert np.array_equal(attack.apply(x), np.clip(x + noise, 0, 1))
    with pytest.raises(ValueError, match="`x` should have shape"):
        attack.apply(x[:, :, :4])


def test_a_patch_is_applied_to_unseen_inputs():
    estimator = make_estimator()
    x, y = make_data(estimator, 8)
    attack = MultiTaskPatch(estimator, mask=np.tri(8), **SETTINGS)
    with pytest.raises(ValueError, match="call `generate` first"):
        attack.apply(x)
    attack.generate(x[:4], {name: labels[:4] for name, labels in y.items()})
    patched = attack.apply(x)
    assert np.array_equal(attack.place, np.tri(8) != 0)
    assert (patched[:, :, attack.place] == attack.patch[:, attack.place]).all()
    assert np.array_equal(patched[:, :, ~attack.place], x[:, :, ~attack.place])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda e: MultiTaskPatch(e, size=(4, 9)), ValueError, "should lie inside the image of 8x8"),
        (lambda e: MultiTaskPatch(e, size=(4, 4), location=(5, 0)), ValueError, "Found 4x4 at row 5, column 0"),
        (lambda e: MultiTaskPatch(e), ValueError, "either `size` or `mask`"),
        (lambda e: MultiTaskPatch(e, size=(4, 4), eps=0.1), TypeError, "MultiTaskPatch decides `eps`.*MultiTaskPGD"),
        (lambda e: MultiTaskPatch(e, size=(4, 4), shared=1), TypeError, "`shared` should be a bool"),
        (lambda e: MultiTaskPatch(e, size=(4, 4), transforms=[1]), TypeError, "list of callables"),
        (lambda e: MultiTaskPatch(e, size=(4, 4), method="stealthy:seg"), ValueError, "One perturbation for many"),
        (lambda e: UniversalMultiTaskPGD(e, keep="best"), TypeError, "UniversalMultiTaskPGD decides `keep`"),
        (lambda e: UniversalMultiTaskPGD(e, "minmax-official"), ValueError, "one number a sample"),
        (lambda e: UniversalMultiTaskPGD(e, eps=np.full((6, 1, 1, 1), 0.1)), ValueError, "`eps` should be one number"),
    ],
)
def test_bad_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make(make_estimator())


def test_arguments_of_a_call_are_checked():
    estimator = make_estimator()
    x, y = make_data(estimator)
    with pytest.raises(TypeError, match="itself says where its patch is"):
        MultiTaskPatch(estimator, size=(4, 4), **SETTINGS).generate(x, y, mask=np.ones((1, 1, 8, 8)))
    with pytest.raises(ValueError, match="`mask` should be one for all samples"):
        UniversalMultiTaskPGD(estimator, **SETTINGS).generate(x, y, mask=np.ones((6, 1, 8, 8)))
    with pytest.raises(TypeError, match="generate.. knows"):
        UniversalMultiTaskPGD(estimator, **SETTINGS).generate(x, y, maks=1)
    free = PyTorchMultiTaskEstimator(Net(), tasks=list(JOBS.values()), input_shape=(3, 8, 8), device_type="cpu")
    with pytest.raises(ValueError, match="needs an estimator with finite `clip_values`"):
        MultiTaskPatch(free, size=(4, 4))
