"""From official downloads, or from nothing, to the folders that the data sets of this package read.

What is common to all of them (processes, resuming, checksums) is in :mod:`art_mtl.data.prepare.jobs`.
"""

from __future__ import annotations

from art_mtl.data.prepare.cityscapes import prepare_cityscapes
from art_mtl.data.prepare.jobs import Prepared
from art_mtl.data.prepare.manifest import Manifest, read_manifest
from art_mtl.data.prepare.normals import NYUV2_CAMERA, Pinhole, normals_from_depth
from art_mtl.data.prepare.nyuv2 import prepare_nyuv2
from art_mtl.data.prepare.render import render_rooms

__all__ = [
    "NYUV2_CAMERA",
    "Manifest",
    "Pinhole",
    "Prepared",
    "normals_from_depth",
    "prepare_cityscapes",
    "prepare_nyuv2",
    "read_manifest",
    "render_rooms",
]
