"""``python -m art_mtl`` is the command ``art-mtl``."""

from __future__ import annotations

import sys

from art_mtl.cli import main

if __name__ == "__main__":
    sys.exit(main())
