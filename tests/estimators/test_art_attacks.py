"""ART's own attacks and trainer, unmodified, on the estimator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from art.attacks.evasion import (
    AutoProjectedGradientDescent,
    BasicIterativeMethod,
    DeepFool,
    FastGradientMethod,
    MomentumIterativeMethod,
    ProjectedGradientDescent,
    SquareAttack,
)
from art.data_generators import NumpyDataGenerator
from art.defences.trainer import AdversarialTrainer
from art.exceptions import EstimatorError
from art.summary_writer import SummaryWriterDefault

from art_mtl.labels import MultiTaskLabels

# The forms that survive every kind of index; a list of dicts survives slices only.
SLICEABLE = ["container", "object array", "structured"]


def _pgd(**settings):
    return lambda e: ProjectedGradientDescent(e, max_iter=4, batch_size=4, verbose=False, **settings)


# The budget of L1 is spent on one pixel a step, so it is wide.
ATTACKS = {
    "FGM": (lambda e: FastGradientMethod(e, eps=0.05, batch_size=4), np.inf, 0.05),
    "BIM": (lambda e: BasicIterativeMethod(e, 0.05, 0.02, max_iter=4, batch_size=4, verbose=False), np.inf, 0.05),
    "PGD-inf": (_pgd(norm=np.inf, eps=0.05, eps_step=0.02), np.inf, 0.05),
    "PGD-2": (_pgd(norm=2, eps=0.5, eps_step=0.2), 2, 0.5),
    "PGD-1": (_pgd(norm=1, eps=4.0, eps_step=1.0), 1, 4.0),
    "MIM": (lambda e: MomentumIterativeMethod(e, np.inf, 0.05, 0.02, max_iter=4, verbose=False), np.inf, 0.05),
}


def _within(x_adv, x, norm, eps):
    length = np.linalg.norm((x_adv - x).reshape(len(x), -1), ord=norm, axis=1)
    return (length <= eps * (1 + 1e-4)).all() and x_adv.min() >= 0 and x_adv.max() <= 1


@pytest.mark.parametrize("name", ATTACKS)
def test_gradient_attacks_raise_the_loss_of_every_sample(make, x, y, form_of, name):
    build, norm, eps = ATTACKS[name]
    estimator = make()
    x_adv = build(estimator).generate(x, y=y)
    assert _within(x_adv, x, norm, eps)
    assert (estimator.compute_loss(x_adv, y) > estimator.compute_loss(x, y) + 1e-3).all()
    for form in ("object array", "structured", "rows"):
        np.testing.assert_array_equal(build(estimator).generate(x, y=form_of(y, form)), x_adv)


@pytest.mark.parametrize("name", ATTACKS)
def test_without_labels_the_models_own_predictions_are_attacked(make, x, name):
    build, *_ = ATTACKS[name]
    estimator = make()
    x_adv = build(estimator).generate(x)
    np.testing.assert_array_equal(x_adv, build(estimator).generate(x, y=estimator.own_labels(x)))
    own = estimator.own_labels(x)
    after, before = estimator.compute_losses(x_adv, own, "sum"), estimator.compute_losses(x, own, "sum")
    assert after["seg"] + after["kind"] + after["tags"] > before["seg"] + before["kind"] + before["tags"]
    # Of a regression the model's own prediction is the label, so the first gradient is exactly 0.
    assert before["depth"] == 0 and before["age"] == 0


def test_targeted_pgd_lowers_the_loss_towards_its_target(make, x, y):
    estimator = make()
    attack = ProjectedGradientDescent(estimator, eps=0.1, eps_step=0.02, max_iter=8, targeted=True, verbose=False)
    assert (estimator.compute_loss(attack.generate(x, y=y), y) < estimator.compute_loss(x, y)).all()


def test_bounds_may_be_arrays_in_arts_attacks(make, x, y):
    low = np.float32([0.0, 0.2, 0.4]).reshape(3, 1, 1)
    estimator = make(clip_values=(low, 1.0))
    x = np.maximum(x, low)
    x_adv = ProjectedGradientDescent(estimator, eps=0.3, eps_step=0.1, max_iter=4, verbose=False).generate(x, y=y)
    assert (x_adv >= low - 1e-6).all() and (x_adv < 0.2).any()


@pytest.mark.parametrize("form", ["container", "object array"])
def test_square_attack_raises_the_loss(make, x, y, form_of, form):
    estimator = make()

    def criterion(predicted, y):
        return estimator.labels(y, len(predicted))["kind"] != predicted["kind"].argmax(1)

    attack = SquareAttack(
        estimator,
        adv_criterion=criterion,
        loss=lambda x, y: -estimator.compute_loss(x, y),
        eps=0.3,
        max_iter=20,
        verbose=False,
    )
    labels = MultiTaskLabels({**{n: y[n] for n in y.names}, "kind": estimator.own_labels(x)["kind"]})
    x_adv = attack.generate(x, y=form_of(labels, form))
    gain = estimator.compute_loss(x_adv, labels) - estimator.compute_loss(x, labels)
    assert (gain >= 0).all() and gain.mean() > 0.05


@pytest.mark.parametrize("form", SLICEABLE)
def test_adversarial_trainer_fits(make, net, x, y, form_of, form):
    estimator = make(net, optimizer=torch.optim.Adam(net.parameters(), lr=0.02))
    attack = ProjectedGradientDescent(estimator, eps=0.03, eps_step=0.02, max_iter=2, verbose=False)
    before = estimator.compute_loss(attack.generate(x, y=y), y, "mean")
    AdversarialTrainer(estimator, attack, ratio=1.0).fit(x, form_of(y, form), batch_size=6, nb_epochs=12)
    assert estimator.compute_loss(attack.generate(x, y=y), y, "mean") < before


def test_adversarial_trainer_takes_partly_labelled_data(make, net, x, y):
    estimator = make(net, optimizer=torch.optim.SGD(net.parameters(), lr=0.01))
    present = {"kind": np.array([True] + [False] * 5)}
    sparse = MultiTaskLabels({name: y[name] for name in y.names}, present)
    attack = FastGradientMethod(estimator, eps=0.03)
    AdversarialTrainer(estimator, attack, ratio=0.5).fit(x, sparse, batch_size=2, nb_epochs=2)
    assert np.isfinite(estimator.compute_loss(x, sparse)).all()


def test_generators_feed_training(make, net, x, y, form_of):
    estimator = make(net, optimizer=torch.optim.Adam(net.parameters(), lr=0.02))
    before = estimator.compute_loss(x, y, "mean")
    generator = NumpyDataGenerator(x, form_of(y, "object array"), batch_size=3)
    estimator.fit_generator(generator, nb_epochs=10)
    assert estimator.compute_loss(x, y, "mean") < before


def test_the_summary_writer_logs_every_task(make, x, y):
    logged = {}

    class Writer:
        def add_scalars(self, tag, values, global_step):
            logged[tag] = values

        add_scalar = add_scalars

    writer = SummaryWriterDefault.__new__(SummaryWriterDefault)
    writer.__dict__.update(_summary_writer=Writer(), ind_1=False, ind_2=False, ind_3=False, ind_4=False)
    estimator = make()
    writer.update(batch_id=0, global_step=0, estimator=estimator, x=x, y=y, grad=None, patch=None, targeted=False)
    assert set(logged) == {f"loss/{task.name}/batch-0" for task in estimator.tasks}
    assert logged["loss/kind/batch-0"]["3"] == pytest.approx(estimator.compute_losses(x, y)["kind"][3])


def test_attacks_on_classifiers_say_no(make):
    estimator = make()
    with pytest.raises(TypeError, match="`task_view"):
        AutoProjectedGradientDescent(estimator)
    with pytest.raises(EstimatorError, match="ClassGradientsMixin"):
        DeepFool(estimator)
    with pytest.raises(ValueError, match="adversarial criterion"):
        SquareAttack(estimator)
