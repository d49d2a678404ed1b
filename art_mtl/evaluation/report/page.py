"""A report as one page of HTML, which holds all that it shows and asks for nothing."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from art_mtl.core.methods import single_task_references, spec_of
from art_mtl.evaluation.experiment import LIVE, Experiment
from art_mtl.evaluation.report import charts, escape
from art_mtl.evaluation.report.charts import Chart, Series, line_chart, minus
from art_mtl.evaluation.report.gallery import ShowsSamples, shown_attack
from art_mtl.evaluation.report.glossary import glossary
from art_mtl.evaluation.report.measure_table import make_measure_table
from art_mtl.evaluation.report.page_gallery import ShownAttack, show_samples
from art_mtl.evaluation.report.plots import TASK_COLOURS, method_colour, other_methods, series_of, weighted
from art_mtl.evaluation.report.spelling import decimals
from art_mtl.evaluation.report.tables import (
    MISSING,
    Cell,
    Row,
    compare_roles,
    describe_eps,
    describe_lost,
    describe_warnings,
    fraction,
    make_table,
    norm_symbol,
)
from art_mtl.evaluation.results import AttackResult, Block, Interval, Number, Results
from art_mtl.evaluation.run_time import duration

if TYPE_CHECKING:
    from art_mtl.evaluation.diagnosis import Diagnosis

_TEMPLATE = "page.html.j2"
_CARDS = 12
"""Attacks of a norm and radius whose tasks are drawn, at most."""
_NAMED = 8
"""Attacks that are named in a row; of more only the number is told."""
_WEIGHTS = 4
"""Attacks of a norm and radius whose weights are drawn, at most."""
_LINES = {"ours": "ours", "baseline": "baseline", "reference": "reference"}

__all__ = ["page_html"]


def page_html(
    results: Results,
    gallery: ShowsSamples | None = None,
    experiment: Experiment | None = None,
    diagnoses: Sequence[Diagnosis] = (),
    folder: Path | None = None,
) -> str:
    """The page of a report.

    Args:
        results: What was found.
        gallery: Adversarial inputs to show; None for no pictures of samples.
        experiment: What was asked for, if that is known.
        diagnoses: Of its attacks.
        folder: Of the run, for the commands that the page names.

    Raises:
        ImportError: jinja2 is missing.
    """
    try:
        environment = _environment()
    except ImportError as error:
        raise ImportError("A page needs the package jinja2. Install it with: pip install '.[report]'") from error
    script = environment.get_template("page.js").render()  # as the page includes it
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    heads = _headlines(results)
    blocks = list(results.blocks())
    context = {
        "results": results,
        "script_hash": digest,
        "frame": charts.FRAME,
        "verdicts": [_verdict(results, block) for block in heads],
        "facts": _facts(results, experiment),
        "radii": [_radius(results, block) for block in blocks],
        "trust": [_trust(diagnosis) for diagnosis in diagnoses],
        "how_to_diagnose": _how_to_diagnose(heads, experiment, folder),
        "curves": list(_curves(results)),
        "blocks": [_block(results, block, block in heads) for block in blocks],
        "cosines": _cosines(results),
        "galleries": list(_galleries(results, gallery, heads)),
        "table": _table(results),
        "measures": make_measure_table(results) if results.measures else None,
        "experiment": None if experiment is None else experiment.to_yaml().splitlines(),
        "replayable": experiment is not None and not experiment.live,
        "notes": [minus(note) for note in (*describe_lost(results), *describe_warnings(results))],
        "glossary": glossary(results),
        "task_colours": TASK_COLOURS,
    }
    return str(environment.get_template(_TEMPLATE).render(context))


def _own_file(name: str) -> str:
    return files("art_mtl.evaluation.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Any:
    """Everything that a template shows is escaped, and one line without control characters."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(_own_file),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_harmless,
    )
    made.filters |= {"percent": percent, "interval": _interval}
    made.globals |= {"bar": _bar, "heat": _heat, "cosine": _cosine, "margin": _margin}
    return made


def _harmless(value: Any) -> Any:
    # What a macro made is a subclass, whose parts have been here before.
    return "\xa0".join(map(escape.plain, value.split("\xa0"))) if type(value) is str else value


def percent(value: Number, digits: int = 1) -> str:
    """A fraction as people read it.

    Examples:
        >>> percent(-0.8214), percent(None)
        ('−82.1\\xa0%', '–')
    """
    return MISSING if value is None else f"{minus(decimals(100 * value, digits))}\xa0%"


