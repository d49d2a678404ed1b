"""What the README shows runs as it stands, prints what stands there, and leads somewhere."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"[-−]?\d+(?:\.\d+)?")


def block(language: str) -> str:
    """The one block of a language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return str(found)


def words(text: str) -> list[str]:
    """Without numbers and the spaces that line them up."""
    return NUMBER.sub("#", text).split()


def test_it_is_read_in_two_minutes():
    assert len(README.splitlines()) <= 120
    assert README.count("![") == 1, "one picture"


def test_the_ten_lines_print_what_stands_below_them(capsys):
    exec(compile(block("python"), "README.md", "exec"), {})
    printed, shown = capsys.readouterr().out, block("text")
    assert words(printed) == words(shown)
    found, expected = ([float(n.replace("−", "-")) for n in NUMBER.findall(text)] for text in (printed, shown))
    assert found == pytest.approx(expected, abs=4), "figures of 64 samples; another torch moves some by a sample"
    assert max(map(len, shown.splitlines())) <= 80


def test_the_change_from_torchattacks_runs(capsys):
    pytest.importorskip("torchattacks")
    lines = block("diff").splitlines()
    assert {line[:2] for line in lines} <= {"  ", "- ", "+ ", ""}
    for sign in ("-", "+"):
        code = "\n".join(line[2:] for line in lines if line[:1] != sign)
        compile(code, "README.md", "exec")
    names: dict[str, object] = {}
    exec("\n".join(line[2:] for line in lines if line[:1] != "-"), names)
    moved = (names["adv_images"] - names["images"]).abs().max()  # type: ignore[operator]
    assert 0 < moved <= 0.1 + 1e-6


def test_links_are_absolute_and_what_they_name_is_here():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    home = config["metadata"]["url"]
    raw = home.replace("github.com", "raw.githubusercontent.com")
    links = re.findall(r"\]\(([^)]*)\)", README)
    assert len(links) > 10 and all(link.startswith("https://") for link in links)
    own = [link for link in links if "art-mtl" in link]
    assert len(own) > 8
    for link in own:
        path = link.removeprefix(f"{home}/blob/main/").removeprefix(f"{raw}/main/")
        assert not path.startswith("https://"), link
        assert (ROOT / path).is_file(), link
