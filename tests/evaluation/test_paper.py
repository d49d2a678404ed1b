"""The paper's tables: what they print, and the command that sets measured figures beside them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from art_mtl.cli import main
from art_mtl.data.paper import PAPER_DATA
from art_mtl.evaluation import (
    AttackResult,
    Environment,
    Results,
    TaskResult,
    evaluate,
    load_victim,
    reproduction,
)
from art_mtl.evaluation.report.tables import to_latex, to_markdown
from art_mtl.evaluation.reproduction import comparison_table as comparison
from art_mtl.evaluation.reproduction.comparison_table import compare, comparison_csv, comparison_table
from art_mtl.evaluation.reproduction.paper_tables import REPRODUCED, paper_tables, reproduce
from art_mtl.evaluation.results import summarise
from art_mtl.models import MTAN, RoomsNet, save_weights
from art_mtl.zoo import victims

PRINTED = Path(reproduction.__file__).parent / "paper_tables.csv"
HEIGHT, WIDTH, COUNT = 12, 16, 6
FIGURES = ("m1", "m2", "m3", "delta_mtl", "delta_wor")


class Tiny(torch.nn.Module):
    """A convolution with the heads of a network of the paper."""

    def __init__(self, heads: dict[str, int]) -> None:
        super().__init__()
        self.heads = heads
        self.conv = torch.nn.Conv2d(3, sum(heads.values()), 3, padding=1)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs = dict(zip(self.heads, self.conv(x).split(list(self.heads.values()), 1), strict=True))
        for name in {"depth", "disparity"} & set(outputs):
            outputs[name] = 4 + outputs[name]
        if "normals" in outputs:
            outputs["normals"] = torch.nn.functional.normalize(outputs["normals"], dim=1)
        return outputs


def answers(name: str, images: np.ndarray) -> dict[str, np.ndarray]:
    """What the tiny network makes of images in [0, 1], (N, H, W, 3): labels that an attack can spoil."""
    net = Tiny(dict(PAPER_DATA[name].heads))
    with torch.no_grad():
        outputs = net(torch.tensor(2 * images.transpose(0, 3, 1, 2) - 1, dtype=torch.float32))
    return {task: output.numpy() for task, output in outputs.items()}


def make_nyuv2(root: Path, split: str = "val", size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    rng = np.random.default_rng(0)
    images = rng.random((COUNT, *size, 3))
    made = answers("nyuv2", images)
    columns = {
        "image": images,
        "label": made["segmentation"].argmax(1),
        "depth": (made["depth"] + 0.2).clip(0.1, 9).transpose(0, 2, 3, 1),
        "normal": made["normals"].transpose(0, 2, 3, 1),
    }
    for folder, arrays in columns.items():
        (root / split / folder).mkdir(parents=True)
        for i, array in enumerate(arrays):
            np.save(root / split / folder / f"{i}.npy", array)


def make_cityscapes(root: Path, split: str = "val") -> None:
    from art_mtl.data.cityscapes import TRAIN_IDS

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)
    made = answers("cityscapes", pixels / 255)
    uids = np.array([7, *(24_000_00 + i for i in range(1, 5)), *(26_000_00 + i for i in range(1, 6))], np.int32)
    columns = {
        "image/{}.png": pixels,
        "seg/{}.png": np.array(TRAIN_IDS, np.uint8)[made["segmentation"].argmax(1)],
        "part_seg/{}.tif": uids[made["parts"].argmax(1)],
        "depth/{}.png": (1 + 1024 * (made["disparity"][:, 0] + 0.2).clip(0.1, 9)).astype(np.uint16),
    }
    for name, arrays in columns.items():
        (root / split / name).parent.mkdir(parents=True)
        for i, array in enumerate(arrays):
            Image.fromarray(array).save(root / split / name.format(i))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads of test workers that share a core only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take the most time; where they are not what is tested there are none."""
    monkeypatch.setattr(comparison, "write_figures", lambda folder, results, gallery: [])


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Both data sets in their layouts, and a checkpoint that stands for the tiny network."""
    make_nyuv2(tmp_path / "nyuv2")
    make_cityscapes(tmp_path / "cityscapes")
    (tmp_path / "weights.pth").write_bytes(b"PK")
    monkeypatch.setattr(victims, "load_network", lambda path, heads: Tiny(dict(heads)).eval())
    return {"nyuv2": tmp_path / "nyuv2", "cityscapes": tmp_path / "cityscapes", "weights": tmp_path / "weights.pth"}


def run(*arguments: object) -> None:
    """The command ``art-mtl reproduce``; errors are raised."""
    assert main(command(*arguments)) == 0


def command(*arguments: object) -> list[str]:
    return ["reproduce", *map(str, arguments), "--device", "cpu", "--quiet", "--debug"]


def printed(table: str) -> list[dict[str, str]]:
    with PRINTED.open() as file:
        return [row for row in csv.DictReader(file) if row["table"] == table]


# --- what the paper prints ---


def test_the_tables_are_those_of_the_paper() -> None:
    tables = paper_tables()
    assert {name: (table.data.name, table.norm, len(table.rows)) for name, table in tables.items()} == {
        "I": ("nyuv2", "l2", 7),
        "II": ("cityscapes", "l2", 7),
        "III": ("nyuv2", "linf", 13),
        "IV": ("cityscapes", "linf", 13),
    }
    for table in tables.values():
        assert table.eps == table.data.eps[table.norm]
        assert (table.rows[0].method, table.rows[0].figures[3:]) == ("Baseline", (0, 0))
    assert tables["II"].row("Min-max", 10.0).figures == (20.35, 20.1, 369.39, -67.19, -61.21)
    assert tables["II"].row("Min-max", 2 / 255) is None


def test_three_figures_are_misprinted() -> None:
    found = {
        (table.name, method, eps, place): round(value, 2)
        for table in paper_tables().values()
        for (method, eps), figures in table.misprints.items()
        for place, value in enumerate(figures)
        if value is not None
    }
    assert found == {
        ("IV", "Min-max", 2 / 255, 4): -36.61,
        ("IV", "Normalize", 4 / 255, 4): -55.69,
        ("IV", "Min-max", 4 / 255, 4): -55.00,
    }


# --- measured beside printed ---


@pytest.fixture
def hand_made() -> Results:
    """Table IV at 2/255 by hand: clean as printed, one official row a little off, one row that the paper lacks."""
    tasks = (
        TaskResult("segmentation", "segmentation", "mIoU", True, 100.0, "", 0.5420, (0.5,)),
        TaskResult("parts", "segmentation", "mIoU", True, 100.0, "", 0.5182, (0.5,)),
        TaskResult("disparity", "disparity", "aErr", False, 100.0, "", 0.8151, (0.8,)),
    )

    def attack(name: str, values: tuple[float, ...], deltas: tuple[float | None, ...]) -> AttackResult:
        mean, least = summarise(deltas)
        return AttackResult(
            name, name, "linf", 2 / 255, None, 10, values, deltas, mean, least, -0.1, (values,), (deltas,),
            2 / 255, 1.0, 1, (None,) * 3, None, None, 10.0, 11.0,
        )  # fmt: skip

    attacks = (
        attack("minmax-official", (0.3134, 0.3185, 1.8871), (-0.5, -0.25, -0.75)),
        attack("worst-task", (0.25, 0.25, 2.0), (-0.5, -0.5, None)),
    )
    return Results("cityscapes", tasks, attacks, (-1.0, 1.0), Environment({}, "cpu", "now", 0), protocol="auto-lambda")


def test_rows_beside_the_paper_s_by_hand(hand_made: Results) -> None:
    clean, official, ours = compare(hand_made, paper_tables()["IV"])
    assert clean.printed == (54.2, 51.82, 81.51, 0, 0) and clean.differences == pytest.approx([0] * 5, abs=1e-9)
    assert official.printed == (30.34, 32.85, 178.71, -45.0, -37.12)
    assert official.measured == pytest.approx((31.34, 31.85, 188.71, -50, -25))
    assert official.differences == pytest.approx((1, -1, 10, -5, 12.12))
    assert official.recomputed[:4] == (None,) * 4 and official.recomputed[4] == pytest.approx(-36.61, abs=0.005)
    assert ours.printed is ours.differences is ours.printed_as is None


GOLDEN = """\
|  | segmentation mIoU ↑ (×100) | parts mIoU ↑ (×100) | disparity aErr ↓ (×100) | Δ_MTL (%) | Δ_Wor (%) |
| :--- | ---: | ---: | ---: | ---: | ---: |
| clean | 54.20 | 51.82 | 81.51 | 0.00 | 0.00 |
| paper: Baseline | 54.20 | 51.82 | 81.51 | 0.00 | 0.00 |
| difference | +0.00 | +0.00 | +0.00 | +0.00 | +0.00 |
| **L∞, ε = 2/255 (1/255 in [0, 1])** |  |  |  |  |  |
| Min-max, authors' form | 31.34 | 31.85 | 188.71 | -50.00 | -25.00 |
| paper: Min-max | 30.34 | 32.85 | 178.71 | -45.00 | -37.12† |
| difference | +1.00 | -1.00 | +10.00 | -5.00 | +12.12 |
| worst-task (ours) | 25.00 | 25.00 | 200.00 | -50.00 | **-50.00** |

