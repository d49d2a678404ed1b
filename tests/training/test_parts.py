"""The parts of training: recipe, order of the images, losses, metrics, logs."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.nn import functional

from art_mtl import tasks
from art_mtl.training import Cosine, Recipe, Step, mean_log_quality
from art_mtl.training.logs import Log
from art_mtl.training.measure import Tally
from art_mtl.training.objective import batch_mean_losses, valid_counts
from art_mtl.training.samples import Augmentation, Order, Samples, batches, stream


def test_the_rate_falls_as_torch_s_own_cosine() -> None:
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=200)
    ours = Cosine(peak=0.1, epochs=200)
    for epoch in range(200):
        assert ours(epoch) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
        optimiser.step()
        theirs.step()


def test_the_paper_s_recipe_is_the_default() -> None:
    recipe = Recipe()
    assert (recipe.epochs, recipe.batch_size, recipe.rate, recipe.momentum, recipe.decay) == (200, 4, 0.1, 0.9, 1e-4)
    assert recipe.augment and recipe.precision == "fp32" and recipe.limit is None
    settings = Recipe(crop=(24, 32)).as_settings()
    assert settings == json.loads(json.dumps(settings)) and settings["crop"] == [24, 32]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "`epochs`.*at least 1. Found 0"),
        ({"batch_size": 1.5}, "`batch_size`.*Found 1.5"),
        ({"seed": -1}, "`seed`.*Found -1"),
        ({"limit": 0}, "`limit`.*Found 0"),
        ({"validate_every": 0}, "`validate_every`.*Found 0"),
        ({"rate": 0.0}, "`rate` should be above 0 and finite. Found 0.0"),
        ({"rate": float("nan")}, "`rate`.*Found nan"),
        ({"momentum": 1.0}, "`momentum` should be at least 0 and below 1. Found 1.0"),
        ({"decay": -0.1}, "`decay`.*Found -0.1"),
        ({"crop": (0, 4)}, "`crop`.*Found"),
        ({"crop": (8, 8), "augment": False}, "`crop` is for augmented images"),
        ({"precision": "int8"}, "`precision` should be one of fp32, bf16, fp16. Found 'int8'"),
    ],
)
def test_wrong_recipes_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(**settings)


def epoch_of(epoch: int, **given: Any) -> list[list[tuple[int, int]]]:
    order = Order(**{"count": 23, "batch_size": 4, "seed": 0, **given})
    order.epoch = epoch
    return list(order)


def test_an_epoch_shows_each_image_once_in_an_order_of_its_own() -> None:
    first = epoch_of(0)
    seen = [index for batch in first for _, index in batch]
    assert [len(batch) for batch in first] == [4] * 5 and len(set(seen)) == 20 and set(seen) <= set(range(23))
    assert first == epoch_of(0) != epoch_of(0, seed=1)
    indices = [[[index for _, index in batch] for batch in epoch_of(epoch)] for epoch in range(3)]
    assert indices[0] != indices[1] != indices[2]
    left_out = {frozenset(set(range(23)) - {i for batch in epoch for i in batch}) for epoch in indices}
    assert len(left_out) > 1, "those left out change from epoch to epoch"


@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_processes_share_the_batches_of_one(size: int) -> None:
    whole = epoch_of(5)
    shares = [epoch_of(5, rank=rank, size=size) for rank in range(size)]
    for number, batch in enumerate(whole):
        parts = [share[number] for share in shares]
        assert sorted(key for part in parts for key in part) == sorted(batch)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1 and all(parts)


def test_an_epoch_goes_on_where_it_stopped() -> None:
    for start in range(6):
        order = Order(count=23, batch_size=4, seed=0)
        order.start = start
        assert list(order) == epoch_of(0)[start:]


def test_streams_of_random_numbers_do_not_meet() -> None:
    places = [(use, seed, a, b) for use in ("order", "augmentation", "network") for seed in (0, 1)
              for a in range(5) for b in range(5)]  # fmt: skip
    assert len({stream(*place) for place in places}) == len(places)
    assert all(0 <= stream(*place) < 2**63 for place in places)


def test_augmentation_depends_on_seed_epoch_and_image_alone(tiny: ModuleType, photographs: Path) -> None:
    dataset = tiny.DATA.open(photographs, "train")

    def image(seed: int, key: tuple[int, int]) -> torch.Tensor:
        samples = Samples(dataset, Augmentation((1.0, 1.2, 1.5), (24, 32), seed))
        found: torch.Tensor = samples[key][0]  # type: ignore[index]
        return found

    for key in ((0, 0), (3, 2)):
        torch.manual_seed(key[0])
        assert image(0, key).shape == (3, 24, 32) and torch.equal(image(0, key), image(0, key))
    assert not torch.equal(image(0, (0, 0)), image(0, (1, 0)))
    assert not torch.equal(image(0, (0, 0)), image(1, (0, 0)))


def test_validation_sees_every_image_once_and_whole(tiny: ModuleType, photographs: Path) -> None:
    dataset = tiny.DATA.open(photographs, "val")
    found = [images for images, _ in batches(Samples(dataset), Order(7, 3, None), workers=0, pin=False)]
    assert [len(images) for images in found] == [3, 3, 1]
    assert torch.equal(torch.cat(found), torch.from_numpy(dataset.arrays()[0]))


def make_batch() -> tuple[list[tasks.Task], dict[str, torch.Tensor], list[tasks.Target]]:
    """Four images, one without any label, the others with different numbers of valid pixels."""
    g = torch.Generator().manual_seed(0)
    kinds = [tasks.segmentation("seg", 5), tasks.disparity("disparity"), tasks.surface_normals("normals")]
    outputs = {name: torch.randn(4, width, 6, 8, generator=g) for name, width in
               (("seg", 5), ("disparity", 1), ("normals", 3))}  # fmt: skip
    seg = torch.randint(-1, 5, (4, 6, 8), generator=g)
    disparity = torch.where(torch.rand(4, 1, 6, 8, generator=g) < 0.3, -1.0, torch.rand(4, 1, 6, 8, generator=g))
    normals = functional.normalize(torch.randn(4, 3, 6, 8, generator=g), dim=1)
    normals = normals * (torch.rand(4, 1, 6, 8, generator=g) < 0.6)
    seg[2], disparity[2], normals[2], disparity[0, :, :4] = -1, -1, 0, -1
    labels = [seg, disparity, normals]
    return kinds, outputs, [task.targets(y) for task, y in zip(kinds, labels, strict=True)]


def test_losses_are_means_over_the_valid_pixels_of_the_batch() -> None:
    kinds, outputs, targets = make_batch()
    seg, disparity, normals = (target.value for target in targets)
    masks = [target.valid for target in targets]
    classes = torch.where(masks[0], seg, -1)
    expected = [
        functional.cross_entropy(outputs["seg"], classes, ignore_index=-1),
        functional.l1_loss(outputs["disparity"][:, 0][masks[1]], disparity[:, 0][masks[1]]),
        (outputs["normals"] - normals).abs().sum(1)[masks[2]].mean(),
    ]
    found = batch_mean_losses(kinds, outputs, targets)
    torch.testing.assert_close(found, torch.stack(expected))
    per_sample = torch.stack([t.loss(outputs[t.name], y).mean() for t, y in zip(kinds, targets, strict=True)])
    assert not torch.allclose(found, per_sample, rtol=0.01), "a mean over images is something else"


def test_losses_of_the_shares_add_up_to_those_of_the_batch() -> None:
    kinds, outputs, targets = make_batch()
    counts = valid_counts(targets)
    total = torch.zeros(3)
    for part in (slice(0, 1), slice(1, 4)):
        share = {name: output[part] for name, output in outputs.items()}
        total += batch_mean_losses(kinds, share, [target[part] for target in targets], counts)
    torch.testing.assert_close(total, batch_mean_losses(kinds, outputs, targets))


def test_a_batch_without_labels_costs_nothing_and_has_a_gradient() -> None:
    task = tasks.depth("depth")
    output = torch.ones(2, 1, 3, 3, requires_grad=True)
    loss = batch_mean_losses([task], {"depth": output}, [task.targets(torch.zeros(2, 1, 3, 3))])
    torch.autograd.backward(loss.sum())
    assert loss.tolist() == [0.0] and output.grad is not None and not output.grad.any()


def test_measuring_nothing_is_an_error() -> None:
    task = tasks.depth("depth")
    tally = Tally([task])
    tally.add({"depth": torch.ones(1, 1, 2, 2)}, [task.targets(torch.zeros(1, 1, 2, 2))])
    with pytest.raises(ValueError, match="Task 'depth' should have a valid label"):
        tally.metrics()
    tally.add({"depth": torch.ones(1, 1, 2, 2)}, [task.targets(torch.full((1, 1, 2, 2), 3.0))])
    assert tally.metrics() == {"depth": 2.0}


def test_the_figure_for_all_tasks_has_no_unit() -> None:
    kinds = [tasks.segmentation("seg", 3), tasks.depth("depth")]
    a, b = {"seg": 0.5, "depth": 2.0}, {"seg": 0.4, "depth": 1.0}
    gain = mean_log_quality(kinds, b) - mean_log_quality(kinds, a)
    assert gain > 0, "a halved error weighs more than a fifth of the mIoU"
    scaled = [{**metrics, "depth": 100 * metrics["depth"]} for metrics in (a, b)]
    assert mean_log_quality(kinds, scaled[1]) - mean_log_quality(kinds, scaled[0]) == pytest.approx(gain)
    assert mean_log_quality(kinds, {"seg": 0.0, "depth": 1.0}) < mean_log_quality(kinds, {"seg": 0.01, "depth": 1.0})


def events(folder: Path) -> Iterator[Any]:
    """The events of all log files, oldest first: each record is a length, a checksum, the event, a checksum."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        content, place = path.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            yield Event.FromString(content[place + 12 : place + 12 + length])
            place += 12 + length + 4


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows: a restart at a step hides everything logged of that step and later ones before it."""
    shown: dict[str, list[tuple[int, float]]] = {}
    for event in events(folder):
        if event.HasField("session_log") and event.session_log.status == event.session_log.START:
            shown = {tag: [point for point in curve if point[0] < event.step] for tag, curve in shown.items()}
        for value in event.summary.value:
            shown.setdefault(value.tag, []).append((event.step, value.simple_value))
    return shown


def test_logs_show_each_step_once_however_often_a_run_is_resumed(
    tiny: ModuleType, photographs: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboardX")
    settings = {"recipe": {"epochs": 3, "batch_size": 2}, "checkpoint_minutes": float("inf"), "tensorboard": True}
    tiny.run(photographs, tmp_path / "whole", **settings)
    for last in (2, 5, 6, 8):

        def stop(step: Step, last: int = last) -> None:
            if step.step == last:
                raise InterruptedError

        with pytest.raises(InterruptedError):
            tiny.run(photographs, tmp_path / "run", progress=stop, **settings)
    tiny.run(photographs, tmp_path / "run", **settings)
    found = curves(tmp_path / "run" / "logs")
    assert found == curves(tmp_path / "whole" / "logs")
    assert [step for step, _ in found["loss/depth"]] == list(range(1, 10))
    assert [step for step, _ in found["val/segmentation_mIoU"]] == [3, 6, 9]
    assert [rate for _, rate in found["schedule/rate"]] == pytest.approx([0.02, 0.015, 0.005])
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    losses = [loss for _, loss in found["loss/depth"]]
    for epoch, entry in enumerate(history):
        assert entry["losses"]["depth"] == pytest.approx(sum(losses[3 * epoch : 3 * epoch + 3]) / 3)
    assert found["val/depth_aErr"][-1][1] == pytest.approx(100 * history[-1]["metrics"]["depth"])


def test_logs_without_their_package_are_refused_before_any_work(
    tiny: ModuleType, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"pip install '\.\[tensorboard\]'.*--no-tensorboard"):
        tiny.run(photographs, tmp_path / "run", recipe={}, tensorboard=True)
    assert not (tmp_path / "run").exists()


def test_a_log_of_no_folder_writes_nothing(tmp_path: Path) -> None:
    log = Log(None)
    with log.opened(3):
        log.add("loss", {"depth": 1.0}, 1)
        log.flush()
    assert not list(tmp_path.iterdir())
