from __future__ import annotations

import copy
import random
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch

from art_mtl.core import frozen, lending


@pytest.fixture
def net():
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(), torch.nn.Linear(4, 2))
    net.train()
    net[1].eval()  # modes differ from module to module
    net[0].bias.requires_grad_(False)
    net(torch.randn(5, 3)).sum().backward()
    net[3].weight.grad = None
    return net


def _state(net):
    return {
        "modes": [m.training for m in net.modules()],
        "learning": [p.requires_grad for p in net.parameters()],
        "grads": [None if p.grad is None else p.grad.clone() for p in net.parameters()],
        "values": copy.deepcopy(net.state_dict()),
        "hooks": [len(m._forward_hooks) for m in net.modules()],
        "rng": torch.get_rng_state(),
    }


def _same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def _use(net):
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    torch.autograd.grad(net(x).sum(), x)


def test_everything_is_as_before(net):
    before = _state(net)
    with frozen(net):
        assert not any(m.training for m in net.modules())
        assert not any(p.requires_grad for p in net.parameters())
        _use(net)
    assert _same(before, _state(net))


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_also_after_an_exception(net, error):
    before = _state(net)
    with pytest.raises(error), frozen(net):
        _use(net)
        raise error
    assert _same(before, _state(net))


def test_modes_can_be_left_alone(net):
    modes = [m.training for m in net.modules()]
    with frozen(net, evaluate=False):
        assert [m.training for m in net.modules()] == modes
        assert not any(p.requires_grad for p in net.parameters())
    assert [m.training for m in net.modules()] == modes
    assert [p.requires_grad for p in net.parameters()].count(False) == 1


# --- modes ---


def test_a_predicate_says_which_modules_train(net):
    modes = [m.training for m in net.modules()]
    with frozen(net, training=lambda module: isinstance(module, torch.nn.Dropout)):
        assert [m.training for m in net.modules()] == [False, False, False, True, False]
    assert [m.training for m in net.modules()] == modes


def test_statistics_that_move_in_training_mode_come_back(net):
    before = _state(net)
    for wish in ({"training": lambda module: True}, {"evaluate": False}):
        net.train()
        with frozen(net, **wish):
            assert net[1].training
            _use(net)
            assert not torch.equal(net[1].running_mean, before["values"]["1.running_mean"])
            net[1].running_var = torch.zeros(4)  # Replaced, not only written to.
        net[1].eval()
        assert _same({**before, "rng": 0}, {**_state(net), "rng": 0})


