"""Runs in a folder: resumed, refused, read while they go on, compared; chunks that know nothing of each other."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from art_mtl import MultiTaskLabels, PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MultiTaskPGD, WorstTaskPGD
from art_mtl.attacks.base import MultiTaskAttack
from art_mtl.data.sources import as_source
from art_mtl.evaluation import Callback, Results, Run, evaluate
from art_mtl.evaluation.measure import Evaluator, _dense
from art_mtl.evaluation.store import DATABASE
from art_mtl.evaluation.units import UnitResult
from art_mtl.files import locked
from art_mtl.losses import absolute_error

SIZE, CHAIN = 13, 4
pytestmark = pytest.mark.filterwarnings("ignore:Task 'kind' has no valid label:RuntimeWarning")


class Net(torch.nn.Module):
    """Segmentation into 3 classes, depth, a class."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.conv, self.head = torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.Linear(20, 3)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        dense = self.conv(x)
        return {"seg": 3 * dense[:, :3], "depth": 2 + dense[:, 3:], "kind": 5 * self.head(x.flatten(1))}


def make_estimator(seed: int = 0) -> PyTorchMultiTaskEstimator:
    return PyTorchMultiTaskEstimator(
        Net(seed),
        tasks=[tasks.segmentation("seg", 3), tasks.depth("depth"), tasks.classification("kind", 3)],
        input_shape=(1, 4, 5),
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )


@pytest.fixture
def estimator() -> PyTorchMultiTaskEstimator:
    return make_estimator()


def make_data(size: int = SIZE, seed: int = 1) -> tuple[np.ndarray, MultiTaskLabels]:
    """Labels near the model's own answers; the last five samples have no class."""
    x = np.random.default_rng(seed).uniform(0, 1, (size, 1, 4, 5)).astype(np.float32)
    raw = make_estimator().predict(x)
    labels = {"seg": raw["seg"].argmax(1), "depth": raw["depth"] + 0.1, "kind": raw["kind"].argmax(1)}
    labels["seg"][:, 0, ::2] = -1
    return x, MultiTaskLabels(labels, {"kind": np.arange(size) < size - 5})


def attacks_on(estimator: PyTorchMultiTaskEstimator, eps: float = 0.1) -> list[Any]:
    return [
        MultiTaskPGD(estimator, "equal", eps=eps, max_iter=3, batch_size=3, verbose=False),
        WorstTaskPGD(estimator, eps=eps, max_iter=3, batch_size=3, weight_group=CHAIN, verbose=False),
    ]


def run(estimator: Any, folder: Path | None, data: Any = None, attacks: Any = None, **changes: Any) -> Results:
    settings = {"seed": 0, "chunk": CHAIN, "batch_size": 3, "progress": False, **changes}
    return evaluate(estimator, attacks or attacks_on(estimator), data or make_data(), out=folder, **settings).results


def figures(results: Results) -> list[dict[str, Any]]:
    """All that was found but the time it took."""
    return [{**vars(attack), "seconds": 0} for attack in results.attacks]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != ".lock"}


class Stops(Exception):
    """The moment at which a run is stopped."""


def stop_after(monkeypatch: pytest.MonkeyPatch, calls: int) -> list[str]:
    """Let attacks be called so often, and write down by which chunk."""
    generate, made = MultiTaskAttack.generate, list[str]()

    def counted(self: MultiTaskAttack, x: np.ndarray, *others: Any, **named: Any) -> np.ndarray:
        if len(made) == calls:
            raise Stops
        made.append(f"{self.name} {x.sum():.6f}")
        return generate(self, x, *others, **named)

    monkeypatch.setattr(MultiTaskAttack, "generate", counted)
    return made


def test_a_stopped_run_goes_on_and_ends_with_the_same_numbers(estimator, tmp_path, monkeypatch) -> None:
    whole = run(estimator, tmp_path / "whole")
    with monkeypatch.context() as patch:
        first = stop_after(patch, 5)
        with pytest.raises(Stops):
            run(estimator, tmp_path / "run")
    with monkeypatch.context() as patch:
        then = stop_after(patch, 100)
        resumed = run(estimator, tmp_path / "run")
    assert len(first) == 5 and len(then) == 3 and not set(first) & set(then), "8 units, none of them twice"
    assert figures(resumed) == figures(whole) and resumed.tasks == whole.tasks
    with monkeypatch.context() as patch:
        stop_after(patch, 0)
        again = run(estimator, tmp_path / "run")
    assert again.to_json_text() == resumed.to_json_text(), "dates and times, too, are those of the run"


