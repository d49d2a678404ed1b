"""Imports ART: a package that imports ART imports this first.

Where ART has never run it writes a settings file as it is imported. A process that comes while another is at it, as
those of ``torchrun`` do, fails with a NameError (ART 1.20); by then the file is there.
"""

from __future__ import annotations

from importlib import import_module

try:
    import_module("art.config")
except NameError:
    import_module("art.config")
