"""Names from anywhere, made harmless for where they are shown: the only place that does so.

Names of tasks, attacks, victims and classes come from users and from files of strangers. They may hold markup, formulas
and control characters. Each function here takes any text and returns one that its target shows as that text.
"""

from __future__ import annotations

import html as _html
import re
import unicodedata

__all__ = ["csv_field", "html", "latex", "markdown", "plain", "plot"]

_UNSHOWN = "\ufffd"
_MARKDOWN = re.compile(
    r"[\\`*|<>&$~]"
    r"|(?<![^\W_])_|_(?![^\W_])"  # an underscore between letters is no markup
    r"|\](?=[(\[:])|\[(?=\^)"  # links, images, definitions, footnotes
    r"|^[#=]|^[+-](?=\W|$)|^\d+(?=[.)](?:\s|$))"  # headings and lists
    r"|(?<=:)/(?=/)|(?<=www)\.|@",  # addresses
    re.IGNORECASE,
)
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "×": r"$\times$",
    "ε": r"$\varepsilon$",
    "∞": r"$\infty$",
    "Δ": r"$\Delta$",
    "–": "--",
    "−": "$-$",
    "†": r"$\dagger$",
}
_FORMULA = "=+-@＝＋－＠"


def plain(text: str) -> str:
    r"""Text on one line without control characters: for terminals, and the base of all that follows.

    White space of any kind becomes one space. Characters that act and do not show (control codes, changes of the
    direction of text, halves of surrogate pairs) become U+FFFD.

    Examples:
        >>> plain("a\n b\x1b[2J")
        'a b�[2J'
    """
    spaced = re.sub(r"\s+", " ", text).strip()
    return "".join(_UNSHOWN if unicodedata.category(letter) in ("Cc", "Cf", "Cs") else letter for letter in spaced)


def markdown(text: str) -> str:
    """As Markdown shows it, in a table or a paragraph.

    Examples:
        >>> print(markdown("a|b *c* Δ_Wor [x](y)"))
        a&#124;b &#42;c&#42; Δ_Wor [x&#93;(y)
    """
    return _MARKDOWN.sub(lambda found: "".join(f"&#{ord(letter)};" for letter in found[0]), plain(text))


def html(text: str) -> str:
    """As HTML shows it, also within quotes.

    Examples:
        >>> html("<b> & 'c'")
        '&lt;b&gt; &amp; &#x27;c&#x27;'
    """
    return _html.escape(plain(text))


def latex(text: str) -> str:
    r"""As LaTeX prints it.

    Examples:
        >>> print(latex("Δ_Wor (%) of a_b"))
        $\Delta_{\mathrm{Wor}}$ (\%) of a\_b
    """
    text = plain(text)
    for name in ("MTL", "Wor"):
        text = text.replace(f"Δ_{name}", f"\0{name}\0")
    escaped = "".join(_LATEX.get(letter, letter) for letter in text)
    for name in ("MTL", "Wor"):
        escaped = escaped.replace(f"\0{name}\0", rf"$\Delta_{{\mathrm{{{name}}}}}$")
    # Behind the end of a row a bracket or a star would be an argument of it.
    escaped = re.sub(r"^[\[*]", lambda found: f"{{{found[0]}}}", escaped)
    return re.sub(r"^-\d+(\.\d+)?", lambda number: f"${number[0]}$", escaped)


def csv_field(text: str) -> str:
    """As a spreadsheet shows it: what begins like a formula gets an apostrophe in front.

    Examples:
        >>> csv_field("=1+1"), csv_field("worst-task")
        ("'=1+1", 'worst-task')
    """
    text = plain(text)
    return f"'{text}" if text.startswith(tuple(_FORMULA)) else text


def plot(text: str) -> str:
    r"""As matplotlib writes it: dollar signs are no mathematics, and a legend shows what begins with an underscore.

    Examples:
        >>> print(plot("a $x$"))
        a \$x\$
    """
    text = plain(text).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