class Writing(torch.nn.Module):
    """Writes to its buffers in evaluation mode: in place, by their data, by others in their places."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(3)
        for name in ("count", "total", "last"):
            self.register_buffer(name, torch.zeros(()))
        self.register_buffer("cache", None)
        self.register_buffer("wide", torch.zeros(1).expand(3))
        self.register_buffer("sparse", torch.eye(3).to_sparse())

    def forward(self, x):
        self.count += 1
        self.total.data += x.sum()
        self.last, self.cache = x.mean(), x
        self.norm.train()
        return self.norm(x) @ self.sparse + self.wide


def _buffers(model):
    return {name: None if b is None else b.clone() for m in model.modules() for name, b in m._buffers.items()}


def _are_same(before, after):
    return all(
        after[name] is None if b is None else torch.equal(b.to_dense(), after[name].to_dense())
        for name, b in before.items()
    )


@pytest.mark.parametrize("mode", [False, True])
def test_buffers_that_a_forward_pass_writes_come_back(mode):
    model = Writing().eval()
    before, places = _buffers(model), [buffer.data_ptr() for buffer in (model.count, model.last)]
    with frozen(model, training=lambda module: mode):
        model(torch.randn(5, 3))
        with frozen(model):
            model(torch.randn(5, 3))
        assert not _are_same(before, _buffers(model))
    assert _are_same(before, _buffers(model)) and not model.norm.training
    assert places == [buffer.data_ptr() for buffer in (model.count, model.last)]


def test_they_come_back_when_the_last_of_several_loans_ends():
    model = Writing().eval()
    before = _buffers(model)
    first, second = frozen(model), frozen(model)
    first.__enter__()
    model(torch.randn(5, 3))
    second.__enter__()
    first.__exit__(None, None, None)
    model(torch.randn(5, 3))
    second.__exit__(None, None, None)
    assert _are_same(before, _buffers(model)) and not lending._LEDGER.buffers


def test_memory_that_can_only_be_read_is_not_written(tmp_path):
    np.save(tmp_path / "table.npy", np.ones(4, dtype=np.float32))
    model = torch.nn.Module()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.register_buffer("table", torch.from_numpy(np.load(tmp_path / "table.npy", mmap_mode="r")))
    with frozen(model):
        pass
    assert model.table.sum() == 4


def test_a_graph_that_saved_the_statistics_can_still_be_differentiated(net):
    x = torch.randn(5, 3, requires_grad=True)
    with frozen(net, training=lambda module: True):
        loss = net(x).sum()
        net[1].eval()
        loss = loss + net(x).sum()
    torch.autograd.grad(loss, x)


def test_a_train_method_of_the_models_own_is_not_called():
    class Merging(torch.nn.Linear):
        def train(self, mode=True):
            self.weight.data += 1
            return super().train(mode)

    net = torch.nn.Sequential(Merging(2, 2))
    before = net[0].weight.clone()
    with frozen(net):
        assert not net[0].training
    assert torch.equal(net[0].weight, before) and net[0].training


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
def test_models_that_refuse_eval_are_lent_too():
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Dropout())
    x = torch.zeros(1, 3)
    for model in (
        torch.export.export(net.eval(), (x,)).module(),
        torch.jit.freeze(torch.jit.script(net.eval())),
        torch.jit.trace(net.eval(), x),
        torch.jit.script(net.train()),
    ):
        modes = [getattr(m, "training", None) for m in model.modules()]
        with frozen(model):
            assert torch.equal(model(x), model(x))
        assert [getattr(m, "training", None) for m in model.modules()] == modes


# --- recurrent layers ---


class Recurrent(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer, self.norm, self.drop = layer, torch.nn.BatchNorm1d(12), torch.nn.Dropout()

    def forward(self, x):
        return self.drop(self.norm(self.layer(x)[0]))


LAYERS = {
    "lstm": lambda lstm: lstm(4, 3, batch_first=True),
    "stacked": lambda lstm: lstm(4, 3, num_layers=3, dropout=0.5, bidirectional=True, batch_first=True),
    "gru": lambda lstm: torch.nn.GRU(4, 3, num_layers=2, dropout=0.5, batch_first=True),
    "rnn": lambda lstm: torch.nn.RNN(4, 3, num_layers=2, dropout=0.5, batch_first=True),
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("evaluate", [True, False])
def test_recurrent_layers_can_be_differentiated_and_compute_what_they_do_in_evaluation_mode(
    ruled_lstm, layer, evaluate
):
    net, x = Recurrent(LAYERS[layer](ruled_lstm)), torch.randn(5, 12, 4)
    net.train(evaluate)  # As it is found; left alone, it is in evaluation mode already.
    dropout = net.layer.dropout
    plain = copy.deepcopy(net).eval().requires_grad_(False)
    plain.layer.__class__ = (
        plain.layer.__class__.__mro__[1] if isinstance(plain.layer, ruled_lstm) else type(plain.layer)
    )
    before = _state(net)
    with frozen(net, evaluate=evaluate):
        assert net.layer.training and net.layer.dropout == 0 and not net.norm.training and not net.drop.training
        results = [(m(leaf), leaf) for m in (net, plain) for leaf in [x.clone().requires_grad_()]]
        gradients = [torch.autograd.grad(out.square().sum(), leaf)[0] for out, leaf in results]
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(*gradients)
    assert net.layer.dropout == dropout and _same(before, _state(net))


def test_dropout_of_a_recurrent_layer_stays_on_where_training_is_asked_for():
    net = Recurrent(LAYERS["gru"](None)).train()
    with frozen(net, evaluate=False):
        assert net.layer.training and net.layer.dropout == 0.5
    with frozen(net):
        with frozen(net, evaluate=False):
            assert net.layer.dropout == 0
        with frozen(net, training=lambda module: True):
            assert net.layer.dropout == 0.5
        assert net.layer.dropout == 0
    assert net.layer.dropout == 0.5


# --- several loans at once ---


def test_loans_may_be_nested_with_other_settings(net):
    before = _state(net)
    with frozen(net):
        with frozen(net, training=lambda module: True):
            assert all(m.training for m in net.modules())
            _use(net)
            with frozen(net):
                assert not any(m.training for m in net.modules())
            assert all(m.training for m in net.modules())
        assert not any(m.training for m in net.modules())
        assert torch.equal(net[1].running_mean, before["values"]["1.running_mean"])
        with frozen(net, evaluate=False):
            assert not any(m.training for m in net.modules())
        assert not any(p.requires_grad for p in net.parameters())
    assert _same({**before, "rng": 0}, {**_state(net), "rng": 0})


def test_loans_may_end_in_any_order(net):
    before = _state(net)
    one, other, last = frozen(net), frozen(net, training=lambda module: True), frozen(net)
    for loan in (one, other, last):
        loan.__enter__()
    one.__exit__(None, None, None)
    last.__exit__(None, None, None)
    assert all(m.training for m in net.modules()) and not any(p.requires_grad for p in net.parameters())
    other.__exit__(None, None, None)
    assert _same(before, _state(net))


def _thread(work):
    """Started; ``join`` re-raises what went wrong."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(work)
    pool.shutdown(wait=False)
    return future