def _interval(ends: Interval) -> str:
    return "" if ends is None else "[{}, {}]".format(*(minus(decimals(100 * end, 1)) for end in ends))


def _bar(delta: Number) -> float:
    """How long the bar of a degradation is, in percent of its track."""
    return 0.0 if delta is None else round(min(max(-100 * delta, 0.0), 100.0), 1)


def _heat(value: Number) -> float:
    """How strong the colour behind a number is."""
    return 0.0 if value is None else round(min(abs(value), 1.0), 2)


def _cosine(value: Number) -> str:
    return MISSING if value is None else minus(decimals(value))


def _margin(line: str) -> Any:
    """The white space that a line begins with, which :func:`_harmless` would take away."""
    from markupsafe import Markup

    return Markup(" " * (len(line) - len(line.lstrip(" "))))


def _headlines(results: Results) -> list[Block]:
    """Of each norm the block of the largest radius."""
    found: dict[str | None, Block] = {}
    for block in results.blocks():
        before = found.get(block.norm)
        if before is None or (block.eps or 0.0) > (before.eps or 0.0):
            found[block.norm] = block
    return list(found.values())


# --- the verdict ---


def _safest(results: Results, attack: AttackResult) -> str:
    """Name of the least degraded task."""
    known = [(delta, task.name) for delta, task in zip(attack.deltas, results.tasks, strict=True) if delta is not None]
    return max(known)[1] if known else ""


def _verdict(results: Results, block: Block) -> list[str]:
    """Two sentences on a norm and radius."""
    symbol, _, radius = describe_eps(block.norm, block.eps, results.clip_values).partition(", ")
    where, best = f"At {radius} in {symbol}", block.strongest
    if best is None:
        return [f"{where} no attack on all tasks ran.", "Nothing can be said about the safest task."]
    baselines = [attack for attack in block.ranked if spec_of(attack.method).role == "baseline"]
    found = f"{percent(best.delta_wor)} {_interval(best.delta_wor_interval)}".strip()
    said = f"{where} the strongest attack, {best.name} ({spec_of(best.method).role}), leaves the safest task, "
    said += f"{_safest(results, best)}, at {found}"
    if not baselines:
        said += "; no published method ran"
    elif baselines[0] is not best:
        said += f"; the best published method, {baselines[0].name}, at {percent(baselines[0].delta_wor)}"
    return [f"{said}.", minus(compare_roles(results, block))]


def _radius(results: Results, block: Block) -> dict[str, Any]:
    best, reference = block.strongest, results.reference(block)
    published = next((a for a in block.ranked if spec_of(a.method).role == "baseline"), None)
    return {
        "where": describe_eps(block.norm, block.eps, results.clip_values),
        "best": best,
        "safest": "" if best is None else _safest(results, best),
        "published": published,
        "reference": reference,
    }


def _facts(results: Results, experiment: Experiment | None) -> list[tuple[str, str]]:
    radii: dict[str, list[str]] = {}
    for block in results.blocks():
        norm, _, eps = describe_eps(block.norm, block.eps, results.clip_values).partition(", ε = ")
        radii.setdefault(norm, []).append(eps)
    steps = sorted({attack.steps for attack in results.attacks if attack.steps is not None})
    seconds = sum(attack.seconds for attack in results.attacks)
    gradients = [attack.gradient_evaluations for attack in results.attacks if attack.gradient_evaluations is not None]
    names = list(dict.fromkeys(attack.name for attack in results.attacks))
    tasks = "; ".join(f"{task.name} ({task.kind.replace('_', ' ')})" for task in results.tasks)
    where = results.environment
    has_splits = experiment is not None and not experiment.victim.startswith(LIVE)
    split = f" of the {experiment.split} data" if experiment is not None and has_splits else ""
    return [
        ("Model", results.victim),
        ("Tasks", tasks),
        ("Samples", f"{results.samples}{split}"),
        ("Attacks", str(len(names)) if len(names) > _NAMED else ", ".join(names)),
        ("Radii", "; ".join(f"{norm}: {', '.join(found)}" for norm, found in radii.items())),
        ("Steps", ", ".join(map(str, steps)) or "not stated"),
        ("Cost", f"{sum(gradients):,.0f} gradient evaluations for each sample, {duration(seconds)} of attacks in all"),
        ("Where and when", f"{where.device}, {where.date}, seed {where.seed}"),
    ]


