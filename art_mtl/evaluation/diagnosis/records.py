"""What a diagnosis found: plain frozen dataclasses, their exact round trip through JSON, and their table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from art_mtl.evaluation.diagnosis.sanity_checks import SANITY_CHECKS
from art_mtl.evaluation.documents import Document, Layout
from art_mtl.evaluation.results import Environment, Number
from art_mtl.evaluation.tables import MISSING, Cell, Row, Table, describe_eps

STATUSES = ("pass", "fail", "not applicable")

__all__ = ["STATUSES", "Check", "Diagnosis", "diagnosis_table"]


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: One of :data:`art_mtl.evaluation.diagnosis.SANITY_CHECKS`.
        status: "pass", "fail" or "not applicable".
        figure: By how much the law is broken, as a fraction: of degradation (0.01 is one point of Δ), of samples, or of
            the output. Negative where there is room to spare. None if not applicable.
        threshold: The check fails where the figure is greater. None if not applicable.
        seen: The numbers behind the figure, or why the check is not applicable.
        demand: What must hold.
        meaning: What it means if it does not.
        advice: What to do then.
    """

    name: str
    status: str
    figure: Number
    threshold: Number
    seen: str
    demand: str
    meaning: str
    advice: str

    @classmethod
    def of(cls, name: str, figure: float, threshold: float, seen: str) -> Check:
        """A check that was made; it passes where the figure does not exceed the threshold.

        Examples:
            >>> Check.of("noise", -0.2, 0.05, "Δ_Wor -40 % by the attack, -20 % by noise").status
            'pass'
        """
        law = SANITY_CHECKS[name]
        status = "pass" if figure <= threshold else "fail"
        return cls(name, status, float(figure), float(threshold), seen, law.demand, law.meaning, law.advice)

    @classmethod
    def skipped(cls, name: str, why: str) -> Check:
        """A check that could not be made."""
        law = SANITY_CHECKS[name]
        return cls(name, "not applicable", None, None, why, law.demand, law.meaning, law.advice)


@dataclass(frozen=True)
class Diagnosis(Document):
    """All checks of one attack on one model.

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
    """

    layout: ClassVar[Layout] = Layout("a diagnosis", "art_mtl.diagnosis", version=1, indent=1)

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

    A check passes where "found" does not exceed "limit". What a failed check means and what to do about it stands in
    the notes.
    """
    rows = []
    notes = []
    for check in diagnosis.checks:
        failed = check.status == "fail"
        cells = (check.name, check.status, _percent(check.figure), _percent(check.threshold), check.seen)
        rows.append(Row("attack", tuple(Cell(text, bold=failed and place < 2) for place, text in enumerate(cells))))
        if failed:
            notes.append(f"{check.name}: {check.demand} {check.meaning} {check.advice}")
    columns = ("check", "result", "found (%)", "limit (%)", "what was seen")
    return Table(columns, tuple(rows), _caption(diagnosis), tuple(notes))


def _caption(diagnosis: Diagnosis) -> str:
    where = describe_eps(diagnosis.norm, diagnosis.eps, diagnosis.clip_values)
    steps = "" if diagnosis.steps is None else f", {diagnosis.steps} steps"
    counts = {status: sum(check.status == status for check in diagnosis.checks) for status in STATUSES}
    degradation = "" if diagnosis.delta_wor is None else f" Δ_Wor {100 * diagnosis.delta_wor:.2f} %."
    skipped = f", {counts['not applicable']} not applicable" if counts["not applicable"] else ""
    return (
        f"{diagnosis.victim}, {diagnosis.samples} samples, {diagnosis.attack}, {where}{steps}.{degradation} "
        f"Checks: {counts['pass']} passed, {counts['fail']} failed{skipped}."
    )


def _percent(value: Number) -> str:
    return MISSING if value is None else f"{100 * value + 0.0:.2f}"
