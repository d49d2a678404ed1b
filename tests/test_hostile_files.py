"""Weights and data from a stranger: one line that names the file, and nothing is waited for, run or allocated."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from art_mtl.data._files import read_array, read_picture
from art_mtl.models import load_weights, read_state_dict

needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")


def promise(path: Path, shape: str, kind: str = "<f4") -> Path:
    """A ``.npy`` file of 16 bytes whose header says that it has another shape."""
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(16))
    return path


def picture(path: Path, width: int, height: int) -> Path:
    """A PNG of a few bytes whose header says that it has so many pixels."""

    def block(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = block(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + block(b"IDAT", zlib.compress(bytes(100))) + block(b"IEND", b""))
    return path


@pytest.mark.parametrize(
    "shape", ["(1000000, 1000000, 1000000)", "(5,)", "(99999999999999999999999999,)", "(-4,)", "('a',)", "(2, 3"]
)
def test_an_array_that_promises_too_much_is_refused(tmp_path: Path, shape: str) -> None:
    with pytest.raises(ValueError):
        read_array(promise(tmp_path / "x.npy", shape))


def test_an_array_is_read_and_objects_are_not(tmp_path: Path) -> None:
    assert read_array(promise(tmp_path / "x.npy", "(4,)")).tolist() == [0, 0, 0, 0]
    for order in "CF":
        np.save(tmp_path / "y.npy", np.arange(6.0).reshape(2, 3).copy(order))
        np.testing.assert_array_equal(read_array(tmp_path / "y.npy"), np.arange(6.0).reshape(2, 3))
    np.save(tmp_path / "z.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="[Oo]bject arrays"):
        read_array(tmp_path / "z.npy")


@pytest.mark.parametrize("size", [(100_000, 100_000), (12_000, 10_000)])
def test_a_picture_that_promises_too_much_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"a.png: expected a photograph. Found far too many pixels"):
        read_picture(picture(tmp_path / "a.png", *size), "PNG", ("RGB",), "a photograph")


@needs_pipes
def test_nobody_waits_for_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "0.npy"
    os.mkfifo(path)
    for read in (
        read_array,
        read_state_dict,
        lambda path: load_weights(torch.nn.Linear(1, 1), path),
        lambda path: read_picture(path, "PNG", ("RGB",), "a photograph"),
    ):
        with pytest.raises(ValueError, match=r"0.npy: expected .*a pipe"):
            read(path)


def test_weights_that_would_grow_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(tmp_path / "small.pt", "w") as small:
        for name in plain.namelist():
            small.writestr(name, plain.read(name), compress_type=zipfile.ZIP_DEFLATED)
    assert read_state_dict(tmp_path / "plain.pt")["a"].shape == (1000,)
    with pytest.raises(ValueError, match=r"small.pt: expected a whole file of torch.save. Found .*compressed"):
        read_state_dict(tmp_path / "small.pt")
