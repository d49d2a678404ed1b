"""Curves: degradation against ε, task weights over the steps.

Figures are made without pyplot, so nothing global changes; save one with ``figure.savefig(path)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from art_mtl.core.methods import spec_of
from art_mtl.evaluation.report.escape import plot
from art_mtl.evaluation.report.tables import describe_eps, fraction, norm_symbol
from art_mtl.evaluation.results import AttackResult, Block, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from art_mtl.evaluation.report.figure import Figure

_OTHER_COLOURS = ("#72b7b2", "#ff9da6", "#7f8c8d", "#2f6f6b", "#a0cbe8", "#c49c94")
TASK_COLOURS = ("#3b6fb6", "#e07b39", "#4f9d69", "#a05195", "#8c6d31", "#d45087", "#17becf", "#7f7f7f")
_DASHES = {None: "-", "linear": (0, (5, 2)), "cosine": (0, (1, 1.5))}
_MARKERS = {None: "o", "linear": "s", "cosine": "^"}
_GREY = "#8a8a8a"
_SPREAD = 0.12
"""Share of a radius over which the intervals there are spread."""

__all__ = [
    "TASK_COLOURS",
    "degradation_figure",
    "method_colour",
    "other_methods",
    "series_of",
    "tasks_figure",
    "weighted",
    "weights_figure",
]


def method_colour(method: str, others: Sequence[str] = ()) -> str:
    """The colour of a method, the same in every figure.

    Args:
        method: Name of a method.
        others: Methods without a colour of their own, in a fixed order; they share out the remaining colours.
    """
    own = spec_of(method).colour
    if own is not None:
        return own
    return _OTHER_COLOURS[others.index(method) % len(_OTHER_COLOURS)] if method in others else _GREY


def degradation_figure(results: Results) -> Figure:
    """Δ_Wor and Δ_MTL of every method against ε with their 95 % intervals, a row of panels for each norm; lower curves
    are stronger attacks.

    A norm with a single radius gets bars. Attacks on one task appear as the single-task reference that they make.

    Args:
        results: At least one attack of a stated norm and radius.

    Raises:
        ValueError: There is none.
    """
    blocks = [block for block in results.blocks() if block.norm is not None and block.eps is not None]
    norms = list(dict.fromkeys(block.norm for block in blocks))
    if not norms:
        raise ValueError("A figure of degradations should have attacks with a norm and a radius. Found none.")
    figure = new_figure(10.5, 4.1 * len(norms) + 0.9)
    axes = figure.subplots(len(norms), 2, squeeze=False)
    for row, norm in enumerate(norms):
        own = sorted((block for block in blocks if block.norm == norm), key=lambda block: block.eps or 0.0)
        for ax, figure_name in zip(axes[row], ("delta_wor", "delta_mtl"), strict=True):
            (_draw_bars if len(own) == 1 else _draw_lines)(ax, results, own, figure_name)
    _share_legend(figure, list(axes.flat))
    return figure


def weighted(block: Block) -> list[AttackResult]:
    """The attacks whose task weights move, and that told those of at least one step."""
    return [a for a in block.attacks if a.weights and spec_of(a.method).adapts]


def weights_figure(results: Results, block: Block) -> Figure:
    """Mean weight of each task at every step, one panel for each attack whose weights move.

    Args:
        results: Where the block is from.
        block: Whose attacks.

    Raises:
        ValueError: There is none.
    """
    drawn = weighted(block)
    if not drawn:
        raise ValueError("A figure of weights should have an attack that tells them, and whose move. Found none.")
    figure = new_figure(3.4 * len(drawn) + 1.6, 3.5)
    axes = figure.subplots(1, len(drawn), sharey=True, squeeze=False)[0]
    for ax, attack in zip(axes, drawn, strict=True):
        _draw_weights(ax, results, attack)
    axes[0].set_ylabel("mean weight")
    figure.suptitle(f"Task weights, {describe_eps(block.norm, block.eps, results.clip_values)}", fontsize=11)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=9)
    return figure


def tasks_figure(results: Results, block: Block, names: Sequence[str] | None = None) -> Figure:
    """Degradation of every task under every method: which task is left standing?

    Rows are methods, the strongest Δ_Wor on top; attacks on one task are left out. A dashed line marks Δ_Wor.

    Args:
        results: Where the block is from.
        block: Whose attacks; at least one of them on all tasks.
        names: Rows to show; None for all.

    Raises:
        ValueError: There is none.
    """
    rows = [a for a in block.attacks if not spec_of(a.method).is_reference and a.delta_wor is not None]
    rows = [a for a in rows if names is None or a.name in names]
    if not rows:
        raise ValueError("A figure of tasks should have an attack on all of them. Found none.")
    rows.sort(key=lambda attack: _percent(attack, "delta_wor"), reverse=True)
    figure = new_figure(8.4, 0.5 * len(rows) + 1.5)
    ax = figure.subplots()
    height = 0.8 / len(results.tasks)
    for i, task in enumerate(results.tasks):
        places = [row + 0.4 - (i + 0.5) * height for row in range(len(rows))]
        values = [100 * (attack.deltas[i] or 0.0) for attack in rows]
        bars = ax.barh(
            places, values, height=0.92 * height, color=TASK_COLOURS[i % len(TASK_COLOURS)], label=plot(task.name)
        )
        # No bar is how an unharmed task looks.
        unknown = ["undefined" if attack.deltas[i] is None else "" for attack in rows]
        ax.bar_label(bars, labels=unknown, padding=3, fontsize=6, color="#666666")
    for row, attack in enumerate(rows):
        least = _percent(attack, "delta_wor")
        ax.plot([least, least], [row - 0.44, row + 0.44], color="#222222", linewidth=1.2, linestyle=(0, (3, 1.5)))
    _name_rows(ax, rows, [f"   {_percent(attack, 'delta_wor'):.0f} %" for attack in rows])
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.set_xlabel(
        f"Δ of each task (%), negative is worse; dashed and beside the name: the least degraded, {_symbol('delta_wor')}"
    )
    ax.set_xlim(right=max(0.0, ax.get_xlim()[1]))
    ax.set_title(plot(f"{results.victim}, {describe_eps(block.norm, block.eps, results.clip_values)}"), fontsize=10)
    _tidy(ax)
    ax.grid(axis="y", visible=False)
    figure.legend(loc="outside lower center", ncols=min(6, len(results.tasks)), frameon=False, fontsize=9)
    return figure


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that lays itself out and that notebooks show."""
    from art_mtl.evaluation.report.figure import Figure

    return Figure(width, height)