def test_chains_and_whole_agree_where_chains_are_those_of_the_method(estimator) -> None:
    """worst-task shares its weights over chunks of 4 whether it sees the data set or a chunk at a time."""
    parts, whole = run(estimator, None), run(estimator, None, chunk=None)
    for one, other in zip(parts.attacks, whole.attacks, strict=True):
        values = [np.array(found.sample_values, dtype=float) for found in (one, other)]
        np.testing.assert_allclose(*values, rtol=1e-5)
        assert one.deltas == pytest.approx(other.deltas, rel=1e-5)
        np.testing.assert_allclose(np.array(one.weights), np.array(other.weights), rtol=1e-6)
    assert [task.clean for task in parts.tasks] == pytest.approx([task.clean for task in whole.tasks], rel=1e-6)


def test_random_starts_differ_from_chain_to_chain_and_repeat(estimator) -> None:
    attack = MultiTaskPGD(estimator, eps=0.3, max_iter=1, num_random_init=1, verbose=False)
    x, y = make_data(9)
    twice = (np.concatenate([x[:4], x[:4]]), MultiTaskLabels.concatenate([y[:4], y[:4]]))
    found = [run(estimator, None, twice, [attack])["equal"].sample_values for _ in range(2)]
    assert found[0] == found[1] and found[0][:4] != found[0][4:]


def test_a_map_style_data_set_is_read_chain_by_chain(estimator, tmp_path) -> None:
    x, y = make_data()

    class Rows:
        asked: list[int] = []

        def __len__(self) -> int:
            return SIZE

        def __getitem__(self, i: int) -> tuple[torch.Tensor, dict[str, Any]]:
            self.asked.append(i)
            return torch.tensor(x[i]), {n: torch.as_tensor(y[n][i]) if y.present(n)[i] else None for n in y.names}

    rows = Rows()
    assert figures(run(estimator, None, rows)) == figures(run(estimator, None))
    assert rows.asked[: 1 + CHAIN] == [0, *range(CHAIN)], "the first sample tells the shape"
    last = as_source(rows, estimator.tasks).read(slice(9, 13))[1]
    assert not last.present("kind").any() and len(last["kind"]) == 4, "no class in this chunk"


def test_data_may_lie_on_disk(estimator, tmp_path) -> None:
    x, y = make_data()
    np.save(tmp_path / "x.npy", x.astype(np.float64))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert figures(run(estimator, None, (mapped, y))) == figures(run(estimator, None))


class Losses(Callback):
    """Asks for the losses of every second step."""

    losses_every = 2


def test_losses_that_stored_units_do_not_have_are_told_once(estimator, tmp_path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Stops):
            run(estimator, tmp_path / "a")
    with pytest.warns(RuntimeWarning, match="losses of every 2 steps, which 3 stored unit.s. do not have") as told:
        found = run(estimator, tmp_path / "a", callbacks=[Losses()])
    assert len([one for one in told if "stored unit" in str(one.message)]) == 1
    assert found["equal"].losses is None
    whole = run(estimator, tmp_path / "b", callbacks=[Losses()])  # no warning, which would be an error
    assert run(estimator, tmp_path / "b", callbacks=[Losses()])["equal"].losses == whole["equal"].losses is not None
    run(estimator, tmp_path / "a")


