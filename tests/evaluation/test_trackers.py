"""Runs that are logged with TensorBoard, MLflow and Weights & Biases."""

from __future__ import annotations

import struct
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from art_mtl import tasks
from art_mtl.evaluation import (
    Callback,
    MLflowCallback,
    TensorBoardCallback,
    TrackerCallback,
    WandbCallback,
    evaluate,
)

# Names that no tracker takes, two of which look alike once they are cleaned.
JOBS = [tasks.classification("kind|a", 3), tasks.regression("kind<a")]
N, STEPS = 12, 3


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(12, 4)

    def forward(self, x):
        found = self.layer(x.flatten(1))
        return 4 * found[:, :3], found[:, 3]


@pytest.fixture(scope="module")
def run():
    torch.manual_seed(0)
    net = Net().eval()
    x = np.random.default_rng(0).uniform(size=(N, 3, 2, 2)).astype(np.float32)
    first, second = net(torch.from_numpy(x))
    y = {"kind|a": first.argmax(1).numpy(), "kind<a": second.detach().numpy() + 0.3}
    settings = {"eps": [0.1, 0.2], "steps": STEPS, "chunk": 8, "keep_adversarial": True, "progress": False}

    def run(*callbacks, given=("minmax",), **more):
        return evaluate((net, JOBS), given, (x, y), device="cpu", callbacks=callbacks, **{**settings, **more})

    return run


@pytest.fixture(scope="module")
def unwatched(run):
    return run()


class Memory(TrackerCallback):
    """A tracker that keeps what it is given."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.once, self.curves, self.closed = {}, {}, []

    def open(self, plan):
        self.plan = plan

    def log(self, numbers, step):
        for name, number in numbers.items():
            if step is None:
                assert name not in self.once
                self.once[name] = number
            else:
                self.curves.setdefault(name, []).append((step, number))

    def close(self, error):
        self.closed.append(error)


def check_logged(found, once, curves, losses=False, digits=1e-6):
    """Raise unless a run was logged as a whole: figures by name, and curves of (step, number) by name."""
    expected, lines = {}, {}
    for attack in found:
        title = f"minmax_linf_{attack.eps:.4g}"
        for name in ("delta_mtl", "delta_wor"):
            expected[f"{name}/{title}"] = getattr(attack, name)
            low, high = getattr(attack, f"{name}_interval")
            expected |= {f"{name}_low/{title}": low, f"{name}_high/{title}": high}
        expected[f"per_image_worst/{title}"] = attack.least_degradation
        for name in ("gradient_evaluations", "forward_evaluations", "seconds", "perturbation"):
            expected[f"{name}/{title}"] = getattr(attack, name)
        for k, task in enumerate(("kind_a", "kind_a-2")):
            low, high = attack.delta_intervals[k]
            expected |= {f"delta/{title}/{task}": attack.deltas[k], f"attacked/{title}/{task}": attack.values[k],
                         f"delta_low/{title}/{task}": low, f"delta_high/{title}/{task}": high}  # fmt: skip
            lines[f"weights/{title}/{task}"] = [(t, attack.weights[t][k]) for t in range(STEPS)]
            if losses:
                lines[f"losses/{title}/{task}"] = [(t, attack.losses[t][k]) for t in (0, 2)]
    assert set(once) == set(expected)
    for name, number in expected.items():
        assert once[name] == pytest.approx(number, rel=digits), name
    progress = curves.pop("progress/share")
    assert [(step, pytest.approx(share)) for step, share in progress] == [(1, 0.25), (2, 0.5), (3, 0.75), (4, 1.0)]
    assert [step for step, _ in curves.pop("progress/seconds")] == [1, 2, 3, 4]
    assert set(curves) == set(lines)
    for name, points in lines.items():
        assert [step for step, _ in curves[name]] == [step for step, _ in points]
        assert [y for _, y in curves[name]] == pytest.approx([y for _, y in points], rel=digits), name


def check_same(found, unwatched, losses=False):
    """Raise unless the run is, but for its date and duration, that of no callback, byte by byte."""

    def text(run):
        results = run.results
        timeless = [replace(one, seconds=0.0, losses=None if losses else one.losses) for one in results.attacks]
        environment = replace(results.environment, date="")
        return replace(results, attacks=tuple(timeless), environment=environment).to_json_text()

    assert text(found) == text(unwatched)
    for attack in unwatched:
        key = attack.name, attack.norm, attack.eps
        assert found.adversarial(key).tobytes() == unwatched.adversarial(key).tobytes()


def test_everything_is_logged_once_by_names_that_trackers_take(run, unwatched):
    memory = Memory(losses_every=2)
    found = run(memory)
    assert memory.plan.tasks == ("kind|a", "kind<a") and memory.closed == [None]
    check_logged(found, memory.once, memory.curves, losses=True)
    check_same(found, unwatched, losses=True)


def test_no_tracker_hears_of_steps():
    for kind in (TrackerCallback, TensorBoardCallback, MLflowCallback, WandbCallback):
        assert kind.on_step is Callback.on_step


def test_a_tracker_that_fails_lets_the_run_go_on_unless_told_otherwise(run, unwatched):
    class Gone(Memory):
        def log(self, numbers, step):
            raise ConnectionError("nobody there")

    gone = Gone()
    with pytest.warns(RuntimeWarning, match="Gone should raise no exception. Found ConnectionError in on_unit: nobody"):
        found = run(gone)
    check_same(found, unwatched)
    assert [type(error) for error in gone.closed] == [ConnectionError]
    with pytest.raises(RuntimeError, match="Found ConnectionError in on_unit"):
        run(Gone(errors="raise"))


@pytest.mark.parametrize(
    "make, package, extra",
    [
        (lambda: TensorBoardCallback("logs"), "tensorboardX", "tensorboard"),
        (MLflowCallback, "mlflow", "mlflow"),
        (WandbCallback, "wandb", "wandb"),
    ],
)
def test_a_package_that_is_missing_is_named(make, package, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"logged with {package} .* pip install '\.\[{extra}\]'"):
        make()


def events(folder):
    """The events of a log: each record is a length, a checksum, the event, a checksum."""
    from tensorboardX.proto.event_pb2 import Event

    (path,) = folder.iterdir()
    content, place = path.read_bytes(), 0
    while place < len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        yield Event.FromString(content[place + 12 : place + 12 + length])
        place += 12 + length + 4


def test_tensorboard(run, unwatched, tmp_path):
    pytest.importorskip("tensorboardX")
    found = run(TensorBoardCallback(tmp_path / "logs", losses_every=2))
    check_same(found, unwatched, losses=True)
    curves, texts = {}, []
    for event in events(tmp_path / "logs"):
        for value in event.summary.value:
            if value.HasField("tensor"):
                texts.append(value.tensor.string_val[0].decode())
            else:
                curves.setdefault(value.tag, []).append((event.step, value.simple_value))
    once = {name: curves.pop(name)[0][1] for name in list(curves) if name.split("/")[0] not in _CURVES}
    check_logged(found, once, curves, losses=True, digits=1e-5)
    assert len(texts) == 1 and "attacks: [minmax]" in texts[0]


_CURVES = ("progress", "weights", "losses")


@pytest.fixture
def client(monkeypatch, tmp_path):
    """MLflow's local file store."""
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # newer versions prefer a database
    from mlflow import MlflowClient

    client = MlflowClient(f"file:{tmp_path}/mlruns")
    client.uri = f"file:{tmp_path}/mlruns"
    return client