def _draw_weights(ax: Axes, results: Results, attack: AttackResult) -> None:
    from matplotlib.ticker import MaxNLocator

    weights = attack.weights or ()
    steps = range(1, len(weights) + 1)
    ax.axhline(1 / len(results.tasks), color=_GREY, linewidth=0.8, linestyle=":", zorder=1)
    for i, task in enumerate(results.tasks):
        colour = TASK_COLOURS[i % len(TASK_COLOURS)]
        shares = [math.nan if (weight := row[i]) is None else weight for row in weights]
        ax.plot(steps, shares, color=colour, marker="o", markersize=3.5, linewidth=1.8, label=plot(task.name))
    ax.set_ylim(-0.03, 1.03)
    ax.set_title(plot(attack.name), fontsize=10, color=method_colour(attack.method), fontweight="bold")
    ax.set_xlabel("step")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    _tidy(ax)


def series_of(results: Results, blocks: Sequence[Block]) -> dict[str, list[tuple[float, AttackResult]]]:
    """Row name to (ε, result), in table order; attacks on one task only as the reference that they make."""
    series: dict[str, list[tuple[float, AttackResult]]] = {}
    for block in blocks:
        reference = results.reference(block)
        attacks = [attack for attack in block.attacks if not spec_of(attack.method).is_reference]
        for attack in [*attacks, *([reference] if reference else [])]:
            series.setdefault(attack.name, []).append((block.eps or 0.0, attack))
    return series


def other_methods(results: Results) -> list[str]:
    """Methods without a colour of their own, in a fixed order."""
    return sorted({attack.method for attack in results.attacks if spec_of(attack.method).colour is None})


def _percent(attack: AttackResult, figure_name: str) -> float:
    value = getattr(attack, figure_name)
    return math.nan if value is None else 100 * float(value)


def _reach(attack: AttackResult, figure_name: str) -> tuple[float, float]:
    """How far the 95 % interval of a figure reaches below and above it, in percent; 0 where there is none."""
    value, ends = _percent(attack, figure_name), getattr(attack, f"{figure_name}_interval")
    if ends is None or math.isnan(value):
        return 0.0, 0.0
    return max(value - 100 * ends[0], 0.0), max(100 * ends[1] - value, 0.0)


def _reaches(attacks: Sequence[AttackResult], figure_name: str) -> list[list[float]]:
    """As error bars are drawn: all that they reach below, all that they reach above."""
    return [list(side) for side in zip(*(_reach(attack, figure_name) for attack in attacks), strict=True)]


