"""Cityscapes in the layout of multi-task work, from the official downloads."""

from __future__ import annotations

import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from art_mtl.data._files import check_size, nearest, pillow, some
from art_mtl.data.cityscapes import LAYOUT, check_shape, read_disparity, read_ids, read_image, read_uids
from art_mtl.data.prepare.jobs import Job, Plan, Prepared, Progress, run, text_job

__all__ = ["prepare_cityscapes"]

_METHOD = 1  # to be raised whenever the files come out differently
_SPLITS = ("train", "val")
_CLEAR = "leftImg8bit"
# The folder of a variant is its name without the parameters of the weather.
_VARIANT = re.compile(r"(leftImg8bit(?:_[A-Za-z0-9]+?)?)(?:_(?:alpha|beta)_[\w.]+)?")
_NAME = re.compile(r"[^.].*_\d+_\d+_(leftImg8bit.*)\.png")
_PACKAGES = {
    "leftImg8bit": "leftImg8bit_trainvaltest.zip",
    "leftImg8bit_foggy": "leftImg8bit_trainvaltest_foggy.zip",
    "leftImg8bit_foggyDBF": "leftImg8bit_trainval_foggyDBF.zip",
    "leftImg8bit_rain": "leftImg8bit_trainval_rain.zip",
    "leftImg8bit_blurred": "leftImg8bit_blurred.zip",
}


@dataclass(frozen=True)
class _Modality:
    """One of the four official packages.

    Attributes:
        folder: its folder, which holds ``{split}/{city}``.
        suffix: what follows the stem, ``{city}_{sequence}_{frame}``, in the name of a file.
        package: that holds it.
    """

    folder: str
    suffix: str
    package: str


@dataclass(frozen=True)
class _Frame:
    """A sample to be made.

    Attributes:
        split: "train" or "val".
        number: within the split.
        name: ``{city}_{sequence}_{frame}``.
        files: its official files, in the order of :data:`LAYOUT`.
    """

    split: str
    number: int
    name: str
    files: tuple[Path, ...]

    def job(self, size: tuple[int, int]) -> Job:
        """The making of its four files."""
        names = tuple(f"{self.split}/{folder}/{self.number}{suffix}" for folder, suffix in LAYOUT.items())
        return Job(names, partial(_make, self.files, size))


