"""What a diagnosis found: plain frozen dataclasses, their exact round trip through JSON, and their table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from art_mtl.evaluation.diagnosis.sanity_checks import SANITY_CHECKS
from art_mtl.evaluation.documents import Document, Layout
from art_mtl.evaluation.report.spelling import decimals
from art_mtl.evaluation.report.tables import MISSING, Cell, Row, ShowsTable, Table, describe_eps
from art_mtl.evaluation.results import Environment, Number, known

STATUSES = ("pass", "fail", "inconclusive", "not applicable")
FAILURE = 0.2
"""What an attack that fails hides at least: twenty points of degradation. Masked gradients, a head without a gradient
and steps that lead astray hide more; where a figure of this size cannot be excluded, a check tells nothing.
"""
_MORE = "A failure of {:.0f} points cannot be excluded with {} samples: diagnose with more of them."

__all__ = ["FAILURE", "STATUSES", "Check", "Diagnosis", "diagnosis_table"]


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: One of :data:`art_mtl.evaluation.diagnosis.SANITY_CHECKS`.
        status: "fail" where the figure is greater than the threshold; "inconclusive" where it is not, but a failure,
            a figure of :data:`FAILURE`, cannot be excluded; else "pass"; "not applicable" where the check could not
            be made.
        figure: By how much the law is broken, as a fraction: of degradation (0.01 is one point of Δ), of samples, or of
            the output. Negative where there is room to spare. None if not applicable.
        threshold: The check fails where the figure is greater. None if not applicable, or if nothing could fail.
        at_most: What the figure may be in the population, three standard errors up. None if not applicable, or if that
            is anything.
        seen: The numbers behind the figure, or why the check is not applicable.
        demand: What must hold.
        meaning: What it means if it does not.
        advice: What to do then.
    """

    name: str
    status: str
    figure: Number
    threshold: Number
    at_most: Number
    seen: str
    demand: str
    meaning: str
    advice: str

    @classmethod
    def of(cls, name: str, figure: float, threshold: float, seen: str, margin: float = 0.0) -> Check:
        """A check that was made.

        Args:
            name: Of the check.
            figure: On these samples.
            threshold: The check fails where the figure is greater.
            seen: The numbers behind it.
            margin: By how much the figure may be greater in the population; 0 where it does not depend on samples.

        Examples:
            >>> seen = "Δ_Wor -40 % by the attack, -20 % by noise"
            >>> Check.of("noise", -0.2, 0.05, seen).status
            'pass'
            >>> Check.of("noise", -0.2, 0.55, seen, margin=0.5).status
            'inconclusive'
        """
        tells = margin == 0 or figure + margin <= FAILURE
        status = "fail" if figure > threshold else "pass" if tells else "inconclusive"
        law = SANITY_CHECKS[name]
        figures = float(figure), known(threshold), known(figure + margin)
        return cls(name, status, *figures, seen, law.demand, law.meaning, law.advice)

    @classmethod
    def skipped(cls, name: str, why: str) -> Check:
        """A check that could not be made."""
        law = SANITY_CHECKS[name]
        return cls(name, "not applicable", None, None, None, why, law.demand, law.meaning, law.advice)


@dataclass(frozen=True, repr=False)
class Diagnosis(Document, ShowsTable):
    """All checks of one attack on one model.

    In a terminal and in a notebook it shows its table.

    Attributes:
        victim: Name of the model and its data.
        attack: Name of the attack.
        norm: "linf", "l2" or "l1"; None where the attack does not say.
        eps: Radius in the scale of the model's input, the greatest if samples differ; None where it does not say.
        steps: Number of steps; None where it does not say.
        samples: N.
        delta_wor: Δ_Wor of the attack; None where it could not run.
        clip_values: Least and greatest value of the model's input; None if unbounded.
        checks: In the order of :data:`art_mtl.evaluation.diagnosis.SANITY_CHECKS`.
        environment: Where and when.
        command: Command line that made it, or None.
        protocol: How metrics were averaged; one of :data:`art_mtl.evaluation.measure.PROTOCOLS`.
        chunk: Samples that the attack was given in one call; None for all.
    """

    layout: ClassVar[Layout] = Layout("a diagnosis", "art_mtl.diagnosis", version=2, indent=1)

    victim: str
    attack: str
    norm: str | None
    eps: Number
    steps: int | None
    samples: int
    delta_wor: Number
    clip_values: tuple[float, float] | None
    checks: tuple[Check, ...]
    environment: Environment
    command: str | None = None
    protocol: str = "pooled"
    chunk: int | None = None

    def table(self) -> Table:
        """As of :func:`diagnosis_table`."""
        return diagnosis_table(self)

    @property
    def inconclusive(self) -> tuple[str, ...]:
        """Names of the checks that tell nothing with so few samples."""
        return tuple(check.name for check in self.checks if check.status == "inconclusive")

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that failed."""
        return tuple(check.name for check in self.checks if check.status == "fail")

    def __getitem__(self, name: str) -> Check:
        """The check of that name.

        Raises:
            KeyError: There is none.
        """
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(f"no check {name!r}; the checks are {[check.name for check in self.checks]}")


def diagnosis_table(diagnosis: Diagnosis) -> Table:
    """The table of a diagnosis, for :func:`to_rich`, :func:`to_markdown` and the like.

    A check passes where "found" does not exceed "limit", and a failure can be excluded. What a failed check means and
    what to do about it stands in the notes.
    """
    rows = []
    notes = []
    for check in diagnosis.checks:
        failed = check.status == "fail"
        cells = (check.name, check.status, _percent(check.figure), _percent(check.threshold), check.seen)
        rows.append(Row("attack", tuple(Cell(text, bold=failed and place < 2) for place, text in enumerate(cells))))
        if failed:
            notes.append(f"{check.name}: {check.demand} {check.meaning} {check.advice}")
        elif check.status == "inconclusive":
            most = 100.0 if check.at_most is None else min(100 * check.at_most, 100.0)
            notes.append(f"{check.name}: {_MORE.format(most, diagnosis.samples)}")
    columns = ("check", "result", "found (%)", "limit (%)", "what was seen")
    return Table(columns, tuple(rows), _caption(diagnosis), tuple(notes))


def _caption(diagnosis: Diagnosis) -> str:
    where = describe_eps(diagnosis.norm, diagnosis.eps, diagnosis.clip_values)
    steps = "" if diagnosis.steps is None else f", {diagnosis.steps} steps"
    counts = {status: sum(check.status == status for check in diagnosis.checks) for status in STATUSES}
    degradation = "" if diagnosis.delta_wor is None else f" Δ_Wor {decimals(100 * diagnosis.delta_wor)} %."
    others = "".join(f", {counts[status]} {status}" for status in STATUSES[2:] if counts[status])
    return (
        f"{diagnosis.victim}, {diagnosis.samples} samples, {diagnosis.attack}, {where}{steps}.{degradation} "
        f"Checks: {counts['pass']} passed, {counts['fail']} failed{others}."
    )


def _percent(value: Number) -> str:
    return MISSING if value is None else decimals(100 * value)
