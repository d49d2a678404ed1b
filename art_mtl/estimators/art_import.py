"""Imports ART: a package that imports ART imports this first.

Where ART has never run it writes a settings file as it is imported. A process that comes while another is at it, as
those of ``torchrun`` do, fails with a NameError where the file appears between two looks (ART 1.20), and goes without
the settings where it is still empty.
"""

from __future__ import annotations

import time
from importlib import import_module, reload

try:
    settings = import_module("art.config")
except NameError:
    settings = import_module("art.config")
if not hasattr(settings, "ART_DATA_PATH"):
    time.sleep(0.1)
    reload(settings)