def prepare_cityscapes(
    source: str | Path,
    target: str | Path,
    *,
    size: tuple[int, int] = (256, 512),
    images: str = _CLEAR,
    partly: bool = False,
    processes: int | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Make the layout that :class:`art_mtl.data.Cityscapes` reads from the official downloads, unpacked.

    Images are resized by antialiased bilinear interpolation; labelIds, panoptic-parts uids and disparities by taking
    the nearest pixel. Disparities keep their values, which count pixels of the official, 2048 wide picture (256 to
    the pixel): it is the data set that divides by 4. Files belong together by their names alone. Samples are numbered
    by the sorted names; ``samples.csv`` lists which is which. A run that was killed, or stopped by a faulty file, goes
    on where it stopped.

    Args:
        source: folder with ``leftImg8bit``, ``gtFine``, ``disparity`` and ``gtFinePanopticParts``, or with folders that
            hold these (``leftImg8bit_trainvaltest/leftImg8bit``, ...).
        target: folder to make.
        size: (height, width) of what is made.
        images: which pictures: what stands between the name of the frame and ``.png``. ``leftImg8bit`` are those of
            the paper, ``leftImg8bit_foggy_beta_0.02`` (0.005, 0.01) the foggy ones of Sakaridis et al. (2018),
            ``leftImg8bit_rain_alpha_0.02_beta_0.01_dropsize_0.005_pattern_12`` the like of Hu et al. (2019); their
            folder is ``leftImg8bit_foggy``, ``leftImg8bit_rain``. All share the labels. Of the variants there need not
            be every frame.
        partly: leave out frames of which a file is missing, and splits without any, rather than refuse.
        processes: how many at a time; None takes the number of CPUs this process may use.
        progress: called with the number of samples done and of all, after every one.

    Returns:
        What was made.

    Raises:
        FileNotFoundError: If ``source`` is no folder.
        ImportError: If Pillow is not installed.
        ValueError: If files are missing or faulty, the message naming them and the package they are in; if ``target``
            holds something else; or if a parameter is out of range.
        BlockingIOError: If another run is at work in ``target``.
        OSError: If the disk is full, or a process was killed.
    """
    source = Path(source)
    check_size(size)
    modalities = _modalities(images)
    if not source.is_dir():
        raise FileNotFoundError(f"Expected a folder with the unpacked downloads of Cityscapes at {source}. Found none.")
    pillow()
    found = {split: {name: _stems(source, it, split) for name, it in modalities.items()} for split in _SPLITS}
    frames = [frame for split in _SPLITS for frame in _whole(split, found[split])]
    missing = _missing(found, modalities, variant=images != _CLEAR)
    if missing and not (partly and frames):
        raise ValueError(_report(source, missing, images))
    listing = ["split,sample,frame", *(f"{frame.split},{frame.number},{frame.name}" for frame in frames)]
    plan = Plan(
        data="cityscapes",
        jobs=[text_job("samples.csv", listing), *(frame.job(size) for frame in frames)],
        counts=Counter(frame.split for frame in frames),
        # Not the sizes of the files: a damaged one that was mended is no other source.
        source={"images": images, "frames": hashlib.sha256("\n".join(listing).encode()).hexdigest()},
        settings={"size": list(size), "method": _METHOD},
    )
    return run(plan, target, processes=processes, progress=progress)


def _modalities(images: str) -> dict[str, _Modality]:
    """The packages by the folder of the layout that is made from each."""
    match = _VARIANT.fullmatch(images)
    if match is None:
        raise ValueError(
            f"Parameter `images` should be what stands between the name of the frame and .png in the names of the "
            f"pictures, such as {_CLEAR} or {_CLEAR}_foggy_beta_0.02. Found {images!r}."
        )
    folder = match[1]
    return {
        "image": _Modality(folder, f"_{images}.png", _PACKAGES.get(folder, f"the package of {folder}")),
        "depth": _Modality("disparity", "_disparity.png", "disparity_trainvaltest.zip"),
        "seg": _Modality("gtFine", "_gtFine_labelIds.png", "gtFine_trainvaltest.zip"),
        "part_seg": _Modality("gtFinePanopticParts", "_gtFinePanopticParts.tif", "gtFinePanopticParts_trainval.zip"),
    }


def _stems(source: Path, modality: _Modality, split: str) -> dict[str, Path]:
    """The files of one package, by the name of their frame."""
    stems: dict[str, Path] = {}
    for home in (source / modality.folder, *sorted(source.glob(f"*/{modality.folder}"))):
        for path in sorted((home / split).glob(f"*/*{modality.suffix}")):
            if path.name.startswith("."):  # macOS leaves such beside each file
                continue
            stem = path.name.removesuffix(modality.suffix)
            if re.fullmatch(re.escape(path.parent.name) + r"_\d+_\d+", stem) is None:
                raise ValueError(
                    f"{path}: expected a name such as {path.parent.name}_000000_000019{modality.suffix}, beginning "
                    "with that of its folder, the city. Found another; move the file away."
                )
            if stem in stems:
                raise ValueError(
                    f"Expected one file {path.name} in {source}. Found two, {stems[stem]} and {path}; move one away."
                )
            stems[stem] = path
    return stems


def _whole(split: str, found: Mapping[str, Mapping[str, Path]]) -> list[_Frame]:
    """The frames of which every file is there, numbered in the order of their names."""
    first, *others = found.values()
    names = sorted(set(first).intersection(*others))
    return [_Frame(split, n, name, tuple(found[it][name] for it in LAYOUT)) for n, name in enumerate(names)]


def _missing(
    found: Mapping[str, Mapping[str, Mapping[str, Path]]], modalities: Mapping[str, _Modality], variant: bool
) -> list[str]:
    """What is missing, a phrase for each split and package."""
    phrases = []
    for split in _SPLITS:
        expected = set(found[split]["image"]).union(*([] if variant else found[split].values()))
        for name, modality in modalities.items():
            absent = sorted(expected - set(found[split][name]))
            if absent or not found[split][name]:
                what = f"{len(absent)} of {len(expected)} files" if found[split][name] else "all files"
                examples = some([f"{stem}{modality.suffix}" for stem in absent]) or f"*{modality.suffix}"
                phrases.append(f"{what} of {modality.folder}/{split} ({examples}; they are in {modality.package})")
    return phrases


def _report(source: Path, missing: Iterable[str], images: str) -> str:
    zips = sorted(path.name for path in source.glob("*.zip"))
    packed = f" Not unpacked yet: {some(zips)}." if zips else ""
    here = _others(source, images)
    others = f" Pictures of other names are there: {some(here)} (see --images)." if here else ""
    return (
        f"{source}: expected every frame of train and val in each of the four official packages, unpacked. Found "
        f"missing: {'; '.join(missing)}.{packed}{others} Unpack what is missing into this folder, or leave "
        "frames that are not complete out (--partly)."
    )


def _others(source: Path, images: str) -> list[str]:
    """The variants that lie in the folder of ``images``, if it is not one of them."""
    folder = _modalities(images)["image"].folder
    homes = [home for home in (source / folder, *source.glob(f"*/{folder}")) if home.is_dir()]
    names = {match[1] for home in homes for path in home.glob("*/*/*.png") if (match := _NAME.fullmatch(path.name))}
    return [] if images in names else sorted(names)


def _make(files: tuple[Path, ...], size: tuple[int, int]) -> list[bytes]:
    """The four files of a sample."""
    image, depth, seg, part_seg = files
    pixels = read_image(image)
    labels: dict[Path, NDArray[Any]] = {
        depth: read_disparity(depth),
        seg: read_ids(seg),
        part_seg: read_uids(part_seg),
    }
    for path, array in labels.items():
        check_shape(path, array, pixels.shape[:2])
    picture = pillow().fromarray(pixels).resize((size[1], size[0]), pillow().Resampling.BILINEAR)
    small = [nearest(array, size) for array in labels.values()]
    return [
        _encoded(np.asarray(picture), "PNG"),
        _encoded(small[0], "PNG"),
        _encoded(small[1], "PNG"),
        _encoded(small[2], "TIFF", compression="tiff_adobe_deflate"),
    ]


def _encoded(pixels: NDArray[Any], file_format: str, **settings: str) -> bytes:
    buffer = io.BytesIO()
    pillow().fromarray(pixels).save(buffer, file_format, **settings)
    return buffer.getvalue()
