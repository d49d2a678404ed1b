"""Call a function of a Python file of the user's."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from art_mtl.files import regular_file

__all__ = ["call"]


def call(name: str) -> Any:
    """What a user's function returns.

    Args:
        name: ``"PATH.py:function"``. The file is run as Python runs a script, so that it can import its neighbours; the
            function is called without arguments.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If there is something else than a file.
        ImportError: If the file cannot be imported; the message names the file and the line.
        ValueError: If there is no such function in it, or the function fails; likewise.
    """
    path_text, _, function_name = name.rpartition(":")
    path = regular_file(path_text, "a Python file")
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        module = _import(path)
        function = getattr(module, function_name, None)
        if not callable(function):
            known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            raise ValueError(f"Expected a function {function_name!r} in {path}. Found {', '.join(known) or 'none'}.")
        try:
            return function()
        except Exception as error:
            where = _where(path, error)
            raise ValueError(f"{where}: expected {function_name}() to return. Found {_what(error)}.") from error
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
    except BaseException as error:
        del sys.modules[module_name]
        if not isinstance(error, Exception):
            raise
        raise ImportError(
            f"{_where(path, error)}: expected code that can be imported. Found {_what(error)}."
        ) from error
    return module


def _where(path: Path, error: Exception) -> str:
    """File and line of a fault: the innermost line of the user's own folder."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    folder = path.resolve().parent
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).resolve().is_relative_to(folder)]
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else str(path)


def _what(error: Exception) -> str:
    """An error on one line."""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return " ".join(f"{type(error).__name__}: {text}".split()).removesuffix(".")