def test_the_first_thread_to_end_does_not_take_the_model_from_the_other(net):
    before = _state(net)
    inside, leave = threading.Event(), threading.Event()

    def short():
        with frozen(net):
            inside.set()
            assert leave.wait(10)

    first = _thread(short)
    assert inside.wait(10)
    with frozen(net):
        leave.set()
        first.result(10)
        assert not any(m.training for m in net.modules()) and not any(p.requires_grad for p in net.parameters())
    assert _same(before, _state(net))


def test_models_may_share_a_trunk(net):
    one, other = torch.nn.Sequential(net, torch.nn.Linear(2, 1)), torch.nn.Sequential(torch.nn.Identity(), net)
    before = _state(net)
    first, second = frozen(one), frozen(other)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not any(m.training for m in net.modules()) and one[1].training
    assert one[1].weight.requires_grad and not net[0].weight.requires_grad
    second.__exit__(None, None, None)
    assert _same(before, _state(net))


def test_another_mode_waits_for_the_threads_that_have_the_model(net):
    before, seen = _state(net), []
    inside, leave = threading.Event(), threading.Event()

    def trains():
        with frozen(net, training=lambda module: True):
            inside.set()
            leave.wait(10)
            seen.append(all(m.training for m in net.modules()))

    first = _thread(trains)
    assert inside.wait(10)

    def evaluates():
        with frozen(net):
            seen.append(not any(m.training for m in net.modules()))

    second = _thread(evaluates)
    time.sleep(0.05)
    assert seen == []
    leave.set()
    first.result(10), second.result(10)
    assert seen == [True, True] and _same({**before, "rng": 0}, {**_state(net), "rng": 0})


def test_statistics_of_two_threads_in_training_mode_do_not_mix(net):
    net.train()
    before = _state(net)

    def work(seed):
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
        with frozen(net, training=lambda module: not isinstance(module, torch.nn.Dropout)):
            found = []
            for _ in range(20):
                net(x)
                time.sleep(0.001)
                found.append(net[1].running_mean.clone())
        return found

    alone = [work(seed) for seed in range(2)]
    together = [future.result(30) for future in [_thread(partial(work, seed)) for seed in range(2)]]
    assert _same(alone, together) and _same(before, _state(net))


