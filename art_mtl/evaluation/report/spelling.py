"""Text for streams that cannot show every character: the only place that says which words stand for a symbol.

The command gives standard output and standard error the error handler :data:`HANDLER`, so that printing cannot fail.
What is aligned in columns is spelled with :func:`spelled` before, for words are longer than symbols.
"""

from __future__ import annotations

import codecs
import sys
import unicodedata

HANDLER = "art_mtl.words"
"""Name of the error handler, for ``errors=`` of a stream."""
_WORDS = {
    "Δ": "Delta", "ε": "eps", "∞": "inf", "α": "alpha", "γ": "gamma", "δ": "delta", "∩": "and",
    "↑": "up", "↓": "down", "→": "->", "≥": ">=", "≤": "<=", "±": "+-", "×": "x", "·": "*", "°": " deg", "²": "^2",
    "−": "-", "–": "-", "—": "-", "…": "...", "•": "*", "†": "+", "ß": "ss", "æ": "ae", "ø": "o", "\xa0": " ",
    "‘": "'", "’": "'", "“": '"', "”": '"', "─": "-", "━": "-", "╸": "-", "╺": "-", "│": "|", "█": "#",
    **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╰╯", "+"),
}  # fmt: skip

__all__ = ["HANDLER", "decimals", "output_encoding", "spelled"]


def decimals(value: float, digits: int = 2, sign: str = "") -> str:
    """A number with so many digits behind the point; what rounds to 0 is 0, and not -0.

    Args:
        value: The number.
        digits: Behind the point.
        sign: "+" for a sign before numbers from 0 on too.

    Examples:
        >>> decimals(-0.0049), decimals(-0.5, 1, "+"), decimals(0.5, 1, "+")
        ('0.00', '-0.5', '+0.5')
    """
    return f"{round(value, digits) + 0.0:{sign}.{digits}f}"


def spelled(text: str, encoding: str) -> str:
    """The text, with words in place of what an encoding cannot show.

    Args:
        text: Any.
        encoding: Name of the encoding, such as "utf-8", "cp1252" or "ascii".

    Examples:
        >>> spelled("L∞, ε = 4/255: Δ_Wor ↑ −5 × größer", "ascii")
        'Linf, eps = 4/255: Delta_Wor up -5 x grosser'
        >>> spelled("Δ − 3 × größer", "cp1252")
        'Delta - 3 × größer'
    """
    return text.encode(encoding, HANDLER).decode(encoding)


def output_encoding() -> str:
    """The encoding of standard output; UTF-8 where it has none, and where it is not known."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        return "utf-8"


def _in_words(error: UnicodeError) -> tuple[str, int]:
    """The error handler: a word, else the letter without its accents, else its number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_word, error.object[error.start : error.end])), error.end


def _word(letter: str) -> str:
    if letter in _WORDS:
        return _WORDS[letter]
    plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode("ascii")
    return plain or letter.encode("ascii", "backslashreplace").decode("ascii")


codecs.register_error(HANDLER, _in_words)
