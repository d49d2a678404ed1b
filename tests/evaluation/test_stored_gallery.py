"""The samples that a run keeps to be shown: without the model the page is the same, and what is damaged is named."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from art_mtl import PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MultiTaskPGD, WorstTaskPGD
from art_mtl.evaluation import Run, evaluate
from art_mtl.evaluation.packing import compressed, decompressed
from art_mtl.evaluation.report import write
from art_mtl.evaluation.report.drawn_samples import DrawnSample, Maps, Picture, Words
from art_mtl.evaluation.report.gallery import both_ends
from art_mtl.evaluation.report.stored_gallery import StoredGallery, pack_samples, unpack_samples
from art_mtl.evaluation.store import DATABASE, _checksum


class Net(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        bright = x.mean((1, 2, 3))
        return {
            "far": 1 + 3 * x,
            "seg": torch.cat([x - 0.5, 0.5 - x], 1),
            "kind": torch.stack([bright - 0.5, 0.5 - bright], 1),
        }


def run_of(folder: Path | None, **more: object) -> Run:
    estimator = PyTorchMultiTaskEstimator(
        Net(), tasks=[tasks.depth("far"), tasks.segmentation("seg", 2), tasks.classification("kind", 2)],
        input_shape=(1, 6, 8), clip_values=(0.0, 1.0), device_type="cpu",
    )  # fmt: skip
    x = np.random.default_rng(0).uniform(0.3, 0.7, (7, 1, 6, 8)).astype(np.float32)
    raw = estimator.predict(x)
    y = {"far": raw["far"] - 0.1, "seg": raw["seg"].argmax(1), "kind": raw["kind"].argmax(1)}
    attacks = [
        make(estimator, eps=eps, norm=norm, max_iter=2, verbose=False)
        for make in (MultiTaskPGD, WorstTaskPGD)
        for norm, eps in ((np.inf, 0.05), (np.inf, 0.2), (2, 1.0))
    ]
    return evaluate(estimator, attacks, (x, y), progress=False, chunk=4, out=folder, command="art-mtl x", **more)


def page(run: Run, path: Path) -> str:
    return run.report(path)[0].read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stored") / "run"
    run_of(folder)
    return folder


def test_the_page_of_a_folder_is_the_page_of_the_live_run(tmp_path: Path) -> None:
    live = run_of(tmp_path / "run")
    stored = Run.read(tmp_path / "run")
    assert stored._live is None
    text = page(live, tmp_path / "live.html")
    assert page(stored, tmp_path / "stored.html") == text
    assert text.count('<div class="sample">') == 8  # two at either end, of the largest radius of two norms
    for run, place in ((live, "a"), (stored, "b")):
        run.report(tmp_path / place)
    names = {path.name for path in (tmp_path / "a" / "figures").iterdir()}
    assert len([name for name in names if name.startswith("example")]) == 3
    for name in names:
        assert (tmp_path / "a" / "figures" / name).read_bytes() == (tmp_path / "b" / "figures" / name).read_bytes()


def test_what_is_stored_is_what_a_run_in_memory_shows(folder: Path) -> None:
    memory, stored = run_of(None), StoredGallery.read(folder)
    blocks = list(memory.results.blocks())
    assert len(blocks) == 3 == len(stored.samples)
    for block in blocks:
        shown = block.strongest
        least, most = both_ends(memory._live.gallery.drawn(shown))
        assert len(least) == len(most) == 2
        for one, other in zip((*least, *most), stored.drawn(shown), strict=True):
            assert (one.place, one.deltas, one.words) == (other.place, other.deltas, other.words)
            for name in ("clean", "attacked", "perturbation"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
            for mine, theirs in zip(one.maps, other.maps, strict=True):
                assert replace(mine, pictures=(), errors=()) == replace(theirs, pictures=(), errors=())
                pairs = zip((*mine.pictures, *mine.errors), (*theirs.pictures, *theirs.errors), strict=True)
                for picture, again in pairs:
                    assert picture.caption == again.caption
                    np.testing.assert_array_equal(picture.pixels, again.pixels)


@pytest.mark.parametrize("damage", ["a byte", "another picture"])
def test_damaged_samples_are_named_and_drawn_again(tmp_path: Path, damage: str) -> None:
    run_of(tmp_path / "run")
    expected = page(Run.read(tmp_path / "run"), tmp_path / "before.html")
    with sqlite3.connect(tmp_path / "run" / DATABASE) as connection:
        number, data = connection.execute("SELECT attack, samples FROM gallery ORDER BY attack LIMIT 1").fetchone()
        changed = data[:-9] + bytes([data[-9] ^ 1]) + data[-8:] if damage == "a byte" else pack_samples([sample()])
        checksum = _checksum((number, changed if damage == "another picture" else data))
        connection.execute("UPDATE gallery SET samples = ?, checksum = ? WHERE attack = ?", (changed, checksum, number))
    stored = Run.read(tmp_path / "run")
    assert len(stored.results.attacks) == 6, "the figures need no samples"
    reason = "another checksum" if damage == "a byte" else "not of 3 tasks"
    with pytest.raises(ValueError, match=f"{DATABASE}: expected the samples that are shown of .*{reason}"):
        stored.report(tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
    run_of(tmp_path / "run")
    assert page(Run.read(tmp_path / "run"), tmp_path / "after.html") == expected


def test_a_restarted_run_forgets_the_samples_of_the_earlier_one(tmp_path: Path) -> None:
    run_of(tmp_path / "run")

    class Stop(Exception):
        pass

    from art_mtl.evaluation import Callback

    class Stops(Callback):
        def on_unit(self, report: object) -> None:
            raise Stop

    with pytest.raises(RuntimeError, match="Stop"):
        run_of(tmp_path / "run", restart=True, callbacks=[Stops()])
    assert StoredGallery.read(tmp_path / "run").samples == {}


def sample(**changed: object) -> DrawnSample:
    image = np.full((4, 6, 3), 7, np.uint8)
    picture = Picture("truth", image)
    maps = Maps("seg", (picture,) * 3, (picture,) * 2, "m", (0.0, 1.0), "scale", (("bed", "#0a1b2c"),))
    one = DrawnSample(
        3, (-0.5, None), image[..., :1], image[..., :1], np.zeros((4, 6, 1), np.float16), (maps,),
        (Words("kind", "cat", "cat", "dog", True, False),),
    )  # fmt: skip
    own = {name: value for name, value in changed.items() if hasattr(one, name)}
    return replace(one, **own, maps=(replace(maps, **{n: v for n, v in changed.items() if n not in own}),))


WRONG = {
    "objects": {"clean": np.array([[[None]]], dtype=object)},
    "another type": {"clean": np.zeros((4, 6, 1))},
    "too wide": {"clean": np.zeros((1, 513, 1), np.uint8)},
    "no axis": {"clean": np.zeros((4, 6), np.uint8)},
    "two channels": {"clean": np.zeros((4, 6, 2), np.uint8)},
    "another size": {"attacked": np.zeros((4, 5, 1), np.uint8)},
    "a picture too few": {"pictures": (Picture("truth", np.zeros((4, 6, 3), np.uint8)),)},
    "grey maps": {"errors": (Picture("clean error", np.zeros((4, 6, 1), np.uint8)),) * 2},
    "a request": {"classes": (("bed", "url(http://example.org)"),)},
    "a scale without end": {"limits": (0.0, float("inf"))},
    "a number for a word": {"unit": 3},
    "a word for a number": {"place": "first"},
}


@pytest.mark.parametrize("case", WRONG)
def test_nothing_but_pictures_words_and_numbers_is_read(case: str) -> None:
    assert unpack_samples(pack_samples([sample()]))[0].words == sample().words
    try:
        data = pack_samples([sample(**WRONG[case])])
    except BufferError:  # objects have no bytes
        return
    with pytest.raises(ValueError):
        unpack_samples(data)


def test_samples_that_would_fill_the_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from art_mtl.evaluation.report import stored_gallery

    data = pack_samples([sample()])
    size = len(decompressed(data, 1 << 20))
    monkeypatch.setattr(stored_gallery, "_LARGEST", size)
    assert len(unpack_samples(data)) == 1
    monkeypatch.setattr(stored_gallery, "_LARGEST", size - 1)
    with pytest.raises(ValueError, match=f"more than {size - 1} bytes"):
        unpack_samples(data)
    with pytest.raises(ValueError, match="cut off"):
        decompressed(compressed(b"whole")[:-1], 9)


def test_inputs_without_bounds_are_drawn_from_the_least_to_the_greatest_value_of_both() -> None:
    """So that their difference is the perturbation, to scale."""
    estimator = PyTorchMultiTaskEstimator(Net(), tasks=[tasks.depth("far")], input_shape=(1, 6, 8), device_type="cpu")
    x = np.random.default_rng(0).uniform(-3, 5, (2, 1, 6, 8)).astype(np.float32)
    x[1] = 2.0
    attack = MultiTaskPGD(estimator, eps=0.5, max_iter=1, verbose=False)
    run = evaluate(estimator, [attack], (x, {"far": np.ones_like(x)}), progress=False, keep_adversarial=True)
    adversarial = run.adversarial("equal")
    for one in run._live.gallery.drawn(run["equal"]):
        pair = np.stack([x[one.place], adversarial[one.place]])[:, 0]
        shown = (pair - pair.min()) / np.ptp(pair)
        for name, expected in zip(("clean", "attacked"), shown, strict=True):
            np.testing.assert_allclose(getattr(one, name)[..., 0] / 255, expected, atol=0.51 / 255)
        np.testing.assert_allclose(one.perturbation[..., 0], shown[1] - shown[0], rtol=2e-3, atol=1e-6)


def test_which_places_a_report_may_have(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page, or a folder, whose name may have a dot; a new folder is not called like another kind of file."""
    monkeypatch.setattr(write, "write_figures", lambda folder, results, gallery: [])
    run = Run.read(folder)
    for name in ("report.pdf", "report.md", "a/results.json", "REPORT.TEX"):
        with pytest.raises(ValueError, match=f"`path` should be a page, whose name ends in .html, or a folder.*{name}"):
            run.report(tmp_path / name)
        assert not (tmp_path / name).exists()
    (tmp_path / "is.there").mkdir()
    for name in ("v1.2", "is.there", "plain"):
        assert tmp_path / name / "report.html" in run.report(tmp_path / name)
    assert run.report(tmp_path / "A.HTM") == [tmp_path / "A.HTM"]


def test_show_writes_the_report_of_a_folder_before_it_prints(folder: Path, tmp_path: Path, capsys) -> None:
    from art_mtl.cli import main

    assert main(["show", str(folder), "--out", str(tmp_path / "page.html")]) == 0
    assert capsys.readouterr().err == f"art-mtl: 1 file in {tmp_path}; start with {tmp_path / 'page.html'}\n"
    expected = page(Run.read(folder), tmp_path / "expected.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == expected
    assert main(["show", str(folder), "--out", str(tmp_path / "page.pdf")]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "Option --out should be a page, whose name ends in .html, or a folder." in said.err
