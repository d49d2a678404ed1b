"""MultiDigits: what its labels say is on the canvas, and nothing leaks from one split to the other."""

from __future__ import annotations

import numpy as np
import pytest

from art_mtl.data import MultiDigits
from art_mtl.data import digits as module
from art_mtl.data.digits import source_digits

pytest.importorskip("sklearn")


def test_source_digits_are_split_once_and_for_all() -> None:
    (train, train_values), (test, test_values) = source_digits("train"), source_digits("test")
    assert len(train) == 1437 and len(test) == 360
    assert set(train_values) == set(test_values) == set(range(10))
    assert not {digit.tobytes() for digit in train} & {digit.tobytes() for digit in test}


def test_samples_draw_only_from_their_own_split(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    original = module._enlarge

    def spy(digit: np.ndarray, *place: float) -> np.ndarray:
        drawn.append(digit.tobytes())
        return original(digit, *place)

    monkeypatch.setattr(module, "_enlarge", spy)
    MultiDigits("test").arrays(50)
    assert len(drawn) == 100
    assert set(drawn) <= {digit.tobytes() for digit in source_digits("test")[0]}


def test_a_sample_depends_on_seed_split_and_index_alone() -> None:
    forwards = MultiDigits("train", size=5)
    first = [forwards[i] for i in range(5)]
    backwards = MultiDigits("train", size=50)
    for i in reversed(range(5)):
        image, labels = backwards[i]
        assert image.equal(first[i][0])
        assert all(labels[name].equal(first[i][1][name]) for name in labels)
    assert not MultiDigits("train", seed=1)[0][0].equal(first[0][0])
    assert not MultiDigits("test")[0][0].equal(first[0][0])
    assert not first[0][0].equal(first[1][0])


def test_labels_and_images_have_their_shapes_ranges_and_meaning() -> None:
    x, labels = MultiDigits("test").arrays(300)
    left, right, total = (np.asarray(labels[name]) for name in ("left", "right", "sum"))
    assert x.shape == (300, 1, 28, 28) and x.dtype == np.float32
    assert x.min() == 0 and x.max() <= 1
    np.testing.assert_allclose(x * 255, np.round(x * 255), atol=1e-4)
    assert left.shape == right.shape == (300,) and total.shape == (300, 1)
    np.testing.assert_array_equal(total[:, 0], left + right)
    assert set(left) == set(right) == set(range(10))
    assert 0.05 < np.mean(left == right) < 0.2


def test_left_is_left_of_right_and_they_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    places = []
    original = module._enlarge

    def spy(digit: np.ndarray, *place: float) -> np.ndarray:
        ink = original(digit, *place)
        value = next(v for d, v in zip(*source_digits("train"), strict=True) if np.array_equal(d, digit))
        places.append((value, ink))
        return ink

    monkeypatch.setattr(module, "_enlarge", spy)
    dataset = MultiDigits("train")
    overlaps = 0
    columns = np.arange(28)
    for i in range(20):
        _, labels = dataset.sample(i)
        (left, left_ink), (right, right_ink) = places[-2:]
        assert (left, right) == (labels["left"], labels["right"])
        assert (left_ink.sum(0) * columns).sum() / left_ink.sum() < (right_ink.sum(0) * columns).sum() / right_ink.sum()
        overlaps += bool(((left_ink > 0.1) & (right_ink > 0.1)).any())
    assert overlaps >= 15


def test_enlarging_keeps_ink_where_it_belongs() -> None:
    digit = np.zeros((8, 8), np.float32)
    digit[2, 5] = 1
    ink = module._enlarge(digit, x=14.0, y=14.0, scale=2.0, turn=0.0, slant=0.0)
    row, column = np.unravel_index(ink.argmax(), ink.shape)
    # Source pixel (2, 5) has its centre 1.5 above and 1.5 to the right of the middle: 3 pixels once enlarged.
    assert abs(row + 0.5 - 11) <= 0.5 and abs(column + 0.5 - 17) <= 0.5
    assert ink.sum() == pytest.approx(4, rel=0.05)  # area grows by scale squared


def test_arrays_are_the_samples() -> None:
    dataset = MultiDigits("test", size=6)
    x, labels = dataset.arrays(3)
    assert len(x) == len(labels) == 3
    everything, all_labels = dataset.arrays()
    assert len(everything) == 6
    np.testing.assert_array_equal(everything[:3], x)
    for i, (image, label) in enumerate(dataset):
        np.testing.assert_array_equal(everything[i], image.numpy())
        assert all(np.array_equal(all_labels[name][i], label[name].numpy()) for name in label)
    assert dataset.arrays()[0] is everything


def test_wrong_parameters_are_named() -> None:
    with pytest.raises(ValueError, match="`split` should be one of train, test. Found 'val'"):
        MultiDigits("val")
    with pytest.raises(ValueError, match="`size`"):
        MultiDigits(size=0)
    with pytest.raises(ValueError, match="`seed`"):
        MultiDigits(seed=-1)
    with pytest.raises(ValueError, match="`limit`"):
        MultiDigits(size=2).arrays(0)
    with pytest.raises(IndexError, match="Found 2"):
        MultiDigits(size=2)[2]
    assert MultiDigits(size=2)[-1][0].equal(MultiDigits(size=2)[1][0])
