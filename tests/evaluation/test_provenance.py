"""Whatever decides a number is noticed when it changes between two sittings, and told with its difference."""

from __future__ import annotations

import copy
import importlib.util
import itertools
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from art.attacks.evasion import FastGradientMethod
from art.defences.preprocessor import FeatureSqueezing

from art_mtl import MultiTaskLabels, PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MultiTaskAutoAttack, MultiTaskPGD
from art_mtl.data.sources import as_source
from art_mtl.evaluation import evaluate
from art_mtl.evaluation.provenance import check_data, describe_attack, describe_data, describe_model, describe_value

SOURCE = '''
import torch
import helper
from helper import blend

GAIN = 3.0
UNUSED = 1

class Net(torch.nn.Module):
    """A net."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 4, 1)
        for parameter in self.parameters():
            parameter.data.fill_(0.5)
        self.power = 2.0
        self._private = 1.0

    def forward(self, x):
        # a comment
        out = self.conv(x)
        seg = torch.cat([GAIN * out[:, :1] * helper.SHIFT, out[:, 1:2] - x, blend(out[:, 2:3])], 1)
        return {"seg": seg, "depth": 1 + self.power * out[:, 3:]}

def far(output, target):
    return (output - target).abs().flatten(1).mean(1)

class Steps:
    """An attack of the user's."""

    norm, eps = "linf", 0.1

    def __init__(self, size=0.1):
        self.size, self.inner = size, [np_like(size)]

    def generate(self, x, y=None):
        return (x + self.size).clip(0, 1)

class np_like:
    def __init__(self, size):
        self.size = size
'''
HELPER = "SHIFT = 1.0\nOTHER = 1\ndef blend(x):\n    return inner(x)\ndef inner(x):\n    return 0.5 * x\n"
_numbers = itertools.count()


