"""Saving: what comes back is what was given, in whatever bounds, and nothing is attacked that cannot be stored."""

from __future__ import annotations

import pytest
import torch

from art_mtl import tasks

pytest.importorskip("torchattacks")
from art_mtl.torchattacks import MultiTaskPGD

JOBS = [tasks.classification("k", 4)]
BOUNDS = {
    "unit": (0.0, 1.0),
    "centred": (-1, 1),
    "grey levels": (0, 255),
    "tensors": (torch.tensor([-1.0, 0.0, 2.0]).view(3, 1, 1), torch.tensor([1.0, 0.5, 10.0]).view(3, 1, 1)),
}


@pytest.fixture
def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 4))


def make_data(bounds):
    lower, upper = (torch.as_tensor(bound, dtype=torch.float32) for bound in bounds)
    images = lower + (upper - lower) * torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return images.contiguous(), {"k": torch.arange(5) % 4}


@pytest.mark.parametrize("name", BOUNDS)
def test_eight_bits_span_the_bounds(net, tmp_path, name):
    """A value comes back within half a step of 255 between the bounds."""
    bounds = BOUNDS[name]
    images, labels = make_data(bounds)
    width = torch.as_tensor(bounds[1]) - torch.as_tensor(bounds[0])
    attack = MultiTaskPGD(net, JOBS, eps=0.1, steps=3, bounds=bounds)
    attack.save([(images, labels)], tmp_path / "adv.pt", verbose=False, save_type="int", save_clean_inputs=True)
    stored = torch.load(tmp_path / "adv.pt", weights_only=True)
    assert stored["adv_inputs"].dtype == stored["clean_inputs"].dtype == torch.uint8
    adversarial, _, clean = next(iter(attack.load(tmp_path / "adv.pt", load_clean_inputs=True)))
    for found, expected in ((adversarial, attack(images, labels)), (clean, images)):
        assert ((found - expected).abs() <= (0.5 / 255) * width + 1e-5 * width.abs()).all()
    assert stored["adv_inputs"].max() > 200 and stored["adv_inputs"].min() < 55


def test_eight_bits_of_normalised_images(net, tmp_path):
    images, labels = make_data((0, 1))
    attack = MultiTaskPGD(net, JOBS, eps=0.1, steps=3)
    attack.set_normalization_used([0.4, 0.5, 0.6], [0.2, 0.25, 0.5])
    scaled = attack.normalize(images)
    attack.save([(scaled, labels)], tmp_path / "adv.pt", verbose=False, save_type="int", save_clean_inputs=True)
    _, _, clean = next(iter(attack.load(tmp_path / "adv.pt", load_clean_inputs=True)))
    assert (clean - images).abs().max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize(
    ("bounds", "path", "save_type", "error", "message"),
    [
        ((-float("inf"), float("inf")), "adv.pt", "int", ValueError, "`save_type` should be 'float' where `bounds`"),
        ((0, 1), "no such folder/adv.pt", "float", FileNotFoundError, "`save_path` should lie in a folder that exists"),
        ((0, 1), "adv.pt", "half", ValueError, "`save_type` should be 'float' or 'int'. Found 'half'"),
    ],
)
def test_what_cannot_be_stored_is_refused_before_anything_is_attacked(
    net, tmp_path, bounds, path, save_type, error, message
):
    seen = []

    def loader():
        seen.append(1)
        yield make_data((0, 1))

    with pytest.raises(error, match=message):
        MultiTaskPGD(net, JOBS, bounds=bounds).save(loader(), tmp_path / path, verbose=False, save_type=save_type)
    assert not seen and not list(tmp_path.iterdir())


def test_without_labels_the_models_own_predictions_count(net, tmp_path):
    images, _ = make_data((0, 1))
    attack = MultiTaskPGD(net, JOBS, eps=0.1, steps=3)
    metrics, _, _ = attack.save([(images, None)], tmp_path / "adv.pt", verbose=False, return_verbose=True)
    adversarial, labels = next(iter(attack.load(tmp_path / "adv.pt")))
    with torch.no_grad():
        own, found = net(images).argmax(1), net(adversarial).argmax(1)
    assert torch.equal(adversarial, attack(images)) and torch.equal(labels["k"], own)
    assert list(metrics.values()) == [pytest.approx((own == found).float().mean().item())]
