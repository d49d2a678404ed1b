"""The loop and the engine never ask what type their parts have: a part answers for itself."""

from __future__ import annotations

import ast
import inspect

import pytest

from art_mtl.core import engine, loop

TYPES = ("isinstance", "issubclass", "type")


def questions(source):
    """Lines that ask for a type or compare with a word."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in TYPES:
            yield node.lineno, node.func.id
        compared = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        compared += [node.pattern] if isinstance(node, ast.match_case) else []
        for part in compared:
            words = [inner.value for inner in ast.walk(part) if isinstance(inner, ast.Constant)]
            yield from ((node.lineno, word) for word in words if isinstance(word, str))


@pytest.mark.parametrize("module", [loop, engine], ids=["loop", "engine"])
def test_neither_asks(module):
    assert list(questions(inspect.getsource(module))) == []


def test_the_loop_compares_with_no_named_word_either():
    words = {name for name, value in vars(loop).items() if isinstance(value, str) and not name.startswith("__")}
    assert not words & {node.id for node in ast.walk(ast.parse(inspect.getsource(loop))) if isinstance(node, ast.Name)}


@pytest.mark.parametrize(
    "line",
    [
        "isinstance(method, MinMax)",
        "type(method) is MinMax",
        "method.scope == 'sample'",
        "'sample' != method.scope",
        "method.scope in ('sample', 'batch')",
    ],
)
def test_a_question_would_be_found(line):
    assert len(list(questions(f"x = {line}"))) >= 1
    assert not list(questions("x = method.scope if 1 < len(y) else names['scope']"))