REFUSED = {
    "seed": ({"seed": 1}, "seed=0; you asked for seed=1"),
    "chunk": ({"chunk": 8}, "chunk=4.*; you asked for chunk=8"),
    "batch size": ({"batch_size": 4}, "batch_size=3; you asked for batch_size=4"),
    "protocol": ({"protocol": "auto-lambda"}, "protocol=pooled; you asked for protocol=auto-lambda"),
    "data that shrank": ({"limit": 12}, "samples=13; you asked for samples=12"),
    "other data": ({"data": make_data(seed=2)}, "other data: sample 0 has another input or label"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_another_setting_is_refused_and_the_run_left_as_it_was(estimator, tmp_path, case) -> None:
    run(estimator, tmp_path)
    before = files(tmp_path)
    changes, message = REFUSED[case]
    with pytest.raises(ValueError, match=f"holds a run with {message}"):
        run(estimator, tmp_path, **changes)
    assert files(tmp_path) == before


def test_another_model_attack_or_version_is_refused(estimator, tmp_path, monkeypatch) -> None:
    run(estimator, tmp_path)
    before = files(tmp_path)
    with pytest.raises(
        ValueError, match="model.weights=[0-9a-f]+; you asked for model.weights=[0-9a-f]+. Use another `out=`"
    ):
        run(make_estimator(seed=1), tmp_path)
    with pytest.raises(
        ValueError, match=r"attacks.in order=equal, linf 0.1; .*you asked for attacks.in order=equal, linf 0.2"
    ):
        run(estimator, tmp_path, attacks=attacks_on(estimator, eps=0.2))
    more = [*attacks_on(estimator), MultiTaskPGD(estimator, "minmax", eps=0.1, max_iter=3, verbose=False)]
    with pytest.raises(
        ValueError,
        match=r"a run with attacks.in order=equal, .*, attacks.minmax, linf 0.1=nothing; you asked for attacks.in "
        r"order=.*; minmax, linf 0.1, attacks.minmax, linf 0.1=\d+ settings. Use another `out=`",
    ):
        run(estimator, tmp_path, attacks=more)
    longer = attacks_on(estimator)
    longer[0].set_params(max_iter=4)
    with pytest.raises(
        ValueError, match=r"attacks.equal, linf 0.1.max_iter=3; you asked for attacks.equal, linf 0.1.max_iter=4. Use"
    ):
        run(estimator, tmp_path, attacks=longer)
    with monkeypatch.context() as patch:
        patch.setattr("art_mtl.evaluation.environment.__version__", "9.9")
        with pytest.raises(ValueError, match="versions.art-mtl=.*; you asked for versions.art-mtl=9.9"):
            run(estimator, tmp_path)
    assert files(tmp_path) == before
    assert run(estimator, tmp_path, attacks=longer, restart=True).attacks[0].steps == 4


def test_a_second_run_in_the_folder_is_refused(estimator, tmp_path) -> None:
    with locked(tmp_path), pytest.raises(BlockingIOError, match="Found another run at work"):
        run(estimator, tmp_path)
    assert not (tmp_path / DATABASE).exists()


def test_a_folder_that_cannot_be_written_to_is_refused(estimator, tmp_path, monkeypatch) -> None:
    inner = os.open

    def denied(path: Any, *args: Any, **kwargs: Any) -> Any:
        if str(path).startswith(str(tmp_path)):
            raise PermissionError(13, "Permission denied", str(path))
        return inner(path, *args, **kwargs)

    with monkeypatch.context() as patch:  # permissions themselves do not stop a superuser, whom tests may run as
        patch.setattr(os, "open", denied)
        with pytest.raises(PermissionError, match=f"can be written to .Permission denied.: '{tmp_path}'"):
            run(estimator, tmp_path)
    assert not list(tmp_path.iterdir())


def execute(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_text("a diary " * 200), "Found it unreadable: file is not a database"),
        (lambda path: execute(path, "PRAGMA application_id = 7"), "Found one of another program"),
        (lambda path: execute(path, "PRAGMA user_version = 9"), "Found 9, of another version of art_mtl"),
        (lambda path: path.write_bytes(path.read_bytes()[:8192]), "expected .* database.* Found it"),
    ],
    ids=["no database", "another program", "newer", "cut off"],
)
def test_a_spoilt_folder_is_refused_and_left_as_it_was(estimator, tmp_path, spoil, message) -> None:
    run(estimator, tmp_path)
    spoil(tmp_path / DATABASE)
    before = files(tmp_path)
    with pytest.raises(ValueError, match=message):
        run(estimator, tmp_path)
    with pytest.raises(ValueError, match=message):
        Run.read(tmp_path)
    assert files(tmp_path) == before


def test_restart_spares_what_another_program_made(estimator, tmp_path) -> None:
    execute(tmp_path / DATABASE, "PRAGMA application_id = 7", "CREATE TABLE love (letter TEXT)")
    before = files(tmp_path)
    with pytest.raises(ValueError, match="Found one of another program"):
        run(estimator, tmp_path, restart=True)
    assert files(tmp_path) == before
    (tmp_path / DATABASE).write_bytes(b"SQLite format 3 and then nothing")
    assert run(estimator, tmp_path, restart=True).samples == SIZE


