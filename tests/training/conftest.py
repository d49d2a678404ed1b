"""The tiny network and data set, and one thread: those of test workers that share a core only wait for each other."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

TINY = Path(__file__).with_name("tiny.py")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """The module ``tiny.py``."""
    spec = importlib.util.spec_from_file_location("tiny_training", TINY)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny_training"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def photographs(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven images a split; not to be changed."""
    root = tmp_path_factory.mktemp("photographs")
    tiny.make_photographs(root, count=7)
    return root
