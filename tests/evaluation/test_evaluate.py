"""The one call: what it takes, what it gives."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torchattacks
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from torch.utils.data import DataLoader, TensorDataset

from art_mtl import MultiTaskLabels, PyTorchMultiTaskEstimator, attacks, tasks
from art_mtl import torchattacks as with_torchattacks
from art_mtl.evaluation import Callback, Experiment, Run, Victim, compare_runs, evaluate, to_text
from art_mtl.evaluation.report.layout import wrap

JOBS = [tasks.classification("kind", 3), tasks.regression("ink")]
N = 12


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(12, 4)

    def forward(self, x):
        found = self.layer(x.flatten(1))
        return {"kind": 4 * found[:, :3], "ink": found[:, 3]}


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def data(net):
    x = np.random.default_rng(0).uniform(size=(N, 3, 2, 2)).astype(np.float32)
    found = net(torch.from_numpy(x))
    return x, {"kind": found["kind"].argmax(1).numpy(), "ink": found["ink"].detach().numpy() + 0.3}


@pytest.fixture
def estimator(net):
    return PyTorchMultiTaskEstimator(net, JOBS, (3, 2, 2), (0, 1), device_type="cpu")


def run(what, given=("equal", "worst-task"), data=None, **settings):
    return evaluate(what, given, data, **{"eps": [0.1], "steps": 3, "progress": False, "device": "cpu", **settings})


def figures(found):
    return [(a.name, a.norm, a.eps, a.values, a.deltas) for a in found.results.attacks]


def test_every_way_to_say_a_model_gives_the_same_figures(net, estimator, data):
    expected = figures(run(estimator, data=data))
    assert len(expected) == 2 and expected[0][0] == "equal"
    assert figures(run((net, JOBS), data=data)) == expected
    victim = Victim.of(net, JOBS, data, name="mine")
    assert figures(run(victim)) == expected
    assert run(victim).results.victim == "mine"


def test_every_way_to_give_data_gives_the_same_figures(estimator, data):
    expected = figures(run(estimator, data=data))
    x, y = data
    dataset = TensorDataset(torch.from_numpy(x), torch.from_numpy(y["kind"]), torch.from_numpy(y["ink"]))
    for form in (dataset, DataLoader(dataset, batch_size=5, shuffle=True), iter(dataset), (x, {**y, "other": x})):
        assert figures(run(estimator, data=form)) == expected


def test_names_and_objects_are_mixed(estimator, data):
    mine = attacks.WorstTaskPGD(estimator, eps=0.2, max_iter=2, verbose=False)
    found = run(estimator, ["equal", mine, FastGradientMethod(estimator, eps=0.3)], data, eps=[0.1, 0.2])
    assert [(a.name, a.eps) for a in found] == [
        ("equal", 0.1), ("equal", 0.2), ("worst-task", 0.2), ("FastGradientMethod", 0.3),
    ]  # fmt: skip
    assert [a.name for a in run(estimator, {"a": mine}, data)] == ["a"]
    assert [a.name for a in run(estimator, mine, data)] == ["worst-task"]


@pytest.mark.parametrize("eps", [["0.1", "l2:1"], {"linf": [0.1], "l2": [1.0]}, [0.1, "l2:1"]])
def test_radii_in_every_form(estimator, data, eps):
    assert [(a.norm, a.eps) for a in run(estimator, "equal", data, eps=eps)] == [("linf", 0.1), ("l2", 1.0)]


def test_attacks_of_torchattacks_are_taken(net, estimator, data):
    ours = with_torchattacks.MultiTaskPGD(net, JOBS, "equal", eps=0.1, steps=3)
    art = attacks.MultiTaskPGD(estimator, "equal", eps=0.1, max_iter=3, verbose=False)
    found = run(estimator, {"a": ours, "b": art}, data)
    assert found["a"].values == found["b"].values
    assert (found["a"].norm, found["a"].eps, found["a"].steps) == ("linf", 0.1, 3)
    assert found["a"].gradient_evaluations == found["b"].gradient_evaluations == 3
    assert run(estimator, {"a": ours}, data, batch_size=5)["a"].gradient_evaluations == 3, "of all batches"
    with pytest.raises(TypeError, match=r"PGD attacks a single task. Found the tasks \['kind', 'ink'\]"):
        run(estimator, [torchattacks.PGD(net)], data)


def test_attacks_of_secml_torch_are_taken(estimator, data):
    secmlt = pytest.importorskip("art_mtl.secmlt")
    theirs = secmlt.MultiTaskPGD(JOBS, method="equal", epsilon=0.1, num_steps=3)
    assert run(estimator, [theirs], data)["equal"].values == run(estimator, "equal", data)["equal"].values


def test_torchattacks_own_attacks_are_taken_for_one_task(data):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).eval()
    x, _ = data
    y = net(torch.from_numpy(x)).argmax(1).numpy()
    classifier = PyTorchClassifier(
        net, torch.nn.CrossEntropyLoss(), (3, 2, 2), 3, clip_values=(0, 1), device_type="cpu"
    )
    pgd = torchattacks.PGD(net, eps=0.2, alpha=0.05, steps=4, random_start=False)
    of_art = ProjectedGradientDescent(classifier, eps=0.2, eps_step=0.05, max_iter=4, verbose=False)
    found = run(classifier, {"torchattacks": pgd, "art": of_art}, (x, y))
    assert found["torchattacks"].values == found["art"].values
    assert found["torchattacks"].gradient_evaluations == found["art"].gradient_evaluations == 4
    diagnosis = found.diagnose("art", queries=3)
    assert diagnosis.delta_wor == found["art"].delta_wor
    assert [check.name for check in diagnosis.checks if check.status == "not applicable"] == ["transfer"]


def test_an_attack_on_another_model_is_refused(estimator, data):
    with pytest.raises(ValueError, match="made for the model that is evaluated"):
        run(estimator, [with_torchattacks.MultiTaskPGD(Net(), JOBS)], data)


@pytest.mark.parametrize("other", [object(), 3, attacks.WorstTaskPGD])
def test_what_is_no_attack_is_named(estimator, data, other):
    with pytest.raises(TypeError, match="An attack should be a name, or an object of"):
        run(estimator, [other], data)


@pytest.mark.parametrize(
    ("what", "message"),
    [(lambda net: net, "or \\(model, tasks\\). Found Net"), (lambda net: 3, "Found int")],
)
def test_what_is_no_model_is_named(net, data, what, message):
    with pytest.raises(TypeError, match=message):
        run(what(net), data=data)
    with pytest.raises(ValueError, match="`data` should be given"):
        run((net, JOBS))


# --- what it costs ---


def test_evaluations_are_counted(estimator, data):
    restarts = attacks.MultiTaskPGD(estimator, "dgba", eps=0.1, max_iter=3, num_random_init=2, verbose=False)
    found = run(estimator, ["equal", "auto-pgd", restarts, FastGradientMethod(estimator, eps=0.1)], data)
    costs = [(a.name, a.gradient_evaluations) for a in found]
    assert costs == [("equal", 3), ("auto-pgd", 3), ("dgba", 6), ("FastGradientMethod", 1)]
    assert found.results.attacks[0].forward_evaluations == 0
    assert found.results.attacks[1].forward_evaluations == 1  # the last iterate is scored


# --- what it gives ---


def test_a_run_shows_itself(estimator, data):
    found = run(estimator, data=data, eps=[0.1, 0.2])
    shown = repr(found)
    assert "worst-task" in shown and len(shown.split("\n")) <= 40
    assert "<table" in found._repr_html_() and "0.30000000" not in found._repr_html_()
    frame = found.frame()
    assert len(frame) == 2 * 2 * 2
    row = frame[(frame.attack == "equal") & (frame.eps == 0.2) & (frame.task == "ink")].iloc[0]
    expected = found["equal", "linf", 0.2]
    assert row.attacked == expected.values[1] and row.delta == expected.deltas[1]
    assert row.delta_low <= row.delta <= row.delta_high
    assert row.delta_wor_low <= row.delta_wor <= row.delta_wor_high
    assert row.gradient_evaluations == 3 and row.samples == N
    assert all(
        frame[name].dtype.kind in "fi" for name in frame if name not in ("attack", "norm", "schedule", "task", "metric")
    )
    assert found.plot().axes and found.plot()._repr_png_().startswith(b"\x89PNG")


def test_a_long_table_is_cut(estimator, data):
    found = run(estimator, "all", data, eps=[0.05, 0.1, 0.2, 0.3, 0.4])
    lines, whole = repr(found).split("\n"), to_text(found.table()).split("\n")
    verdicts = [line for note in found.table().notes for line in wrap(note, 80)]
    assert len(lines) == 40 and lines[-len(verdicts) :] == verdicts, "the five verdicts stay"
    cut = next(place for place, line in enumerate(lines) if line.startswith("…"))
    counted = int(lines[cut].split()[1])
    assert lines[cut] == f"… {counted} more lines; frame() has all figures" and lines[:cut] == whole[:cut]
    assert cut + counted + len(lines) - cut - 1 == len(whole)


def test_several_radii_are_told_apart(estimator, data):
    found = run(estimator, "equal", data, eps=[0.1, 0.2])
    with pytest.raises(KeyError, match=r"0\.1.*0\.2"):
        found["equal"]
    assert found["equal", "linf", 0.2].eps == 0.2
    with pytest.raises(KeyError, match="nothing"):
        found["nothing"]


def test_a_run_is_kept_read_and_compared(estimator, data, tmp_path):
    first = run(estimator, data=data, out=tmp_path / "a")
    longer = run(estimator, data=data, out=tmp_path / "b", steps=6)
    read = Run.read(tmp_path / "a")
    assert read.results == first.results and read.is_finished and read.experiment == first.experiment
    assert Experiment.from_yaml(tmp_path / "a" / "experiment.yaml") == first.experiment
    for other in (longer, tmp_path / "b", Run.read(tmp_path / "b")):
        table = read.compare(other).table()
        assert any("worst-task" in cell.text for row in table.rows for cell in row.cells)
    assert first.compare(run(estimator, data=data)).figures[1].difference == 0
    first.report(tmp_path / "report")
    assert Run.read(tmp_path / "report").results == first.results


def test_an_experiment_of_objects_says_so(estimator, data, tmp_path):
    mine = attacks.WorstTaskPGD(estimator, eps=0.2, max_iter=2, verbose=False)
    found = run(estimator, ["equal", mine], data, out=tmp_path)
    assert found.experiment.victim == "live:PyTorchMultiTaskEstimator"
    assert found.experiment.attacks[0] == "equal" and found.experiment.attacks[1].startswith("live:WorstTaskPGD(")
    with pytest.raises(ValueError, match="Found objects.*live:WorstTaskPGD"):
        evaluate(Experiment.from_yaml(tmp_path / "experiment.yaml"))


def test_adversarial_inputs_are_kept_on_request(estimator, data, tmp_path):
    mine = attacks.WorstTaskPGD(estimator, eps=0.2, max_iter=2, verbose=False)
    found = run(estimator, [mine], data, out=tmp_path, keep_adversarial=True, chunk=8)
    parts = [data[0][:8], data[0][8:]]
    expected = np.concatenate(
        [
            mine.generate(part, {k: v[a:b] for k, v in data[1].items()})
            for part, a, b in zip(parts, (0, 8), (8, N), strict=True)
        ]
    )
    np.testing.assert_array_equal(found.adversarial("worst-task"), expected)
    np.testing.assert_array_equal(Run.read(tmp_path).adversarial("worst-task"), expected)
    with pytest.raises(ValueError, match="keep_adversarial"):
        run(estimator, [mine], data).adversarial("worst-task")


def test_adversarial_inputs_are_kept_in_memory_too(estimator, data, tmp_path):
    here = run(estimator, data=data, keep_adversarial=True, chunk=8)
    there = run(estimator, data=data, keep_adversarial=True, chunk=8, out=tmp_path)
    np.testing.assert_array_equal(here.adversarial("worst-task"), there.adversarial("worst-task"))
    assert np.abs(here.adversarial("equal") - here.adversarial("worst-task")).max() > 0


def test_runs_are_compared_in_memory_as_from_their_folders(estimator, data, tmp_path):
    settings = ({"steps": 1}, {"steps": 4, "chunk": 8})
    first, second = (run(estimator, data=data, **one) for one in settings)
    folders = [run(estimator, data=data, out=tmp_path / str(i), **one).folder for i, one in enumerate(settings)]
    found = first.compare(second, metrics=True)
    assert found.paired == (True, True) and found.runs == ("run 1", "run 2")
    assert found == compare_runs(folders, found.runs, metrics=True)
    assert first.compare(folders[1]).figures[1].difference == found.figures[5].difference
    assert repr(found) == to_text(found.table()) and "<table" in found._repr_html_()
    first.results.to_json(tmp_path / "results.json")
    with pytest.raises(ValueError, match="read from a file of results"):
        first.compare(Run.read(tmp_path / "results.json"))


@pytest.mark.parametrize(
    ("method", "name", "settings"),
    [
        ("worst-task", "worst-task", {}),
        ("equal", "equal + linear step, best of 3", {"schedule": "restarts", "restarts": 3}),
        ("auto-attack-fast", "auto-attack-fast", {}),
        ("auto-pgd", "auto-pgd", {"steps": 5}),
    ],
)
def test_a_run_diagnoses_the_very_attack_that_ran(estimator, data, method, name, settings):
    """The same figure to the last bit: restarts, members, chunks, the protocol and the batch size are those of the run.
    A check that its kind of attack does not allow says why.
    """
    found = run(estimator, method, data, chunk=8, protocol="auto-lambda", batch_size=5, seed=3, **settings)
    diagnosis = found.diagnose(name, queries=3)
    assert diagnosis.delta_wor == found[name].delta_wor
    assert (diagnosis.eps, diagnosis.chunk, diagnosis.protocol, diagnosis.samples) == (0.1, 8, "auto-lambda", N)
    assert diagnosis.environment.seed == 3 and "Checks:" in repr(diagnosis) and "<table" in diagnosis._repr_html_()
    skipped = {check.name for check in diagnosis.checks if check.status == "not applicable"}
    assert skipped == ({"more-steps", "convergence"} if "attack" in method else set())
    assert all(diagnosis[name].seen for name in skipped)
    assert found.diagnose(name, queries=3, limit=4).samples == 4


def test_a_stored_run_is_diagnosed_as_one_in_memory(net, estimator, data, tmp_path):
    """With the chunk, the batch size and the protocol of the run, of which every one changes the figure."""
    settings = {"chunk": 8, "protocol": "auto-lambda", "batch_size": 5, "seed": 3}
    mine = attacks.MultiTaskPGD(estimator, eps=0.2, max_iter=1, verbose=False)
    found = run(estimator, ["worst-task", "equal", mine], data, out=tmp_path, **settings)
    live = found.diagnose("worst-task", queries=3)
    stored = Run.read(tmp_path)
    again = stored.diagnose("worst-task", victim=estimator, data=data, queries=3)
    assert again.checks == live.checks and again.delta_wor == found["worst-task"].delta_wor
    assert (again.chunk, again.protocol, again.environment.seed) == (8, "auto-lambda", 3)
    whole = run(estimator, "worst-task", data, **{**settings, "chunk": 12}).diagnose("worst-task", queries=3)
    assert whole.delta_wor != live.delta_wor, "the chunk matters"
    given = stored.with_model((net, JOBS), data, bounds=(0, 1))
    assert [one.label for one in given.planned] == ["worst-task, linf 0.1", "equal, linf 0.1"]
    assert given.diagnose("worst-task", queries=3).checks == live.checks
    with pytest.raises(KeyError, match="no attack 'fgsm'; the attacks are"):
        given.diagnose("fgsm")
    with pytest.raises(ValueError, match="`victim` should be given again: .*Found a run of 'live:PyTorchMultiTask"):
        stored.diagnose("worst-task")
    with pytest.raises(ValueError, match="read from a file of results"):
        Run(found.results).diagnose("worst-task")


def test_an_attack_of_another_host_is_diagnosed(net, estimator, data):
    """Its copies run for themselves; what cannot be varied is said, and no copy passes for one on a surrogate."""
    theirs = with_torchattacks.MultiTaskPGD(net, JOBS, "equal", eps=0.1, steps=3)
    found = run(estimator, {"theirs": theirs}, data)
    diagnosis = found.diagnose("theirs", queries=3)
    assert diagnosis.delta_wor == found["theirs"].delta_wor
    assert {check.name for check in diagnosis.checks if check.status == "not applicable"} >= {"more-steps", "transfer"}
    copied = copy.deepcopy(found._live.setup.attack("theirs"))
    copied.attack.eps = 1e-6
    np.testing.assert_allclose(copied.generate(data[0], MultiTaskLabels(data[1])), data[0], atol=2e-6)


class Log(Callback):
    losses_every = 2

    def __init__(self):
        self.heard = []

    def on_begin(self, plan):
        self.heard.append(("begin", plan.total, plan.done))

    def on_unit(self, report):
        self.heard.append(report)

    def on_attack(self, result, examples):
        self.heard.append((result.name, examples.inputs.shape))

    def on_end(self, run):
        self.heard.append(run)


def test_callbacks_hear_of_every_unit(estimator, data):
    log = Log()
    found = run(estimator, "equal", data, chunk=8, callbacks=[log])
    begin, *units, told, end = log.heard
    assert begin == ("begin", 2, 0) and end is found and told == ("equal", (6, 3, 2, 2))
    assert [(u.attack and u.attack.name, u.chunk, u.samples, u.done) for u in units] == [
        (None, 0, 8, 0), (None, 1, 4, 0), ("equal", 0, 8, 1), ("equal", 1, 4, 2),
    ]  # fmt: skip
    losses = units[2].losses
    assert len(losses) == 3 and losses[1] == (None, None) and losses[0][0] < losses[2][0]
    assert found["equal"].losses[1] == (None, None)
    assert run(estimator, "equal", data)["equal"].losses is None


def test_an_evaluation_has_an_attack(estimator, data):
    with pytest.raises(ValueError, match="`attacks` should have at least one entry. Found none"):
        run(estimator, [], data)


@pytest.mark.parametrize("given", [[Log], None, {"a": Log()}, Log])
def test_callbacks_are_objects(estimator, data, given):
    with pytest.raises(TypeError, match="`callbacks` should hold objects of Callback. Found "):
        run(estimator, "equal", data, callbacks=given)


@pytest.mark.parametrize("form", [list, iter])
def test_batches_that_are_no_loader_are_refused(estimator, data, form):
    x, y = data
    batches = [(x[part], {name: column[part] for name, column in y.items()}) for part in (slice(0, 6), slice(6, 12))]
    with pytest.raises(ValueError, match=r"inputs of shape \(6, 3, 2, 2\) as one sample; give a DataLoader"):
        run(estimator, "equal", form(batches))
    samples = [(x[i], {name: column[i] for name, column in y.items()}) for i in range(N)]
    assert figures(run(estimator, "equal", form(samples))) == figures(run(estimator, "equal", data))


def test_differences_by_name(estimator, data):
    found = run(estimator, ["equal", "worst-task"], data).results
    by_name = found.difference("equal", ("worst-task", "linf", 0.1))
    assert by_name == found.difference(found["equal"], found["worst-task"]) and by_name.attack == "equal"
    with pytest.raises(KeyError, match=r"no attack 'a'; the attacks are \['equal', 'worst-task'\]"):
        found.difference("a", "b")
    for wrong in (3, ("equal", "linf"), ("equal", "linf", "wide")):
        with pytest.raises(TypeError, match="An attack should be named as NAME or .* Found "):
            found.difference(found["equal"], wrong)
    with pytest.raises(KeyError, match="two attacks of one norm and eps have one"):
        found.difference("equal", "equal")


def test_python_names_parameters_and_no_options(estimator, data, tmp_path):
    run(estimator, "equal", data, out=tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes.txt").touch()
    for folder, settings, advice in (("a", {"seed": 1}, "`restart=True`"), ("b", {}, "`force=True`")):
        with pytest.raises((ValueError, OSError), match=advice) as caught:
            run(estimator, "equal", data, out=tmp_path / folder, **settings)
        assert "--" not in str(caught.value)


@pytest.mark.parametrize("norm", ["L2", 2, ["l2"]])
def test_norms_as_hosts_write_them(estimator, data, norm):
    assert [one.norm for one in run(estimator, "equal", data, norm=norm)] == ["l2"]


def test_attacks_on_all_samples_get_all_of_them(estimator):
    x = np.random.default_rng(1).uniform(size=(300, 3, 2, 2)).astype(np.float32)
    seen = []

    class Each:
        norm, eps = np.inf, np.full((300, 1, 1, 1), 0.1)

        def generate(self, x, y):
            seen.append(len(x))
            return x

    run(estimator, [Each()], (x, {"kind": np.zeros(300, int), "ink": np.zeros(300)}))
    run(estimator, [attacks.UniversalMultiTaskPGD(estimator, eps=0.1, max_iter=1, verbose=False)],
        (x, {"kind": np.zeros(300, int), "ink": np.zeros(300)}))  # fmt: skip
    assert seen == [300]
    with pytest.raises(ValueError, match="`chunk` should be left out"):
        run(estimator, [Each()], (x, {"kind": np.zeros(300, int), "ink": np.zeros(300)}), chunk=4)


def test_secml_torchs_own_attacks_are_taken_for_one_task(data):
    pytest.importorskip("secmlt")
    from secmlt.adv.backends import Backends
    from secmlt.adv.evasion.perturbation_models import LpPerturbationModels
    from secmlt.adv.evasion.pgd import PGD
    from secmlt.models.pytorch.base_pytorch_nn import BasePyTorchClassifier

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).eval()
    x, _ = data
    y = net(torch.from_numpy(x)).argmax(1).numpy()
    native = PGD(LpPerturbationModels.LINF, 0.2, 4, 0.05, random_start=False, backend=Backends.NATIVE)
    found = run((net, [JOBS[0]]), {"native": native}, (x, y))
    loader = DataLoader(TensorDataset(torch.from_numpy(x), torch.from_numpy(y)), batch_size=N)
    [(expected, _)] = native(BasePyTorchClassifier(net), loader)
    assert found["native"].values[0] == pytest.approx((net(expected).argmax(1) == torch.from_numpy(y)).float().mean())
    assert 0.1 < found["native"].perturbation <= 0.2 + 1e-6


@pytest.mark.parametrize(
    "changed",
    [{"steps": 7}, {"seed": 5}, {"eps": [0.2]}, {"norm": "l2"}, {"limit": 3}, {"keep_adversarial": True},
     {"attacks": ["equal"]}, {"data": 3}, {"bounds": (0, 1)}],
)  # fmt: skip
def test_what_stands_beside_an_experiment_is_refused(changed):
    with pytest.raises(ValueError, match=f"Found {next(iter(changed))} beside it"):
        evaluate(Experiment("digits", ("equal",), eps=("0.1",)), **changed)


@pytest.mark.parametrize("unused", [{"bounds": (0, 1)}, {"root": "r"}, {"checkpoint": "c"}, {"split": "train"}])
def test_an_option_without_effect_is_refused(estimator, data, unused):
    with pytest.raises(ValueError, match=f"`{next(iter(unused))}` should be left out"):
        run(estimator, "equal", data, **unused)


def test_a_name_and_an_object_of_one_name_are_told_apart(estimator, data):
    mine = attacks.MultiTaskPGD(estimator, eps=0.1, max_iter=2, verbose=False)
    with pytest.raises(ValueError, match=r"distinct names; give a dict .* Found \['equal'\] repeated"):
        run(estimator, ["equal", mine], data)
    for wrong in ({3: mine}, {"": mine}, {"a": "equal"}):
        with pytest.raises(TypeError, match="A dict of attacks should hold names and attack objects"):
            run(estimator, wrong, data)
    assert [attack.eps for attack in run(estimator, "equal", data, eps=np.float32(0.5))] == [0.5]


def test_a_run_stands_beside_itself(estimator, data, tmp_path):
    found = run(estimator, "equal", data, out=tmp_path / "a")
    assert found.compare(found).table().columns[2:4] == ("a (1)", "a (2)")


class Secret:
    """An attack of the user's with state of its own, private, in a slot, and behind a bound method."""

    norm, eps = np.inf, 1.0
    __slots__ = ("_by", "how", "slot")

    def __init__(self, by=0.1, slot=0, receiver=0):
        self._by, self.slot, self.how = by, slot, Receiver(receiver).method

    def generate(self, x, y=None):
        return np.clip(x + np.float32(self._by), 0, 1)