def test_a_full_disk_keeps_what_was_stored(estimator, tmp_path, monkeypatch) -> None:
    whole = run(estimator, tmp_path / "whole")
    connect = sqlite3.connect
    with connect(tmp_path / "whole" / DATABASE) as connection:
        [(pages,)] = connection.execute("PRAGMA page_count").fetchall()
    connection.close()
    folder = tmp_path / "cut"

    def full(*arguments: Any, **named: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **named)
        connection.execute(f"PRAGMA max_page_count = {pages - 1}")
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", full)
        with pytest.raises(OSError, match="The disk is full; what was stored before stays. Make room"):
            run(estimator, folder)
    with sqlite3.connect(folder / DATABASE) as connection:
        [(stored,)] = connection.execute("SELECT count(*) FROM chunk").fetchall()
    connection.close()
    assert 0 < stored < 12, "of 4 clean chunks and 8 under attack"
    assert figures(run(estimator, folder)) == figures(whole)


def test_a_folder_that_cannot_be_made(estimator, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="should be a folder. Found a file at .*file'"):
        run(estimator, tmp_path / "file" / "run")


def test_a_run_is_read_while_it_goes_on(estimator, tmp_path, monkeypatch) -> None:
    whole, seen = run(estimator, None), []
    generate = MultiTaskAttack.generate

    def looked(self: MultiTaskAttack, *others: Any, **named: Any) -> np.ndarray:
        seen.append(Run.read(tmp_path))
        return generate(self, *others, **named)

    monkeypatch.setattr(MultiTaskAttack, "generate", looked)
    run(estimator, tmp_path)
    assert [(state.done, state.total, state.samples) for state in seen] == [(i, 8, SIZE) for i in range(8)]
    assert seen[0].found is None
    assert [attack.name for attack in seen[1].results.attacks] == ["equal"]
    assert [state.results.samples for state in seen[2:]] == [4, 4, 7, 7, 10, 10]
    assert seen[4].results["equal"].sample_values == whole["equal"].sample_values[:7]
    state = Run.read(tmp_path)
    assert state.is_finished and figures(state.results) == figures(whole) and state.results.tasks == whole.tasks


def test_a_metric_of_the_user_s_can_be_stored_but_not_read_back(tmp_path) -> None:
    from dataclasses import replace

    metric = replace(tasks.regression("value").metric, value=lambda sums: sums[..., 0])
    own = tasks.custom("value", loss=absolute_error, metric=metric)
    estimator = PyTorchMultiTaskEstimator(
        torch.nn.Flatten(), tasks=[own], input_shape=(2,), clip_values=(0, 1), device_type="cpu"
    )
    x = np.random.default_rng(0).uniform(size=(4, 2)).astype(np.float32)
    attack = MultiTaskPGD(estimator, eps=0.1, max_iter=1, verbose=False)
    evaluate(estimator, [attack], (x, {"value": x + 0.1}), out=tmp_path, progress=False)
    with pytest.raises(
        ValueError, match="^[^:]*: The metric 'MAE' of task .* should be one of this package, or of an entry point"
    ):
        Run.read(tmp_path)


def test_a_finished_unit_survives_the_round_trip(estimator) -> None:
    x, y = make_data()
    part = Evaluator(estimator, 5).part(x, y)
    found = UnitResult(part, 1.5, 0.1, torch.rand(3, 8, dtype=torch.float64), None, 3.0, 4.5, ("careful",), "ab")
    back = UnitResult.decode(found.encode())
    names = ("seconds", "perturbation", "gradients", "forwards", "warnings", "data")
    assert [getattr(back, name) for name in names] == [1.5, 0.1, 3.0, 4.5, ("careful",), "ab"]
    assert torch.equal(back.part.has_label, part.has_label) and torch.equal(back.steps, found.steps)
    for mine, its in zip(part.statistics, back.part.statistics, strict=True):
        assert torch.equal(mine.rows(), its.rows()) and mine.rows().dtype == its.rows().dtype
    for mine, its in zip(part.states, back.part.states, strict=True):
        assert mine.keys() == its.keys()
        assert all(torch.equal(_dense(mine[name]), _dense(its[name])) for name in mine)
    with pytest.raises(ValueError, match="damaged"):
        UnitResult.decode(found.encode()[:-30])
