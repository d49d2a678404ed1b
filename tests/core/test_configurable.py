# No postponed annotations: the options of a class are read from them.
"""Options as attributes, on a host of three options: what is checked when, what is said, what is shown."""

import inspect
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from typing_extensions import TypedDict, Unpack

from art_mtl.core import checks
from art_mtl.core.configurable import Configurable, arguments
from art_mtl.core.options import Option, table


class Sizes(TypedDict, total=False):
    size: Annotated[int, Option(3, checks.integer(1), "How large it is.")]


class Noises(TypedDict, total=False):
    noise: Annotated[Any, Option(None, checks.nothing, "What is added.")]


class Colours(TypedDict, total=False):
    colour: Annotated[str, Option("red", checks.one_of("red", "green"), "What it looks like.")]


class Everything(Sizes, Noises, Colours, total=False):
    pass


class _Host(Configurable):
    option_table = table(Everything)
    host_arguments = {"model": "What is attacked."}
    other_names = {"width": "`size`"}
    _always_shown = ("size",)

    def __init__(self, model, **options):
        self.model = model
        self._configure(**options)

    def _check_params(self):
        if self.size > 9 and self.colour == "red":
            raise ValueError("Red is for sizes up to 9.")


class Plain(_Host):
    """Takes everything."""

    def __init__(self, model, **options: Unpack[Everything]):
        super().__init__(model, **options)


class Large(_Host):
    """Settles the colour.

    Args:
        size: Its own words.

    Examples:
        >>> 1
        1
    """

    decided = {"colour": "green"}

    def __init__(self, model, *, size: int = 20, **options: Unpack[Noises]):
        super().__init__(**arguments(locals()))


class Heir(Large):
    """Inherits what is settled."""


class Elsewhere(_Host):
    __module__ = "another.host.attacks"

    def __init__(self, model, **options: Unpack[Colours]):
        super().__init__(model, **options)


@pytest.fixture
def plain():
    return Plain("net")


def values(attack):
    return {name: getattr(attack, name) for name in type(attack).option_table}


# --- taken ---


def test_what_is_set_later_is_what_was_given(plain):
    plain.colour = "green"
    plain.set_params(size=12)
    given = Plain("net", size=12, colour="green")
    assert values(plain) == values(given) == {"size": 12, "noise": None, "colour": "green"}
    assert repr(plain) == repr(given) == "Plain(size=12, colour='green')"


def test_a_class_has_the_options_of_its_signature_with_its_own_defaults():
    assert list(Plain.options) == ["size", "noise", "colour"] and list(Large.options) == ["size", "noise"]
    assert Plain.options["size"].default == 3 and Large.options["size"].default == 20
    assert values(Large("net")) == {"size": 20, "noise": None, "colour": "green"}


def test_what_a_class_decides_its_heirs_decide_too():
    assert values(Heir("net")) == values(Large("net")) and list(Heir.options) == ["size", "noise"]


def test_the_signature_names_every_option():
    parameters = inspect.signature(Large).parameters
    assert list(parameters) == ["model", "size", "noise"]
    assert parameters["noise"].kind is inspect.Parameter.KEYWORD_ONLY and parameters["noise"].default is None
    assert inspect.signature(Plain).parameters["colour"].default == "red"


def test_the_arguments_are_documented_in_the_order_of_the_sections():
    for known in (Plain, Large, Heir):
        parts = [part.split("\n")[0].strip() for part in known.__doc__.split("\n\n")]
        assert parts[1:] == ["Args:", "Raises:", *(["Examples:"] if known is Large else [])]
        assert known.__doc__.count("\n        model: What is attacked.") == 1
    for words in ("size (int): How large it is.", "noise (Any): What is added.", "colour (str): What it looks like."):
        assert f"\n        {words}" in Plain.__doc__
    assert "Its own words." in Large.__doc__ and "How large it is." not in Large.__doc__
    assert "What is added." in Large.__doc__ and "colour" not in Large.__doc__.split("Args:")[1]


# --- refused ---


@pytest.mark.parametrize(("name", "value"), [("size", 0), ("size", 1.5), ("size", True), ("colour", "blue")])
def test_a_value_that_will_not_do_is_refused_at_every_door(plain, name, value):
    before = values(plain)
    said = set()
    for attempt in (
        lambda: Plain("net", **{name: value}),
        lambda: setattr(plain, name, value),
        lambda: plain.set_params(**{name: value}),
    ):
        with pytest.raises((TypeError, ValueError), match=f"`{name}` should be.*Found {value!r}") as caught:
            attempt()
        said.add((caught.type, str(caught.value)))
    assert len(said) == 1 and values(plain) == before


def test_what_a_class_decides_itself_is_refused_with_those_that_take_it():
    """Not with those of another host."""
    large = Large("net")
    for error, attempt in (
        (TypeError, lambda: Large("net", colour="red")),
        (AttributeError, lambda: setattr(large, "colour", "red")),
        (ValueError, lambda: large.set_params(colour="red")),
    ):
        with pytest.raises(error, match="^Large decides `colour` or has no use for it. Those that take it: Plain.$"):
            attempt()
    assert large.colour == "green"


@pytest.mark.parametrize(
    ("name", "hint"), [("sise", " Perhaps size\\?"), ("width", " Perhaps `size`\\?"), ("wholly_other", "")]
)
def test_unknown_names_get_a_hint(plain, name, hint):
    said = rf"^Plain has no option `{name}`.{hint} Its options are \['size', 'noise', 'colour'\].$"
    with pytest.raises(TypeError, match=said):
        Plain("net", **{name: 1})
    with pytest.raises(ValueError, match=said):
        plain.set_params(**{name: 1})


@pytest.mark.parametrize(
    "options",
    [
        {"colour": "red", "size": 0},
        {"size": 4, "colour": "blue"},
        {"size": 4, "nose": 1},
        {"noise": 1, "size": 12, "colour": "red"},
        {"noise": 1, "size": "4"},
    ],
)
def test_set_params_sets_all_or_nothing(options):
    attack = Plain("net", size=5, colour="green")
    before = values(attack)
    with pytest.raises((TypeError, ValueError)):
        attack.set_params(**options)
    assert values(attack) == before


def test_options_are_held_against_each_other_together(plain):
    with pytest.raises(ValueError, match="Red is for sizes"):
        Plain("net", size=12)
    with pytest.raises(ValueError, match="Red is for sizes"):
        plain.set_params(size=12)
    plain.set_params(size=12, colour="green")
    plain.colour = "red"  # One assignment may be the first of two.
    assert plain.colour == "red"


# --- shown ---


@pytest.mark.parametrize(
    ("noise", "shown"),
    [
        (np.zeros((2, 3)), "ndarray of shape (2, 3)"),
        (torch.zeros(2, 1), "tensor of shape (2, 1)"),
        (len, "len"),
        (test_unknown_names_get_a_hint, "test_unknown_names_get_a_hint"),
        (object(), "object"),
        ([1 / 3, object()], "[0.333333, object]"),
        ("words", "'words'"),
    ],
)
def test_repr_is_short_and_has_no_addresses(noise, shown):
    assert repr(Plain("net", noise=noise)) == f"Plain(size=3, noise={shown})"


def test_repr_shows_what_differs_and_what_is_always_shown(plain):
    assert repr(plain) == "Plain(size=3)" and repr(Large("net")) == "Large(size=20)"