def _trust(diagnosis: Diagnosis) -> dict[str, Any]:
    passed = sum(check.status == "pass" for check in diagnosis.checks)
    where = describe_eps(diagnosis.norm, diagnosis.eps, diagnosis.clip_values)
    verdict = "is not to be trusted" if diagnosis.failed else "can be trusted as far as these checks can tell"
    if not diagnosis.failed and not passed:
        verdict = "cannot be judged"
    return {
        "failed": bool(diagnosis.failed),
        "said": f"{diagnosis.attack}, {where}: the figure {verdict}. {passed} of {len(diagnosis.checks)} checks passed "
        f"on {diagnosis.samples} samples, {len(diagnosis.failed)} failed, {len(diagnosis.inconclusive)} inconclusive.",
        "advice": [
            f"{check.name}: {check.demand} {check.meaning} {check.advice}"
            for check in diagnosis.checks
            if check.status == "fail"
        ],
    }


def _how_to_diagnose(heads: Sequence[Block], experiment: Experiment | None, folder: Path | None) -> list[str]:
    """By the command where a folder and a name will do, and from Python."""
    best = next((block.strongest for block in heads if block.strongest is not None), None)
    if best is None:
        return []
    lines = [f"run.diagnose(({best.name!r}, {best.norm!r}, {best.eps!r}))"]
    if folder is not None and experiment is not None and not experiment.live and best.eps is not None:
        words = ["art-mtl", "diagnose", str(folder), "--attack", best.name, "--norm", str(best.norm)]
        lines.insert(0, shlex.join([*words, "--eps", fraction(best.eps)]))
    return lines


# --- curves ---


def _role(attack: AttackResult) -> str:
    return spec_of(attack.method).role


@dataclass(frozen=True)
class _Curves:
    """The panels of one norm, or its bars where there is one radius."""

    heading: str
    charts: tuple[Chart, ...]
    legend: tuple[dict[str, Any], ...]
    bars: tuple[dict[str, Any], ...]


def _curves(results: Results) -> Iterator[_Curves]:
    others = other_methods(results)
    norms = dict.fromkeys(block.norm for block in results.blocks() if block.eps is not None)
    for norm in norms:
        blocks = [block for block in results.blocks() if block.norm == norm and block.eps is not None]
        blocks.sort(key=lambda block: block.eps or 0.0)
        found = series_of(results, blocks)
        ranked = sorted(found.items(), key=lambda one: _strength(one[1][-1][1]))
        legend = tuple(
            {"name": name, "role": _role(points[0][1]), "css": _LINES.get(_role(points[0][1]), "other"),
             "colour": method_colour(points[0][1].method, others), "number": number}
            for number, (name, points) in enumerate(ranked)
        )  # fmt: skip
        heading = norm_symbol(norm)
        if len(blocks) == 1:
            bars = tuple({**entry, "attack": points[0][1]} for entry, (_, points) in zip(legend, ranked, strict=True))
            where = describe_eps(norm, blocks[0].eps, results.clip_values)
            yield _Curves(where, (), legend, bars)
            continue
        draw = partial(_degradation_chart, results, blocks, ranked, legend)
        charts = (
            draw("Δ_Wor (%), the safest task", "delta_wor"),
            draw("Δ_MTL (%), mean of the tasks", "delta_mtl"),
        )
        yield _Curves(heading, charts, legend, ())


def _strength(attack: AttackResult) -> float:
    return float("inf") if attack.delta_wor is None else attack.delta_wor


def _degradation_chart(
    results: Results,
    blocks: Sequence[Block],
    ranked: Sequence[tuple[str, Sequence[tuple[float, AttackResult]]]],
    legend: Sequence[dict[str, Any]],
    title: str,
    figure: str,
) -> Chart:
    series, roles = [], set[str]()
    for (name, points), entry in zip(ranked, legend, strict=True):
        banded = entry["role"] not in roles  # more bands would hide each other
        roles.add(entry["role"])
        ends = [getattr(attack, f"{figure}_interval") if banded else None for _, attack in points]
        series.append(
            Series(
                name,
                [(eps, _scaled(getattr(attack, figure))) for eps, attack in points],
                [None if one is None else (min(100 * one[0], 100.0), min(100 * one[1], 100.0)) for one in ends],
                entry["css"],
                entry["colour"],
                entry["number"],
            )
        )
    radii = [(block.eps or 0.0, fraction(block.eps or 0.0)) for block in blocks]
    symbol = norm_symbol(blocks[0].norm)
    positive = all(eps > 0 for eps, _ in radii)
    return line_chart(title, f"ε ({symbol})", series, radii, logarithmic=positive, unit=" %")