def load(folder: Path, change: Any = None, change_helper: Any = None) -> ModuleType:
    """The modules from files, changed or not, as a new process would import them."""
    here = folder / str(next(_numbers))
    here.mkdir()
    for name, text in (("helper", HELPER), ("mine", SOURCE)):
        before, after = (change_helper if name == "helper" else change) or ("", "")
        assert before in text
        (here / f"{name}.py").write_text(text.replace(before, after) if before else text)
        spec = importlib.util.spec_from_file_location(name, here / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _no_traces():
    yield
    for name in ("mine", "helper"):
        sys.modules.pop(name, None)


def made(module: ModuleType, **changes: Any) -> PyTorchMultiTaskEstimator:
    chosen = {
        "tasks": [tasks.segmentation("seg", 3), tasks.depth("depth")],
        "clip_values": (0.0, 1.0),
        "preprocessing_defences": [FeatureSqueezing(clip_values=(0, 1), bit_depth=6)],
        **changes,
    }
    net = chosen.pop("net", None) or module.Net().eval()
    return PyTorchMultiTaskEstimator(net, input_shape=(1, 3, 4), device_type="cpu", **chosen)


def data(change: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
    x = np.random.default_rng(0).uniform(0.2, 0.8, (10, 1, 3, 4)).astype(np.float32)
    y = {"seg": np.arange(120).reshape(10, 3, 4) % 3, "depth": np.full((10, 1, 3, 4), 2.0, np.float32)}
    if change:
        change(x, y)
    return x, y


def sit(module: ModuleType, folder: Path, data_change: Any = None, **changes: Any) -> Any:
    """One sitting."""
    given = {name: changes.pop(name) for name in ("attack", "seed", "accept") if name in changes}
    estimator = made(module, **changes)
    attack = given.get("attack", lambda e: MultiTaskPGD(e, eps=0.1, max_iter=1, verbose=False))(estimator)
    settings = {"batch_size": 4, "chunk": 4, "seed": given.get("seed", 0), "accept": given.get("accept", ())}
    return evaluate(estimator, attack, data(data_change), out=folder, progress=False, **settings).results


def own_seg(output: Any) -> Any:
    return 2 * output["seg"]


class Twice(FeatureSqueezing):
    """A defence of the user's."""


CHANGES: dict[str, tuple[Any, str]] = {
    "clip values": ({"clip_values": (-0.5, 1.0)},
                    r"clip_values=float32 \(2,\) \[0.0, 1.0\]; you asked for clip_values=float32 \(2,\) \[-0.5, 1.0\]"),
    "ignore index": ({"tasks": [tasks.segmentation("seg", 3, ignore_index=2), tasks.depth("depth")]}, "tasks.seg."),
    "kind": ({"tasks": [tasks.segmentation("seg", 3), tasks.regression("depth")]}, "tasks.depth."),
    "output": ({"tasks": [tasks.segmentation("seg", 3, output=own_seg), tasks.depth("depth")]}, "tasks.seg.output="),
    "preprocessing": ({"preprocessing": (0.1, 1.0)}, "preprocessing"),
    "a defence": ({"preprocessing_defences": [FeatureSqueezing(clip_values=(0, 1), bit_depth=5)]},
                  "preprocessing.0.bit_depth=6"),
    "its class": ({"preprocessing_defences": [Twice(clip_values=(0, 1), bit_depth=6)]}, "preprocessing.0.class="),
    "seed": ({"seed": 1}, "seed=0"),
    "restarts": ({"attack": lambda e: MultiTaskPGD(e, eps=0.1, max_iter=1, num_random_init=2, verbose=False)},
                 "num_random_init=0"),
    "preparation": ({"attack": lambda e: MultiTaskPGD(e, eps=0.1, max_iter=1, prepare="fp32", verbose=False)},
                    "prepare=None"),
    "a sample": ({"data_change": lambda x, y: x.__setitem__((7, 0, 1, 1), 0.5)}, "other data: sample 7 has"),
    "a label": ({"data_change": lambda x, y: y["seg"].__setitem__((2, 0, 0), 2)}, "other data: sample 2 has"),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
def test_what_changes_between_sittings_is_refused_with_the_difference(case: str, tmp_path: Path) -> None:
    module = load(tmp_path)
    sit(module, tmp_path / "out")
    changes, found = CHANGES[case]
    with pytest.raises(ValueError, match=f"out holds a run with .*{found}.*Use another `out=`, or `restart=True`"):
        sit(load(tmp_path), tmp_path / "out", **changes)
    sit(load(tmp_path), tmp_path / "out")  # nothing has changed


CODE = [
    (("GAIN = 3.0", "GAIN = 3.1"), None),
    (("self.power * out", "self.power + out"), None),
    (("self.power = 2.0", "self.power = 2.5"), None),
    (("self._private = 1.0", "self._private = 2.0"), None),
    (None, ("SHIFT = 1.0", "SHIFT = 1.5")),
    (None, ("0.5 * x", "0.6 * x")),
    (("fill_(0.5)", "fill_(0.25)"), None),
]


@pytest.mark.parametrize("change", CODE, ids=lambda pair: " ".join(str(one and one[1]) for one in pair))
def test_a_line_or_a_constant_of_the_model_is_noticed(change: Any, tmp_path: Path) -> None:
    one, other = describe_model(load(tmp_path).Net()), describe_model(load(tmp_path, *change).Net())
    assert one != other


@pytest.mark.parametrize(
    "change",
    [
        (("# a comment", "# another"), None),
        (("UNUSED = 1", "UNUSED = 2"), None),
        (("GAIN = 3.0", "\n\n\nGAIN = 3.0"), None),
        (None, ("OTHER = 1", "OTHER = 2")),
    ],
)
def test_what_changes_no_number_is_not(change: Any, tmp_path: Path) -> None:
    assert describe_model(load(tmp_path).Net()) == describe_model(load(tmp_path, *change).Net())


def test_code_is_refused_between_sittings_and_versions_may_be_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = sit(load(tmp_path), tmp_path / "out")
    with pytest.raises(ValueError, match=r"with model.code.Net=Net [0-9a-f]+; you asked for model.code.Net=Net"):
        sit(load(tmp_path, ("GAIN = 3.0", "GAIN = 4.0")), tmp_path / "out")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    with pytest.raises(ValueError, match="with threads=[0-9]+; you asked for threads=77"):
        sit(load(tmp_path), tmp_path / "out")
    monkeypatch.undo()
    monkeypatch.setattr("art_mtl.evaluation.environment.__version__", "9.9")
    with pytest.raises(ValueError, match=r"you asked for versions.art-mtl=9.9"):
        sit(load(tmp_path), tmp_path / "out")
    again = sit(load(tmp_path), tmp_path / "out", accept=("versions",))
    assert again.attacks == first.attacks


def test_losses_and_metrics_are_told_by_their_code(tmp_path: Path) -> None:
    def described(module: ModuleType) -> Any:
        task = tasks.custom("depth", loss=module.far)
        return describe_value(task)

    changed = load(tmp_path, ("flatten(1).mean(1)", "flatten(1).amax(1)"))
    assert described(load(tmp_path)) == described(load(tmp_path))
    assert described(load(tmp_path)) != described(changed)


def test_weights_buffers_structure_and_hooks_of_a_model_are_told() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.ReLU())
    marks = [describe_model(model)]
    assert describe_model(model.to(memory_format=torch.channels_last)) == marks[0]
    model[1].running_mean[0] += 1e-6
    marks.append(describe_model(model))
    model.register_buffer("extra", torch.zeros(1), persistent=False)
    marks.append(describe_model(model))
    model.extra += 1
    marks.append(describe_model(model))
    model[2].register_forward_hook(lambda *parts: None)
    marks.append(describe_model(model))
    model[2] = torch.nn.LeakyReLU(0.1)
    marks.append(describe_model(model))
    model[2].negative_slope = 0.2
    marks.append(describe_model(model))
    model.forward = lambda x: x  # type: ignore[method-assign]
    marks.append(describe_model(model))
    traced = torch.fx.symbolic_trace(torch.nn.Sequential(torch.nn.ReLU()))
    marks.append(describe_model(traced))
    traced.graph.output_node().args = (next(iter(traced.graph.nodes)),)
    traced.recompile()
    marks.append(describe_model(traced))
    assert all(one != other for one, other in itertools.combinations(marks, 2))


def test_attacks_are_told_by_every_option(tmp_path: Path) -> None:
    module = load(tmp_path)
    estimator, other = made(module), made(module, net=module.Net().double())
    attacks = [
        module.Steps(),
        module.Steps(0.2),
        load(tmp_path, ("self.size).clip", "self.size * 2).clip")).Steps(),
        FastGradientMethod(estimator, eps=0.1),
        FastGradientMethod(estimator, eps=0.1, minimal=True),
        FastGradientMethod(other, eps=0.1),
        MultiTaskAutoAttack(estimator, version="fast", verbose=False),
        MultiTaskAutoAttack(estimator, version="standard", verbose=False),
        MultiTaskPGD(estimator, eps=0.1, verbose=False),
        MultiTaskPGD(estimator, eps=np.full((1, 3, 4), 0.1), verbose=False),
        MultiTaskPGD(estimator, eps=np.full((1, 3, 4), 0.2), verbose=False),
    ]
    described = [describe_attack(attack, estimator) for attack in attacks]
    assert all(one != other for one, other in itertools.combinations(described, 2))
    assert describe_attack(module.Steps()) == described[0] and "inner" in described[0]
    quiet, loud = (MultiTaskPGD(estimator, eps=0.1, verbose=verbose) for verbose in (False, True))
    assert describe_attack(quiet) == describe_attack(loud)


class Plain:
    """An attack of the user's."""

    def __init__(self) -> None:
        self.eps = 0.1

    def generate(self, x: Any, y: Any = None) -> Any:
        return x


def test_what_python_notes_in_a_class_that_is_copied_is_not_its_code() -> None:
    before = describe_attack(Plain())
    copy.deepcopy(Plain())
    pickle.dumps(Plain())
    assert "__slotnames__" in vars(Plain), "pickling leaves a note"
    assert describe_attack(Plain()) == before


def test_objects_that_hold_themselves_end(tmp_path: Path) -> None:
    class Node:
        def __init__(self) -> None:
            self.other: Any = self

        def generate(self, x: Any, y: Any = None) -> Any:
            return NODE

    NODE = Node()
    assert describe_value(NODE)["other"] == "itself"
    assert describe_attack(Node()) == describe_attack(Node())


def test_every_sample_label_and_gap_is_in_the_hash_of_the_data() -> None:
    estimator_tasks = [tasks.segmentation("seg", 3), tasks.depth("depth")]
    x, y = data()
    source = as_source((x, y), estimator_tasks)
    chunks = [slice(0, 4), slice(4, 8), slice(8, 10)]
    stored = {number: describe_data(*source.read(part)) for number, part in enumerate(chunks)}
    check_data(source, chunks, stored, "o")
    for index in range(10):
        for name in ("x", "seg", "depth"):
            x, y = data()
            (x if name == "x" else y[name])[index, ..., 0, 0] += 1
            with pytest.raises(ValueError, match=f"o holds a run with other data: sample {index} has"):
                check_data(as_source((x, y), estimator_tasks), chunks, stored, "o")


def test_samples_are_the_same_in_any_precision_that_holds_them() -> None:
    def mark(x: Any, kind: Any, ragged: Any = ((1.5,),)) -> str:
        boxes = np.empty(len(ragged), object)
        boxes[:] = [np.asarray(one) for one in ragged]
        return describe_data(x, MultiTaskLabels({"kind": kind, "boxes": boxes}))

    x, kind = np.array([[0.1, 0.25]], np.float32), np.array([3], np.int64)
    for same in (x.astype(np.float64), x.astype(">f4"), x[:, ::-1][:, ::-1]):
        assert mark(same, kind) == mark(x, kind)
    for dtype in (np.uint8, np.int32, ">i2"):
        assert mark(x, kind.astype(dtype)) == mark(x, kind)
    assert mark(x, kind, [np.float32([1.5])]) == mark(x, kind)
    for other in (np.array([[0.1, 0.25]]), x + np.float32(1e-7), x.reshape(1, 2, 1)):
        assert mark(other, kind) != mark(x, kind), "0.1 in double precision is another number"
    assert mark(x, kind.astype(float)) != mark(x, kind) != mark(x, kind + 1)
    huge = np.array([2**63 + 3], np.uint64)
    assert mark(x, huge) != mark(x, huge.astype(np.int64)), "no number is wrapped"


@pytest.mark.parametrize("stored", [np.float32, np.float64])
def test_a_run_goes_on_with_the_same_samples_in_another_precision(stored: Any, tmp_path: Path) -> None:
    estimator = made(load(tmp_path))
    attack = MultiTaskPGD(estimator, eps=0.1, max_iter=1, verbose=False)
    settings = {"batch_size": 4, "chunk": 4, "seed": 0, "progress": False, "out": tmp_path / "out"}
    x, y = data()
    first = evaluate(estimator, attack, (x.astype(stored), y), **settings).results
    other = np.float64 if stored is np.float32 else np.float32
    again = evaluate(estimator, attack, (x.astype(other), {**y, "seg": y["seg"].astype(np.int16)}), **settings).results
    assert again.attacks == first.attacks
    with pytest.raises(ValueError, match="other data: sample 0 has"):
        evaluate(estimator, attack, (x + np.float32(1e-6), y), **settings)


def test_small_arrays_are_shown_and_large_ones_marked() -> None:
    assert describe_value(np.array([0.1, -2.0], np.float32)) == f"float32 (2,) [{float(np.float32(0.1))!r}, -2.0]"
    assert describe_value(torch.zeros(0, 3)) == "float32 (0, 3) []"
    assert describe_value(np.float16(0.5)) == "float16 () 0.5" and describe_value(np.arange(8)).endswith("6, 7]")
    one, other = np.arange(9.0), np.arange(9.0)
    other[8] = np.nextafter(8, 9)
    assert describe_value(one) == describe_value(np.arange(9.0)) != describe_value(other)
    assert "[" not in describe_value(one)


def test_a_sitting_that_goes_on_reads_what_it_had_before_it_attacks(tmp_path: Path) -> None:
    """A changed sample of the last chunk is noticed before anything is attacked, though it comes last."""
    module, log = load(tmp_path), tmp_path / "log"

    class Counts:
        norm, eps = "linf", 0.1

        def generate(self, x: Any, y: Any = None) -> Any:
            with log.open("a") as file:
                file.write(f"{len(x)}.")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sit(module, tmp_path / "out", attack=lambda e: Counts())
    with pytest.raises(ValueError, match="other data: sample 9 has"):
        sit(module, tmp_path / "out", attack=lambda e: Counts(), data_change=lambda x, y: x.__setitem__((9, 0), 0.3))
    assert log.read_text() == "4."