def test_threads_that_would_wait_for_each_other_are_told(net):
    before = _state(net)
    ready = threading.Barrier(2)

    def work():
        with frozen(net):
            ready.wait(10)
            with frozen(net, training=lambda module: True):
                return True

    outcomes = []
    for future in [_thread(work), _thread(work)]:
        try:
            outcomes.append(future.result(10))
        except RuntimeError as error:
            outcomes.append("wait" not in str(error) and "copy of the model" in str(error))
    assert outcomes == [True, True] and _same(before, _state(net))


def test_many_threads_leave_nothing_behind(net):
    before = _state(net)

    def work(seed):
        choose = random.Random(seed)
        for _ in range(50):
            with frozen(net), frozen(net, evaluate=choose.random() < 0.5):
                assert not net.training

    for future in [_thread(partial(work, seed)) for seed in range(4)]:
        future.result(60)
    assert _same(before, _state(net))
    assert not lending._LEDGER.modules and not lending._LEDGER.parameters and not lending._LEDGER.loans


# --- what cannot be set ---


class Stubborn(torch.nn.Parameter):
    """Its requires_grad can be switched off, and not on again."""

    def requires_grad_(self, requires_grad=True):
        if requires_grad:
            raise RuntimeError("stubborn")
        return super().requires_grad_(False)


def test_what_cannot_be_given_back_keeps_nothing_else_from_being_given_back(net, caplog):
    net[0].weight = Stubborn(torch.ones(4, 3))
    modes, rest = [m.training for m in net.modules()], [p for p in net.parameters() if not isinstance(p, Stubborn)]
    learning = [p.requires_grad for p in rest]
    with pytest.raises(RuntimeError, match="stubborn"), frozen(net):
        pass
    assert [m.training for m in net.modules()] == modes and [p.requires_grad for p in rest] == learning
    net[0].weight = Stubborn(torch.ones(4, 3))
    with pytest.raises(KeyError, match="the user's own"), frozen(net):
        raise KeyError("the user's own")
    assert "could not be given back" in caplog.text
    assert [m.training for m in net.modules()] == modes and [p.requires_grad for p in rest] == learning


def test_an_error_in_lending_leaves_nothing_changed(net):
    net[3]._parameters["weight"] = torch.nn.Parameter(torch.ones(2, 4)) * 2  # No leaf: its flag cannot be changed.
    before = [(m.training, [p.requires_grad for p in m.parameters()]) for m in net.modules()]
    with pytest.raises(RuntimeError, match="leaf"), frozen(net):
        raise AssertionError("not reached")
    assert [(m.training, [p.requires_grad for p in m.parameters()]) for m in net.modules()] == before
    assert not lending._LEDGER.modules and not lending._LEDGER.parameters


def test_a_model_made_in_inference_mode_is_named_with_the_remedy():
    with torch.inference_mode():
        net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    before = [(m.training, [p.requires_grad for p in m.parameters()]) for m in net.modules()]
    with pytest.raises(ValueError, match=r"outside torch.inference_mode\(\).*'0.weight'.*copy.deepcopy"), frozen(net):
        raise AssertionError("not reached")
    assert [(m.training, [p.requires_grad for p in m.parameters()]) for m in net.modules()] == before
    with frozen(net, differentiable=False), torch.no_grad():
        assert net(torch.zeros(2, 3)).shape == (2, 2) and not net.training
    assert [(m.training, [p.requires_grad for p in m.parameters()]) for m in net.modules()] == before
    with frozen(copy.deepcopy(net)):  # The remedy.
        pass


def test_a_loan_inside_inference_mode_gives_back(net):
    before = _state(net)
    with torch.inference_mode(), frozen(net):
        assert not any(p.requires_grad for p in net.parameters())
        net(torch.zeros(2, 3))
    assert _same(before, _state(net))