def _scaled(value: Number) -> Number:
    """In percent, at most 100: a task that is improved has no bound, and would drown all others."""
    return None if value is None else max(-100.0, min(100 * value, 100.0))


# --- a norm and radius ---


def _block(results: Results, block: Block, is_open: bool) -> dict[str, Any]:
    ranked = list(block.ranked)
    reference = results.reference(block)
    rest = [a for a in block.attacks if a not in ranked and not spec_of(a.method).is_reference]
    cards = [*ranked, *rest]
    return {
        "heading": describe_eps(block.norm, block.eps, results.clip_values),
        "open": is_open,
        "cards": [*cards[:_CARDS], *([reference] if reference else [])],
        "hidden": max(0, len(cards) - _CARDS),
        "safest": {attack.name: _safest(results, attack) for attack in [*cards, *([reference] if reference else [])]},
        "roles": {attack.name: _role(attack) for attack in [*cards, *([reference] if reference else [])]},
        "matrix": _matrix(results, block),
        "weights": list(_weights(results, block)),
    }


def _matrix(results: Results, block: Block) -> list[dict[str, Any]]:
    """A row for each attack on one task: how much it degrades that task and the others."""
    found = {attack.method: attack for attack in block.attacks}
    rows = []
    for i, (task, method) in enumerate(single_task_references([task.name for task in results.tasks]).items()):
        if method in found:
            cells = [{"value": delta, "own": i == j} for j, delta in enumerate(found[method].deltas)]
            rows.append({"task": task, "cells": cells})
    return rows


def _cosines(results: Results) -> list[dict[str, Any]]:
    rows = zip(results.tasks, results.gradient_cosines or (), strict=False)
    return [
        {"task": task.name, "cells": [{"value": value, "own": i == j} for j, value in enumerate(row)]}
        for i, (task, row) in enumerate(rows)
    ]


def _weights(results: Results, block: Block) -> Iterator[Chart]:
    shown = [attack for attack in block.ranked if attack in weighted(block)][:_WEIGHTS]
    for attack in shown:
        weights = attack.weights or ()
        steps = [float(step) for step in range(1, len(weights) + 1)]
        series = [
            Series(
                task.name,
                list(zip(steps, [row[k] for row in weights], strict=True)),
                [None] * len(weights),
                "weight",
                TASK_COLOURS[k % len(TASK_COLOURS)],
                k,
            )
            for k, task in enumerate(results.tasks)
        ]
        labels = [(step, f"{step:.0f}") for step in steps]
        yield line_chart(attack.name, "step", series, labels, logarithmic=False, reach=(0.0, 1.0))


def _galleries(results: Results, gallery: ShowsSamples | None, heads: Sequence[Block]) -> Iterator[ShownAttack]:
    for block in heads:
        if gallery is not None and gallery.shows(block):
            where = describe_eps(block.norm, block.eps, results.clip_values)
            attack = shown_attack(block)
            yield show_samples(f"{where}, {attack.name} ({_role(attack)})", gallery, attack, results)


# --- the full table ---


@dataclass(frozen=True)
class _Column:
    heading: str
    is_number: bool


@dataclass(frozen=True)
class _Line:
    kind: str
    cells: tuple[Cell, ...]


def _table(results: Results) -> tuple[list[_Column], list[_Line]]:
    """All rows without headings between them: norm, radius and cost have columns of their own."""
    table = make_table(results, deltas=True)
    first, role, *others = table.columns
    texts = {first, role, "norm"}
    names = [first, role, "norm", "ε", *others, "seconds"]
    seconds = iter([a.seconds for block in results.blocks() for a in _rows_of(results, block)])
    lines = []
    for row in table.rows:
        if row.kind == "block":
            continue
        own = None if row.kind == "clean" else next(seconds)
        cost = Cell("" if own is None else f"{own:.1f}", own)
        lines.append(_Line(row.kind, tuple(map(_typeset, (*row.cells[:2], *_place(row), *row.cells[2:], cost)))))
    return [_Column(name, name not in texts) for name in names], lines


def _rows_of(results: Results, block: Block) -> list[AttackResult]:
    reference = results.reference(block)
    return [*block.attacks, *([reference] if reference else [])]


def _place(row: Row) -> tuple[Cell, Cell]:
    if row.kind == "clean":
        return Cell(""), Cell("")
    symbol = norm_symbol(row.norm)
    return Cell(symbol, symbol), Cell(MISSING if row.eps is None else fraction(row.eps), row.eps)


def _typeset(cell: Cell) -> Cell:
    return Cell(minus(cell.text), cell.value, cell.bold) if isinstance(cell.value, float) else cell
