"""Units on many devices: two hosts on this machine, by Ray's own means for tests, equal one process."""

from __future__ import annotations

import importlib.util
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from art_mtl.attacks import MultiTaskPGD
from art_mtl.data.sources import as_source
from art_mtl.evaluation import Callback, Run, evaluate, workers
from art_mtl.evaluation.attack import attack_info
from art_mtl.evaluation.job import Job, OnStep
from art_mtl.evaluation.measure import Evaluator
from art_mtl.evaluation.sending import _reduced, pack
from art_mtl.evaluation.units import Unit, UnitResult

FOLDER = Path(__file__).resolve().parent
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray")
TOKEN = "ignore:The Ray cluster asks for no token:RuntimeWarning"


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


parts = _load("parts", FOLDER / "parts.py")


@pytest.fixture(scope="module")
def hosts() -> Iterator[Any]:
    """Two hosts of one core each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    try:
        cluster.second = cluster.add_node(**small)
        cluster.small = small
        yield cluster
    finally:
        cluster.shutdown()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same run in one process."""
    return parts.run(tmp_path_factory.mktemp("alone") / "calls")


def meanwhile(calls: Path, count: int, act: Callable[[], None]) -> threading.Thread:
    """Act when attacks have been called so often."""

    def wait() -> None:
        end = time.monotonic() + 120
        while len(parts.called(calls)) < count and time.monotonic() < end:
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@needs_ray
@pytest.mark.ray
@pytest.mark.filterwarnings(TOKEN)
def test_a_worker_is_killed_and_the_tables_are_those_of_one_process(hosts, alone, tmp_path) -> None:
    calls, killed = tmp_path / "calls", set[int]()

    def kill() -> None:
        process = parts.called(calls)[-1][2]
        os.kill(process, signal.SIGKILL)
        killed.add(process)

    killer = meanwhile(calls, 4, kill)
    found = parts.run(calls, seconds=0.4, processes=2, ray=hosts.address, out=tmp_path / "run")
    killer.join()
    assert parts.table(found) == parts.table(alone) and parts.figures(found) == parts.figures(alone)
    assert found.tasks == alone.tasks
    assert parts.check_calls(calls, killed) == 1, "the unit that the killed worker was at"
    processes = {process for _, _, process in parts.called(calls)}
    assert len(processes) > 1 and os.getpid() not in processes


@needs_ray
@pytest.mark.ray
@pytest.mark.filterwarnings(TOKEN)
def test_callbacks_stay_here_and_the_means_of_steps_come_with_each_unit(hosts) -> None:
    class Log(Callback):
        def __init__(self) -> None:
            self.lock, self.reports, self.steps = threading.Lock(), [], 0  # a lock cannot be sent

        def on_step(self, attack: Any, chunk: int, record: Any) -> None:
            self.steps += 1

        def on_unit(self, report: Any) -> None:
            if report.attack is not None:
                self.reports.append((report.chunk, report.weights))

    def run(**settings: Any) -> tuple[Log, Any]:
        log, estimator = Log(), parts.make_estimator()
        attack = MultiTaskPGD(estimator, "minmax", eps=0.1, max_iter=3, verbose=False)
        own = {"chunk": parts.CHUNK, "threads": 1, "progress": False, **settings}
        return log, evaluate(estimator, [attack], parts.data(estimator), callbacks=log, **own).results

    (here, alone), (there, shared) = run(), run(ray=hosts.address)
    assert here.steps == parts.CHUNKS * 3 and there.steps == 0
    assert sorted(there.reports) == here.reports and len(here.reports[0][1]) == 3
    assert parts.figures(shared) == parts.figures(alone)


@needs_ray
@pytest.mark.ray
@pytest.mark.filterwarnings(TOKEN)
def test_a_host_goes_another_comes_and_the_tables_are_those_of_one_process(hosts, alone, tmp_path) -> None:
    calls = tmp_path / "calls"
    with ThreadPoolExecutor(1) as pool:  # hosts are added by the main thread only
        run = pool.submit(parts.run, calls, seconds=0.4, processes=2, ray=hosts.address)
        meanwhile(calls, 4, lambda: None).join()
        hosts.remove_node(hosts.second, allow_graceful=False)
        gone = parts.ended(calls)
        hosts.second = hosts.add_node(**hosts.small)
        found = run.result()
    assert parts.table(found) == parts.table(alone) and parts.figures(found) == parts.figures(alone)
    assert parts.check_calls(calls, gone) <= 1


