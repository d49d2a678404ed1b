"""Checkpoints as people have them: prefixes, Lightning, moving averages."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from art_mtl.models import load_checkpoint


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


SOURCE, OTHER = net(1), net(2)
STATE = SOURCE.state_dict()


def behind(prefix, state=STATE):
    return {prefix + key: tensor for key, tensor in state.items()}


class Module(nn.Module):
    """As a LightningModule has it: the network beside a criterion with weights."""

    def __init__(self):
        super().__init__()
        self.net, self.criterion = SOURCE, nn.CrossEntropyLoss(weight=torch.ones(2))


CHECKPOINTS = {
    "plain": STATE,
    "data parallel": nn.DataParallel(SOURCE).state_dict(),
    "lightning": {"epoch": 3, "pytorch-lightning_version": "2.1", "state_dict": Module().state_dict(), "loops": {}},
    "compiled inside": {"state_dict": {f"model._orig_mod.{key}": tensor for key, tensor in STATE.items()}},
    "ddp in a trainer": {"model": behind("module.model."), "optimizer": {"lr": 0.1}},
    "swa": AveragedModel(SOURCE).state_dict(),
    "beside its average": {"state_dict": {**behind("net."), **behind("ema_net.", OTHER.state_dict())}},
}
AVERAGES = {
    "timm": {"state_dict": OTHER.state_dict(), "state_dict_ema": STATE},
    "nested": {"model": OTHER.state_dict(), "ema": {"state_dict": behind("module."), "updates": 3}},
    "prefix": {"state_dict": {**behind("net.", OTHER.state_dict()), **behind("ema.module.")}},
}


@pytest.mark.parametrize(("name", "ema"), [*((name, False) for name in CHECKPOINTS), *((n, True) for n in AVERAGES)])
def test_the_weights_are_found(tmp_path, name, ema):
    torch.save((AVERAGES if ema else CHECKPOINTS)[name], tmp_path / "last.ckpt")
    model = net(5)
    load_checkpoint(model, tmp_path / "last.ckpt", ema=ema)
    assert all(torch.equal(model.state_dict()[key], tensor) for key, tensor in STATE.items())


@pytest.mark.parametrize(
    ("saved", "ema", "message"),
    [
        ({"state_dict": {**behind("a."), **behind("b.")}}, False, "weights of one model. Found them behind 'a.', 'b.'"),
        ({"state_dict": STATE}, True, "expected a moving average, an entry ema_state_dict"),
        ({"state_dict": {**behind("net."), "net.more": torch.ones(1)}}, False, "unexpected more"),
        (
            {"state_dict": {key: tensor for key, tensor in behind("net.").items() if "2.bias" not in key}},
            False,
            "missing",
        ),
        ({"state_dict": {"hyper": SOURCE}}, False, "code that reading the file would run"),
    ],
)
def test_what_does_not_fit_is_told_and_nothing_changes(tmp_path, saved, ema, message):
    torch.save(saved, tmp_path / "last.ckpt")
    model = net(5)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=f"last.ckpt: .*{message}"):
        load_checkpoint(model, tmp_path / "last.ckpt", ema=ema)
    assert all(torch.equal(model.state_dict()[key], tensor) for key, tensor in before.items())