def test_mlflow(run, unwatched, client):
    tracker = MLflowCallback(client.uri, experiment_name="robustness", losses_every=2)
    found = run(tracker)
    check_same(found, unwatched, losses=True)
    kept = client.get_run(tracker.run_id)
    assert (kept.info.status, kept.info.run_name) == ("FINISHED", "model")
    assert client.get_experiment(kept.info.experiment_id).name == "robustness"
    assert kept.data.params["eps"] == "0.1, 0.2" and kept.data.params["steps"] == "3"
    curves = {
        name: [(point.step, point.value) for point in client.get_metric_history(tracker.run_id, name)]
        for name in kept.data.metrics
    }
    once = {name: curves.pop(name)[0][1] for name in list(curves) if name.split("/")[0] not in _CURVES}
    check_logged(found, once, curves, losses=True)
    first = tracker.run_id
    run(tracker)
    assert tracker.run_id != first, "another run, of the same experiment"


@pytest.mark.parametrize("error, status", [(KeyboardInterrupt(), "KILLED"), (LookupError("mine"), "FAILED")])
def test_mlflow_is_told_how_a_run_ends(run, client, error, status):
    class Broken:
        def generate(self, x, y):
            raise error

    tracker = MLflowCallback(client.uri)
    with pytest.raises(type(error)):
        run(tracker, given=[Broken()])
    assert client.get_run(tracker.run_id).info.status == status


def test_wandb_offline(run, unwatched, tmp_path):
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    logged, summary, settings = {}, {}, wandb.Settings(silent=True, x_disable_stats=True)
    tracker = WandbCallback(losses_every=2, mode="offline", dir=str(tmp_path), settings=settings, config={"mine": 1})
    open_run = tracker.open

    def open_and_look(plan):
        """Look at the run itself: an offline run is written in a format of wandb's own."""
        open_run(plan)
        own, log, finish = tracker._run, tracker._run.log, tracker._run.finish
        assert (own.project, own.config["steps"], own.config["mine"]) == ("art_mtl", 3, 1)
        own.log = lambda row: (log(row), [logged.setdefault(k, []).append((row["step"], v)) for k, v in row.items()])
        own.finish = lambda **named: (summary.update(own.summary), finish(**named))

    tracker.open = open_and_look
    found = run(tracker)
    check_same(found, unwatched, losses=True)
    assert [step for step, number in logged.pop("step") if step != number] == []
    once = {name: number for name, number in summary.items() if "/" in name and name.split("/")[0] not in _CURVES}
    check_logged(found, once, logged, losses=True)
    assert list(Path(tmp_path).glob("wandb/offline-run-*/run-*.wandb")) and wandb.run is None


def test_wandb_leaves_the_active_run_alone(run, unwatched, tmp_path):
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    settings = {"mode": "offline", "dir": str(tmp_path), "settings": wandb.Settings(silent=True)}
    active = wandb.init(**settings)
    check_same(run(WandbCallback(**settings)), unwatched)
    assert wandb.run is active
    active.log({"mine": 1})
    active.finish()
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == 2