class Receiver:
    def __init__(self, value):
        self._value = value

    def method(self):
        return self._value


@pytest.mark.parametrize("changed", [{"by": 0.2}, {"slot": 1}, {"receiver": 1}])
def test_no_state_of_an_attack_goes_unnoticed(estimator, data, tmp_path, changed):
    first = run(estimator, {"mine": Secret()}, data, out=tmp_path)
    assert figures(run(estimator, {"mine": Secret()}, data, out=tmp_path)) == figures(first)
    with pytest.raises(ValueError, match="holds a run with attacks.mine, linf 1.0"):
        run(estimator, {"mine": Secret(**changed)}, data, out=tmp_path)


def test_radii_that_look_alike_are_not_the_same(estimator, data, tmp_path):
    run(estimator, "equal", data, eps=[0.1, 0.1001], out=tmp_path)
    with pytest.raises(ValueError, match="equal, linf 0.1; .*equal, linf 0.1004;"):
        run(estimator, "equal", data, eps=[0.1004, 0.1001], out=tmp_path)


@pytest.mark.parametrize(
    ("changed", "accept", "message"),
    [({"given": "minmax"}, ["attacks"], "attacks.in order=equal"), ({"limit": 4}, ["samples"], "samples=12"),
     ({"protocol": "auto-lambda"}, "protocol", "protocol=pooled"), ({"chunk": 4}, "chunk", "chunk=8"),
     ({"seed": 1}, "sed", "Found 'sed'"), ({"keep_adversarial": True}, (), "keep_adversarial=False")],
)  # fmt: skip
def test_what_tells_units_apart_cannot_be_accepted(estimator, data, tmp_path, changed, accept, message):
    run(estimator, "equal", data, chunk=8, out=tmp_path)
    given = changed.pop("given", "equal")
    with pytest.raises(ValueError, match=message):
        run(estimator, given, data, out=tmp_path, accept=accept, **{"chunk": 8, **changed})
    assert run(estimator, "equal", data, chunk=8, seed=1, out=tmp_path, accept="seed").results.environment.seed == 0
