"""Call a function of a Python file of the user's."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["call"]


def call(name: str) -> Any:
    """What a user's function returns.

    Args:
        name: ``"PATH.py:function"``. The file is run as Python runs a script, so that it can import its neighbours; the
            function is called without arguments.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If there is no such function in it.
    """
    path_text, _, function_name = name.rpartition(":")
    path = Path(path_text)
    if not path.is_file():
        raise FileNotFoundError(f"Expected a Python file at {path} (from {name!r}). Found no such file.")
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        module = _import(path)
        function = getattr(module, function_name, None)
        if not callable(function):
            known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            raise ValueError(f"Expected a function {function_name!r} in {path}. Found {', '.join(known) or 'none'}.")
        return function()
    finally:
        sys.path.remove(folder)


def _import(path: Path) -> ModuleType:
    module_name = f"art_mtl_victim_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"Expected a Python file that can be imported. Found {path}.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up while it is being imported
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module