† L∞, ε = 2/255 (1/255 in [0, 1]), Min-max: the paper prints Δ_Wor -37.12; the metrics that it prints beside it give \
-36.61.

L∞, ε = 2/255 (1/255 in [0, 1]): the strongest attack is worst-task (ours), Δ_Wor -50.00 %. There is no interval of \
its difference from minmax-official (baseline)."""


def test_golden_markdown(hand_made: Results) -> None:
    table = comparison_table(hand_made, paper_tables()["IV"])
    assert to_markdown(table) == GOLDEN
    assert "Table IV of" in table.caption and "protocol auto-lambda" in table.caption
    assert "1 samples (the paper: 500)" in table.caption


def test_what_is_left_out_is_said(hand_made: Results) -> None:
    tasks = (replace(hand_made.tasks[0], clean=0.0), *hand_made.tasks[1:])
    notes = comparison_table(replace(hand_made, tasks=tasks, protocol="pooled"), paper_tables()["IV"]).notes
    assert "Δ leaves out segmentation, whose clean score is 0." in notes
    assert "The paper's own figures are by the protocol auto-lambda" in notes[-1]
    lost = replace(hand_made.attacks[0], values=(None, *hand_made.attacks[0].values[1:]))
    table = comparison_table(replace(hand_made, attacks=(lost,)), paper_tables()["IV"])
    row = next(row for row in table.rows if row.kind == "attack")
    assert row.cells[1].text == "not finite" and "segmentation, whose metric is not finite" in " ".join(table.notes)


def test_latex_is_whole_and_plain(hand_made: Results) -> None:
    text = to_latex(comparison_table(hand_made, paper_tables()["IV"]))
    assert text.isascii() and r"$-37.12$$\dagger$" in text and r"\par $\dagger$ L$\infty$" in text
    lines = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {line.count("&") for line in lines} == {5} and len(lines) == 1 + 3 + 3 + 1


def test_csv_of_figures_that_are_not_there(hand_made: Results) -> None:
    _, official, ours = csv.DictReader(io.StringIO(comparison_csv(hand_made, paper_tables()["IV"])))
    assert (float(official["eps"]), float(official["eps_in_01"])) == (2 / 255, 1 / 255)
    assert float(official["delta_wor_recomputed"]) == pytest.approx(-36.6075, abs=1e-4)
    assert official["delta_mtl_recomputed"] == ours["m1_printed"] == ours["m1_difference"] == ours["printed_as"] == ""


# --- the command, from folders to files ---


@pytest.mark.parametrize(("table", "data"), [("I", "nyuv2"), ("II", "cityscapes")])
def test_reproduce_from_end_to_end(folders, tmp_path: Path, capsys, table: str, data: str) -> None:
    out = tmp_path / "out"
    where = ["--root", folders[data], "--checkpoint", folders["weights"], "--out", out]
    run("--table", table, *where, "--steps", 2, "--limit", 5, "--protocol", "auto-lambda")
    shown = " ".join(capsys.readouterr().out.split())
    folder = out / f"table-{table}"
    results = Results.from_json(folder / "results.json")
    assert (results.samples, results.protocol) == (5, "auto-lambda")
    assert results.command.startswith(f"art-mtl reproduce --table {table} --root ")
    radii = PAPER_DATA[data].eps[paper_tables()[table].norm]
    assert [(attack.eps, attack.name) for attack in results.attacks] == [(eps, m) for eps in radii for m in REPRODUCED]

    rows = list(csv.DictReader((folder / "comparison.csv").read_text().splitlines()))
    assert len(rows) == 1 + len(radii) * len(REPRODUCED)
    compared = [row for row in rows if row["printed_as"]]
    assert len(compared) == len(printed(table))
    for row, source in zip(compared, printed(table), strict=True):
        assert row["printed_as"] == source["method"]
        for figure in FIGURES:
            assert float(row[f"{figure}_printed"]) == float(source[figure])
            difference = float(row[f"{figure}_measured"]) - float(source[figure])
            assert float(row[f"{figure}_difference"]) == pytest.approx(difference, abs=1e-9)
            assert f"{float(source[figure]):.2f}" in shown
    official = results.attacks[2]
    assert float(compared[3]["m1_measured"]) == pytest.approx(100 * official.values[0])
    assert float(compared[3]["delta_wor_measured"]) == pytest.approx(100 * official.delta_wor)

    page = (folder / "comparison.md").read_text()
    links = set(re.findall(r"\]\(([^)]+)\)", page))
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert links | {"comparison.md"} == files and sum(name.endswith(".png") for name in files) >= 1 + len(radii)
    document = json.loads((folder / "comparison.json").read_text())
    assert (document["table"], document["protocol"], len(document["rows"])) == (table, "auto-lambda", len(rows))
    assert (folder / "comparison.tex").read_text().count(r"\begin{table}") == 1


def test_all_tables_take_a_root_and_a_checkpoint_of_each(folders, no_figures, tmp_path: Path, capsys) -> None:
    roots = [f"{name}={folders[name]}" for name in ("nyuv2", "cityscapes")]
    weights = [f"{name}={folders['weights']}" for name in ("nyuv2", "cityscapes")]
    settings = ["--steps", 1, "--limit", 2, "--attacks", "equal-official", "--out", tmp_path / "out"]
    run("--table", "all", "--root", *roots, "--checkpoint", *weights, *settings)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"table-{name}" for name in paper_tables()}
    results = [Results.from_json(tmp_path / "out" / f"table-{t}" / "results.json") for t in ("I", "II")]
    assert [[task.name for task in found.tasks][1] for found in results] == ["depth", "parts"]
    shown = capsys.readouterr().out
    assert shown.index("Table I of") < shown.index("Table III of") < shown.index("Table II of")
    run("--table", "all", "--data", "nyuv2", "--root", folders["nyuv2"], "--checkpoint", folders["weights"],
        *settings, "--split", "val")  # fmt: skip
    assert "Table II" not in capsys.readouterr().out.replace("Table III", "")


def test_the_official_rows_do_not_depend_on_the_batch_size(folders) -> None:
    victim = load_victim("nyuv2", root=folders["nyuv2"], checkpoint=folders["weights"])
    methods = ("equal-official", "normalize-official", "minmax-official")
    runs = [reproduce("I", victim, methods, batch_size=size, steps=3, progress=False) for size in (4, 6, 100)]
    for other in runs[1:]:
        for one, two in zip(runs[0].attacks, other.attacks, strict=True):
            assert one.values == pytest.approx(two.values, rel=1e-4)
    assert len({attack.values for attack in runs[0].attacks}) == 6, "the methods do differ"
    assert {attack.steps for attack in reproduce("I", victim, ["equal-official"], progress=False).attacks} == {10}


def test_official_steps_are_the_authors(folders) -> None:
    """Nothing but 0.25 ε and 0.2 ε in the first step: the perturbation after one of ten steps."""
    victim = load_victim("nyuv2", root=folders["nyuv2"], checkpoint=folders["weights"])
    from art_mtl.evaluation.grid import GridCell, make_attack, make_estimator

    estimator = make_estimator(victim, "cpu")
    x, y = victim.data("test", 4)
    for norm, eps, share in (("linf", 2 / 255, 0.25), ("l2", 5.0, 0.2)):
        attack, seen = make_attack(estimator, GridCell("equal-official", norm, eps), 10, 4), []
        attack.observer = lambda record, seen=seen: seen.append(record.inputs)
        attack.generate(np.clip(x, -0.5, 0.5), y)
        delta = (seen[1] - seen[0]).flatten(1)
        size = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
        assert seen[0].equal(torch.tensor(np.clip(x, -0.5, 0.5)))
        np.testing.assert_allclose(size, share * eps, rtol=1e-4)


# --- bad input, before any work ---


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr(victims, "load_network", refuse)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--table", "III", "--root", "{empty}"], FileNotFoundError, "Expected the folder .*val"),
        (["--table", "III", "--root", "{cityscapes}"], FileNotFoundError, "Expected the folder .*val/label"),
        (["--table", "III", "--root", "{nyuv2}", "--split", "train"], FileNotFoundError, "Expected the folder .*train"),
        (["--table", "I", "IV", "--root", "{nyuv2}"], ValueError, "`root` should be nyuv2=PATH cityscapes=PATH. Found"),
        (["--table", "all", "--root", "nyuv2={nyuv2}"], ValueError, "`root` should be nyuv2=PATH cityscapes=PATH"),
        (["--table", "I", "--root", "cityscapes={nyuv2}"], FileNotFoundError, "cityscapes="),
        (["--table", "I", "--root", "a", "b"], ValueError, "`root` should be nyuv2=PATH or one path. Found a b"),
        (["--table", "II", "--data", "nyuv2", "--root", "x"], ValueError, "`table` should be I or III, .*Found II"),
        (
            ["--table", "III", "--root", "{nyuv2}", "--checkpoint", "gone.pth"],
            FileNotFoundError,
            "weights. Found none at gone.pth",
        ),
        (["--table", "III", "--root", "{nyuv2}", "--out", "{mine}"], ValueError, "new or empty folder"),
        (["--table", "III", "--root", "{nyuv2}", "--out", "{weights}"], ValueError, "Found a file at"),
        (
            ["--table", "III", "--root", "{nyuv2}", "--attacks", "minmux"],
            ValueError,
            "Found 'minmux'. Perhaps 'minmax'",
        ),
    ],
)
def test_bad_arguments_are_told_before_any_work(folders, no_work, tmp_path, arguments, error, message) -> None:
    (tmp_path / "mine" / "table-III").mkdir(parents=True)
    (tmp_path / "mine" / "table-III" / "thesis.tex").write_text("years of work")
    places = {**folders, "empty": tmp_path / "empty", "mine": tmp_path / "mine"}
    given = [argument.format(**places) for argument in arguments]
    if "--checkpoint" not in given:
        given += ["--checkpoint", str(folders["weights"])]
    with pytest.raises(error, match=message) as caught:
        run(*given)
    assert "\n" not in str(caught.value)


def test_an_unknown_table_is_named(folders) -> None:
    with pytest.raises(ValueError, match=r"`table` should be one of I, II, III, IV, all. Found 'V'"):
        run("--table", "V", "--root", folders["nyuv2"], "--checkpoint", folders["weights"])
    victim = load_victim("nyuv2", root=folders["nyuv2"], checkpoint=folders["weights"])
    with pytest.raises(ValueError, match=r"`table` should be one of I, II, III, IV. Found 'V'"):
        reproduce("V", victim)
    with pytest.raises(ValueError, match="Table II is of Cityscapes, .*'parts'.*Found the victim 'nyuv2'"):
        reproduce("II", victim)


def test_a_failure_in_the_middle_writes_nothing(folders, no_figures, tmp_path: Path, monkeypatch) -> None:
    def fail(*_: object) -> str:
        raise OSError("disk full")

    monkeypatch.setattr(comparison, "to_latex", fail)
    where = ["--root", folders["nyuv2"], "--checkpoint", folders["weights"], "--out", tmp_path / "out"]
    with pytest.raises(OSError, match="disk full"):
        run("--table", "I", *where, "--steps", 1, "--limit", 2, "--attacks", "equal-official")
    assert not (tmp_path / "out").exists()


def test_an_interruption_tells_what_was_written(folders, no_figures, tmp_path: Path, monkeypatch, capsys) -> None:
    from art_mtl.attacks import MultiTaskPGD

    generate = MultiTaskPGD.generate

    def stop_at_linf(attack: MultiTaskPGD, *arguments: object) -> np.ndarray:
        if attack.norm == np.inf:
            raise KeyboardInterrupt
        return generate(attack, *arguments)

    monkeypatch.setattr(MultiTaskPGD, "generate", stop_at_linf)
    out = tmp_path / "out"
    where = ["--root", folders["nyuv2"], "--checkpoint", folders["weights"], "--out", out]
    settings = ["--steps", 1, "--limit", 2, "--attacks", "equal-official"]
    assert main(command("--table", "I", "III", *where, *settings)) == 130
    assert capsys.readouterr().err.endswith(f"art-mtl: interrupted; written before: {out}/table-I.\n")
    assert [path.name for path in out.iterdir()] == ["table-I"]
    assert main(command("--table", "III", *where, *settings)) == 130
    assert capsys.readouterr().err == "art-mtl: interrupted; nothing was kept.\n"


# --- victims ---


def test_the_paper_s_victims_read_their_folders(folders) -> None:
    for name in ("nyuv2", "cityscapes"):
        victim = load_victim(name, root=folders[name], checkpoint=folders["weights"])
        paper = PAPER_DATA[name]
        x, y = victim.data("test", 3)
        assert x.shape == (3, *victim.input_shape) == (3, 3, HEIGHT, WIDTH) and victim.clip_values == (-1.0, 1.0)
        assert victim.data("test", 3)[0] is x or np.shares_memory(victim.data("test", 3)[0], x), "no copies"
        assert dict(victim.eps) == dict(paper.eps)
        assert y.names == tuple(paper.heads) == tuple(task.name for task in victim.tasks)
        assert not any(parameter.requires_grad for parameter in victim.model.parameters())
        for task, classes in victim.class_names.items():
            assert len(classes) == paper.heads[task] == len(set(classes))
        clean = evaluate(victims_estimator(victim), "equal", (x, y), eps=[0.01], steps=1, progress=False).results
        assert clean.tasks[0].clean > 0.9, "the network and its labels agree"
    with pytest.raises(ValueError, match="`root`, the folder of Cityscapes, and `checkpoint`.*checkpoint=None"):
        load_victim("cityscapes", root=folders["cityscapes"])


def victims_estimator(victim: victims.Victim):
    from art_mtl.evaluation.grid import make_estimator

    return make_estimator(victim, "cpu")


def test_a_victim_needs_one_split_only(folders) -> None:
    (folders["nyuv2"] / "val").rename(folders["nyuv2"] / "train")
    victim = load_victim("nyuv2", root=folders["nyuv2"], checkpoint=folders["weights"])
    assert len(victim.data("train", None)[0]) == COUNT
    with pytest.raises(FileNotFoundError, match="val"):
        victim.data("test", None)


def test_the_memorised_net_is_told_by_its_metadata(tmp_path: Path) -> None:
    make_nyuv2(tmp_path)
    metadata = {"victim": "nyuv2", "memorised": "true", "height": "32", "width": "48", "train_size": "6"}
    save_weights(RoomsNet(), tmp_path / "w.safetensors", metadata)
    victim = load_victim("nyuv2", root=tmp_path, checkpoint=tmp_path / "w.safetensors")
    assert isinstance(victim.model, RoomsNet) and victim.data("test", 1)[0].shape == (1, 3, 32, 48)


def test_mtan_itself_from_its_checkpoint(tmp_path: Path) -> None:
    """At 64x64, one step; and the other data set's checkpoint is refused."""
    pytest.importorskip("torchvision")
    paper, path = PAPER_DATA["nyuv2"], tmp_path / "mtan.safetensors"
    make_nyuv2(tmp_path, size=(64, 64))
    make_cityscapes(tmp_path / "streets")
    torch.manual_seed(0)
    try:
        save_weights(MTAN(paper.heads), path, {"model": "mtan"})
        victim = load_victim("nyuv2", root=tmp_path, checkpoint=path)
        with pytest.raises(ValueError, match="expected heads of .*Cityscapes.*Found 13, 1, 3.* as for NYUv2"):
            load_victim("cityscapes", root=tmp_path / "streets", checkpoint=path)
    finally:
        path.unlink(missing_ok=True)  # 370 MB
    assert isinstance(victim.model, MTAN) and victim.metadata["model"] == "mtan"
    settings = {"limit": 1, "steps": 1, "batch_size": 1, "device": "cpu", "progress": False}
    results = reproduce("I", victim, ["minmax-official"], protocol="auto-lambda", **settings)
    sizes = [attack.perturbation / eps for attack, eps in zip(results.attacks, paper.eps["l2"], strict=True)]
    assert len(sizes) == 2 and all(0.5 < size < 1.0001 for size in sizes)