@needs_ray
@pytest.mark.ray
@pytest.mark.filterwarnings(TOKEN)
def test_a_unit_s_own_error_ends_the_run_in_its_own_words(hosts, tmp_path) -> None:
    fault = ZeroDivisionError("no eps in chunk 2")
    with pytest.raises(ZeroDivisionError, match="^no eps in chunk 2$") as caught:
        parts.run(tmp_path / "calls", fault=fault, at=2, ray=hosts.address, out=tmp_path / "run")
    assert "in generate" in str(caught.value.__cause__), "where it was raised"
    assert not any(chunk > 4 for _, chunk, _ in parts.called(tmp_path / "calls")), "nothing is begun any more"


@needs_ray
@pytest.mark.ray
@pytest.mark.filterwarnings(TOKEN)
def test_a_unit_that_ends_its_workers_is_given_up(hosts, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(workers, "_TRIES", 2)
    with pytest.raises(OSError, match="linf 0.1, chunk 0, .* ended its worker 2 times") as caught:
        parts.run(tmp_path / "calls", fault="exit", at=0, ray=hosts.address)
    given_up = str(caught.value).partition(",")[0]  # either of the two: they run at the same time
    assert sum(chunk == 0 and name == given_up for name, chunk, _ in parts.called(tmp_path / "calls")) == 2


LOCAL = """
import sys
sys.path.insert(0, {folder!r})
from pathlib import Path
import parts
try:
    parts.run(Path({calls!r}), seconds=0.3, ray="local", out={store!r})
except KeyboardInterrupt as stop:
    print(stop)
    sys.exit(130)
"""


def of_run(marker: str) -> list[int]:
    """Processes in whose environment a marker stands."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            text = path.read_bytes()
        except OSError:
            continue
        if marker.encode() in text:
            found.append(int(path.parent.name))
    return found


@needs_ray
@pytest.mark.ray
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
def test_ctrl_c_ends_every_process_and_the_run_goes_on(alone, tmp_path) -> None:
    calls, marker = tmp_path / "calls", f"ART_MTL_TEST={tmp_path.name}-{os.getpid()}"
    script = LOCAL.format(folder=str(FOLDER), calls=str(calls), store=str(tmp_path / "run"))
    name, _, value = marker.partition("=")
    environment = {**os.environ, name: value, "PYTHONPATH": str(FOLDER.parents[1]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        start_new_session=True,
    )  # fmt: skip
    meanwhile(calls, 4, lambda: os.killpg(process.pid, signal.SIGINT)).join()  # as a terminal does
    told, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and f"what is finished is in {tmp_path / 'run'}" in told, errors
    assert "no token" not in errors, "a Ray of one's own asks for one"
    end = time.monotonic() + 20
    while of_run(marker) and time.monotonic() < end:
        time.sleep(0.1)
    assert not of_run(marker)
    before = len(parts.called(calls))
    found = parts.run(calls, seconds=0.3, out=tmp_path / "run")
    assert parts.table(found) == parts.table(alone)
    assert len(parts.called(calls)) - before < 2 * parts.CHUNKS - 1, "it went on"


def test_sigterm_tells_how_to_go_on(tmp_path, alone, monkeypatch) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    compute = Job.compute

    def stopped(self: Job, unit: Unit, on_step: OnStep | None = None) -> UnitResult:
        if unit == Unit(1, 3):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        return compute(self, unit, on_step)

    with monkeypatch.context() as patch:
        patch.setattr(Job, "compute", stopped)
        with pytest.raises(KeyboardInterrupt, match=f"finished is in {tmp_path / 'run'}, and the same command goes on"):
            parts.run(tmp_path / "calls", out=tmp_path / "run")
    assert signal.getsignal(signal.SIGTERM) is handler
    assert parts.table(parts.run(tmp_path / "calls", out=tmp_path / "run")) == parts.table(alone)
    assert parts.check_calls(tmp_path / "calls", set()) == 0


def test_torchrun_is_told_what_to_write(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="Found WORLD_SIZE=2.* --ray local"):
        parts.run(tmp_path / "calls")
    assert not (tmp_path / "calls").exists()


def test_without_ray(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install '\.\[ray\]'"):
        parts.run(tmp_path / "calls", ray="local")
    old = ModuleType("ray")
    old.__version__ = "2.51.1"
    monkeypatch.setitem(sys.modules, "ray", old)
    with pytest.raises(ImportError, match="2.52 or newer. Found 2.51.1"):
        parts.run(tmp_path / "calls", ray="local")


def test_nothing_of_ray_is_imported_unless_asked_for(tmp_path) -> None:
    script = f"""
import sys
sys.path.insert(0, {str(FOLDER)!r})
from pathlib import Path
import parts
parts.run(Path({str(tmp_path / "calls")!r}))
print("ray" in sys.modules, len(parts.called(Path({str(tmp_path / "calls")!r}))))
"""
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert done.stdout.split() == ["False", str(2 * parts.CHUNKS)], done.stderr


@needs_ray
def test_there_is_no_cluster_to_join(tmp_path) -> None:
    with pytest.raises(ConnectionError, match="Found '127.0.0.1:1'"):
        parts.run(tmp_path / "calls", ray="127.0.0.1:1")


@pytest.mark.parametrize(
    ("answer", "uses_tls", "reason"),
    [
        (b"\0\0\6\4", False, None),  # SETTINGS
        (b"\x15\3\3\0\2\2\x46", False, "no gRPC by the same RAY_USE_TLS"),  # the alert of a host that asks for TLS
        (b"\0\0\6\4", True, "SSL"),
        (b"", False, "no gRPC"),
    ],
)
def test_a_cluster_of_other_tls_is_no_cluster(monkeypatch, answer: bytes, uses_tls: bool, reason: str | None) -> None:
    """Ray itself would try for ever."""
    monkeypatch.setenv("RAY_USE_TLS", "1" if uses_tls else "0")
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:

        def once() -> None:
            with server.accept()[0] as connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

        served = pool.submit(once)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        if reason is None:
            workers._check_reachable(address)
        else:
            with pytest.raises(ConnectionError, match=f"the same token and TLS. Found '{address}': .*{reason}"):
                workers._check_reachable(address)
        served.result(timeout=30)


@needs_ray
@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.skipif("ART_MTL_SLOW" not in os.environ, reason="a quarter of an hour; set ART_MTL_SLOW")
def test_twenty_kills_and_six_lost_hosts() -> None:
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parents[1]), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, str(FOLDER / "losses.py")], check=True, env=environment)


class Holder:
    """Samples that hold what cannot be pickled."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __len__(self) -> int:
        return parts.SAMPLES

    def __getitem__(self, i: int) -> tuple[np.ndarray, dict[str, Any]]:
        x, y = parts.data(parts.make_estimator())
        return x[i], {name: labels[i] for name, labels in y.items()}


@needs_ray
def test_data_that_cannot_be_sent_are_named(tmp_path) -> None:
    h5py = pytest.importorskip("h5py")
    from ray import cloudpickle

    with h5py.File(tmp_path / "x.h5", "w") as file, pytest.raises(ValueError, match="^The data should .* HDF5, let"):
        pack(cloudpickle, [Holder(file)], {"the model": parts.Net(), "the data": Holder(file)})


@needs_ray
def test_the_user_s_own_classes_travel_and_are_one_object_still(tmp_path) -> None:
    """Another process can neither import the file nor is it given its folder."""
    from ray import cloudpickle

    own = tmp_path / "own_net.py"
    own.write_text(
        "import torch, own_part\nclass Net(torch.nn.Linear):\n    def answer(self):\n        return own_part.TEN"
    )
    (tmp_path / "own_part.py").write_text("TEN = 10")
    _load("own_part", tmp_path / "own_part.py")
    net = _load("own_net", own).Net(1, 1)
    (tmp_path / "packed").write_bytes(pack(cloudpickle, [net, net], {}))
    script = (
        f"import pickle, pathlib; a, b = pickle.loads(pathlib.Path({str(tmp_path / 'packed')!r}).read_bytes())\n"
        "print(a is b, a.answer(), a.weight.item())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=FOLDER)
    assert done.stdout.split() == ["True", "10", str(net.weight.item())], done.stderr
    with pytest.raises(ValueError, match="not registered"):
        cloudpickle.unregister_pickle_by_value(sys.modules["own_net"])


@needs_ray
@pytest.mark.parametrize("view", [slice(None), slice(3, 9), slice(0, 9, 2)], ids=["whole", "part", "every other"])
def test_an_array_on_disk_is_sent_by_its_place(tmp_path, view) -> None:
    from ray import cloudpickle

    values = np.arange(10 * 2000, dtype=np.int32).reshape(10, 2000)
    np.save(tmp_path / "x.npy", values)
    mapped = np.asarray(np.load(tmp_path / "x.npy", mmap_mode="r"))[view]
    packed = pack(cloudpickle, mapped, {})
    np.testing.assert_array_equal(pickle.loads(packed), values[view])
    assert (len(packed) < 1000) == (view.step is None), "what has gaps is sent itself"


def test_tensors_of_any_gpu_go_to_the_first_one() -> None:
    function, arguments = _reduced(torch.device("cuda:3"))
    assert function(*arguments) == torch.device("cuda:0")
    assert _reduced(torch.device("cpu")) is None and _reduced(torch.zeros(1)) is None


class Restless(Holder):
    """Samples of which one changes between two readings."""

    read = 0

    def __getitem__(self, i: int) -> tuple[np.ndarray, dict[str, Any]]:
        x, y = super().__getitem__(i)
        if i == 9:
            self.read += 1
            x = x * (0.9 if self.read > 1 else 1)
        return x, y


@pytest.mark.filterwarnings("ignore:nor ever will be:DeprecationWarning", "ignore:nothing is done:RuntimeWarning")
def test_data_that_change_are_noticed(tmp_path) -> None:
    estimator = parts.make_estimator()
    with pytest.raises(ValueError, match="Found another input or label in samples 8 to 11 under quiet"):
        evaluate(estimator, {"quiet": Quiet()}, Restless(None), chunk=parts.CHUNK, progress=False, out=tmp_path)


class Quiet:
    """An attack that does nothing but warn."""

    def generate(self, x: np.ndarray, y: Any = None) -> np.ndarray:
        """The inputs."""
        warnings.warn("nothing is done", RuntimeWarning, stacklevel=1)
        warnings.warn("nor ever will be", DeprecationWarning, stacklevel=1)
        return x.copy()


@pytest.mark.filterwarnings("ignore:nor ever will be:DeprecationWarning")
def test_a_warning_of_many_units_is_given_once(monkeypatch) -> None:
    estimator = parts.make_estimator()
    with pytest.warns(RuntimeWarning, match="^nothing is done$") as told:
        evaluate(estimator, {"quiet": Quiet()}, parts.data(estimator), chunk=parts.CHUNK, progress=False)
    assert sum("nothing is done" in str(one.message) for one in told) == 1


def test_a_unit_tells_its_warnings_its_data_and_all_inputs_if_asked() -> None:
    estimator = parts.make_estimator()
    attack = MultiTaskPGD(estimator, "equal", eps=0.1, max_iter=1, verbose=False)
    named = [(attack_info("quiet", Quiet()), Quiet()), (attack_info("equal", attack), attack)]
    source = as_source(parts.data(estimator), estimator.tasks)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        plain, keeping = (Job(Evaluator(estimator, 4), source, named, 4, 0, None, keep) for keep in (False, True))
        quiet, equal = (keeping.compute(Unit(a, 3)) for a in (1, 2))
    assert quiet.warnings == ("nothing is done",) and equal.warnings == ()
    assert quiet.data == equal.data != keeping.compute(Unit(0, 2)).data
    assert equal.adversarial.shape == (4, 1, 6, 8) and plain.compute(Unit(2, 3)).adversarial is None
    assert np.abs(equal.adversarial - parts.inputs()[12:16]).max() == pytest.approx(0.1, rel=1e-4)


def test_warnings_of_the_clean_pass_are_those_of_the_run(tmp_path, monkeypatch) -> None:
    """Each once, though two chunks give it; in the run that is read too."""
    estimator, measure = parts.make_estimator(), Evaluator.part

    def part(self, x, y, clean=False, first=0):
        if clean:
            warnings.warn("the room is dark", RuntimeWarning, stacklevel=1)
        return measure(self, x, y, clean, first)

    monkeypatch.setattr(Evaluator, "part", part)
    attack = MultiTaskPGD(estimator, "equal", eps=0.1, max_iter=1, verbose=False)
    with pytest.warns(RuntimeWarning, match="^the room is dark$"):
        run = evaluate(estimator, attack, parts.data(estimator), chunk=parts.CHUNK, out=tmp_path, progress=False)
    assert run.results.warnings == Run.read(tmp_path).results.warnings == ("the room is dark",)


def test_threads_are_those_of_the_run_and_part_of_it(tmp_path, monkeypatch) -> None:
    seen, compute, before = set[int](), Job.compute, torch.get_num_threads()

    def noted(self: Job, unit: Unit, on_step: OnStep | None = None) -> UnitResult:
        seen.add(torch.get_num_threads())
        return compute(self, unit, on_step)

    monkeypatch.setattr(Job, "compute", noted)
    parts.run(tmp_path / "calls", threads=before + 1, out=tmp_path / "run")
    assert seen == {before + 1} and torch.get_num_threads() == before
    with pytest.raises(ValueError, match=rf"threads={before + 1}; you asked for threads={before}"):
        parts.run(tmp_path / "calls", threads=before, out=tmp_path / "run")
    with pytest.raises(ValueError, match="`threads` should be an integer of at least 1. Found 0"):
        parts.run(tmp_path / "calls", threads=0)
