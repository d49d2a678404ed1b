"""Samples of a run in its database, so that its pages show them without the model."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from art_mtl.evaluation.packing import compressed, decompressed
from art_mtl.evaluation.report.drawn_samples import LARGEST_SIDE, DrawnSample
from art_mtl.evaluation.report.gallery import Attacked, ShowsSamples, attacked_by, both_ends, shown_attack
from art_mtl.evaluation.results import AttackResult, Block, Results
from art_mtl.evaluation.store import RunStore, StoredRun

_LARGEST = 1 << 28
"""Bytes that the samples of an attack may have in memory."""
_DTYPES = ("uint8", "float16")

__all__ = ["StoredGallery", "keep_samples", "pack_samples", "unpack_samples"]


@dataclass(frozen=True)
class StoredGallery(ShowsSamples):
    """What :func:`keep_samples` kept.

    Attributes:
        samples: By attack.
    """

    samples: Mapping[Attacked, tuple[DrawnSample, ...]]

    @classmethod
    def read(cls, folder: str | Path) -> StoredGallery:
        """From the folder of a run.

        Raises:
            FileNotFoundError: There is no run.
            ValueError: It is damaged.
        """
        found: dict[Attacked, tuple[DrawnSample, ...]] = {}
        with StoredRun.opened(folder) as run:
            infos, tasks = run.attacks(), len(run.about()["scales"])
            for number, data in run.gallery().items():
                try:
                    samples = unpack_samples(data)
                    if any(len(sample.deltas) != tasks for sample in samples):
                        raise ValueError(f"they are not of {tasks} tasks")
                except ValueError as error:
                    raise run.damaged_gallery(number, str(error)) from error
                info = infos[number - 1]
                found[info.norm, info.eps, info.name] = samples
        return cls(found)

    def shows(self, block: Block) -> bool:
        return len(self.samples.get(attacked_by(shown_attack(block)), ())) > 0

    def drawn(self, attack: AttackResult) -> tuple[DrawnSample, ...]:
        return self.samples[attacked_by(attack)]


def keep_samples(store: RunStore, gallery: ShowsSamples, results: Results) -> None:
    """Store the samples of a finished run that reports show: of each norm and radius those of the strongest attack."""
    for block in results.blocks():
        if gallery.shows(block):
            attack = shown_attack(block)
            least, most = both_ends(gallery.drawn(attack))
            store.save_gallery(1 + results.attacks.index(attack), pack_samples([*least, *most]))


def pack_samples(samples: Sequence[DrawnSample]) -> bytes:
    """Samples as bytes."""
    return compressed(msgspec.msgpack.encode(tuple(samples), enc_hook=_plain))


def unpack_samples(data: bytes) -> tuple[DrawnSample, ...]:
    """From what :func:`pack_samples` made.

    Raises:
        ValueError: It is damaged, or no such thing.
    """
    plain = decompressed(data, _LARGEST)
    try:
        found = msgspec.msgpack.decode(plain, type=tuple[DrawnSample, ...], dec_hook=_array)
    except (RecursionError, OverflowError) as error:
        raise ValueError(str(error)) from error
    for sample in found:
        _check(sample)
    return found


def _plain(array: Any) -> tuple[str, tuple[int, ...], bytes]:
    return str(array.dtype), array.shape, array.tobytes()


def _array(kind: type, entry: Any) -> np.ndarray:
    """A picture: 8 bits or float16, ``(H, W, C)``."""
    name, shape, content = msgspec.convert(entry, tuple[str, tuple[int, int, int], bytes])
    sides = all(0 < side <= LARGEST_SIDE for side in shape[:2]) and shape[2] in (1, 3)
    if name not in _DTYPES or not sides or math.prod(shape) * np.dtype(name).itemsize != len(content):
        raise ValueError(f"a picture of shape {shape} and {name} in {len(content)} bytes")
    return np.frombuffer(content, name).reshape(shape)


def _check(sample: DrawnSample) -> None:
    """Raise ValueError unless the parts of a sample go together."""
    inputs = [(a.dtype.name, a.shape) for a in (sample.clean, sample.attacked, sample.perturbation)]
    shape = sample.clean.shape
    if inputs != [("uint8", shape), ("uint8", shape), ("float16", shape)]:
        raise ValueError(f"inputs of {inputs}")
    for maps in sample.maps:
        drawn = [(one.pixels.dtype.name, one.pixels.shape[2]) for one in (*maps.pictures, *maps.errors)]
        if len(maps.pictures) not in (0, 3) or len(maps.errors) not in (0, 2) or {*drawn} - {("uint8", 3)}:
            raise ValueError(f"maps of {drawn}")
        if not all(re.fullmatch("#[0-9a-f]{6}", colour) for _, colour in maps.classes):
            raise ValueError(f"classes of the colours {[colour for _, colour in maps.classes]}")
        if maps.limits is not None and not all(map(math.isfinite, maps.limits)):
            raise ValueError(f"a colour scale from {maps.limits[0]} to {maps.limits[1]}")