def _draw_lines(ax: Axes, results: Results, blocks: Sequence[Block], figure_name: str) -> None:
    from matplotlib.ticker import NullLocator

    series = series_of(results, blocks)
    for place, (name, points) in enumerate(series.items()):
        first = points[0][1]
        spec = spec_of(first.method)
        attacks = [attack for _, attack in points]
        # Side by side, lest the intervals of one radius hide each other.
        shift = 1 + _SPREAD * ((place + 0.5) / len(series) - 0.5)
        ax.errorbar(
            [eps * shift for eps, _ in points],
            [_percent(attack, figure_name) for attack in attacks],
            yerr=_reaches(attacks, figure_name),
            fmt="none",
            ecolor=method_colour(first.method, other_methods(results)),
            elinewidth=2 if spec.is_ours else 1,
            alpha=0.55,
            zorder=3 if spec.is_ours else 1,
        )
        ax.plot(
            [eps for eps, _ in points],
            [_percent(attack, figure_name) for attack in attacks],
            label=plot(name),
            color=method_colour(first.method, other_methods(results)),
            linestyle=":" if spec.is_reference else "-" if spec.own_schedule else _DASHES.get(first.schedule, "-"),
            marker="" if spec.is_reference else _MARKERS.get(first.schedule, "o"),
            markersize=7 if spec.is_ours else 4.5,
            linewidth=3 if spec.is_ours else 1.6,
            zorder=4 if spec.is_ours else 3 if spec.is_reference else 2,
        )
    radii = [block.eps or 0.0 for block in blocks]
    ax.set_xscale("log")
    ax.set_xticks(radii, [fraction(eps) for eps in radii])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(_eps_label(blocks[0].norm, results))
    ax.set_ylabel(f"{_symbol(figure_name)} (%)")
    ax.set_title(_title(figure_name), fontsize=10)
    _tidy(ax)


def _draw_bars(ax: Axes, results: Results, blocks: Sequence[Block], figure_name: str) -> None:
    rows = [points[0][1] for points in series_of(results, blocks).values()]
    rows.sort(key=lambda attack: _percent(attack, figure_name), reverse=True)
    values = [_percent(attack, figure_name) for attack in rows]
    colours = [method_colour(attack.method, other_methods(results)) for attack in rows]
    reaches = _reaches(rows, figure_name)
    bars = ax.barh(
        range(len(rows)),
        values,
        color=colours,
        height=0.7,
        xerr=reaches,
        error_kw={"ecolor": "#333333", "elinewidth": 1},
    )
    for bar, attack in zip(bars, rows, strict=True):
        spec = spec_of(attack.method)
        bar.set_alpha(1.0 if spec.is_ours else 0.75)
        if spec.is_reference or (attack.schedule is not None and not spec.own_schedule):
            bar.set_hatch("...." if spec.is_reference else "////")
            bar.set_edgecolor("white")
    ax.bar_label(bars, labels=[f"{value:.1f}" for value in values], padding=3, fontsize=8, color="#333333")
    _name_rows(ax, rows, [""] * len(rows))
    lows, highs = ([value + sign * reach for value, reach in zip(values, side, strict=True)]
                   for sign, side in zip((-1, 1), reaches, strict=True))  # fmt: skip
    ax.set_xlim(min([0.0, *lows]) * 1.14 - 1, max([0.0, *highs]) * 1.14)
    ax.set_xlabel(f"{_symbol(figure_name)} (%)")
    block = blocks[0]
    ax.set_title(f"{_title(figure_name)}\n{describe_eps(block.norm, block.eps, results.clip_values)}", fontsize=10)
    _tidy(ax)
    ax.grid(axis="y", visible=False)


def _name_rows(ax: Axes, rows: Sequence[AttackResult], behind: Sequence[str]) -> None:
    """Names of attacks beside their bars: those of this package bold, references in italics."""
    ax.set_yticks(range(len(rows)), [plot(attack.name) + text for attack, text in zip(rows, behind, strict=True)])
    for label, attack in zip(ax.get_yticklabels(), rows, strict=True):
        spec = spec_of(attack.method)
        label.set_fontweight("bold" if spec.is_ours else "normal")
        label.set_fontstyle("italic" if spec.is_reference else "normal")


def _share_legend(figure: Figure, axes: Sequence[Axes]) -> None:
    shown = {}
    for ax in axes:
        handles, labels = ax.get_legend_handles_labels()
        shown.update(dict(zip(labels, handles, strict=True)))
    if shown:
        handles, names = list(shown.values()), list(shown)
        figure.legend(
            handles,
            names,
            loc="outside lower center",
            ncols=min(4, len(names)),
            frameon=False,
            fontsize=9,
            handlelength=3,
        )


def _eps_label(norm: str | None, results: Results) -> str:
    inputs = "" if results.clip_values is None else ", inputs in [{:g}, {:g}]".format(*results.clip_values)
    return f"ε ({norm_symbol(norm)}{inputs})"


def _symbol(figure_name: str) -> str:
    return r"$\Delta_\mathrm{Wor}$" if figure_name == "delta_wor" else r"$\Delta_\mathrm{MTL}$"


def _title(figure_name: str) -> str:
    return "least degraded task" if figure_name == "delta_wor" else "mean over the tasks"


def _tidy(ax: Axes) -> None:
    ax.grid(color="#e5e5e5", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=9, length=3)
