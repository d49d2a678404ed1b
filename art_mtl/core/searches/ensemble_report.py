"""What an ensemble of attacks reports."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class EnsembleReport:
    """Which member won where.

    Attributes:
        members: Names, in the order in which they ran.
        tasks: Names.
        selection: "population" or "sample".
        winner: ``(N,)``: number of the member kept for each sample; −1 where the clean input is as bad as any.
        attacked: For each member, how many samples it was run on; the others had left, broken.
        degradations: For each member and, last, for the result: the degradation of each task over all samples, in (−∞,
            1].
        least: ``(N,)``: the least degradation of each sample over its tasks, by its own hard metrics; −∞ where it has
            no label.
    """

    members: tuple[str, ...]
    tasks: tuple[str, ...]
    selection: str
    winner: npt.NDArray[np.int64]
    attacked: tuple[int, ...]
    degradations: tuple[tuple[float, ...], ...]
    least: npt.NDArray[np.float64]

    @property
    def counts(self) -> dict[str, int]:
        """How many samples each member was kept for; "clean" for none."""
        found = {name: int((self.winner == number).sum()) for number, name in enumerate(self.members)}
        return {**found, "clean": int((self.winner == -1).sum())}

    def won(self, member: str) -> npt.NDArray[np.int64]:
        """Indices of the samples that a member was kept for.

        Raises:
            ValueError: No such member.
        """
        if member not in self.members:
            raise ValueError(f"Parameter `member` should be one of {', '.join(self.members)}. Found {member!r}.")
        return np.flatnonzero(self.winner == self.members.index(member))

    def __str__(self) -> str:
        """A table: samples attacked and won, degradation of each task in percent, least of them."""
        names, kept = [*self.members, "ensemble"], [*list(self.counts.values())[:-1], len(self.winner)]
        wide = max(map(len, names))
        heads = ["worst", *self.tasks]
        lines = [f"{'member':<{wide}}  {'run on':>6}  {'kept':>6}  " + "  ".join(f"{head:>7}" for head in heads)]
        for name, ran, won, degradation in zip(
            names, [*self.attacked, len(self.winner)], kept, self.degradations, strict=True
        ):
            worst = min((value for value in degradation if not math.isnan(value)), default=math.nan)
            cells = zip(heads, [worst, *degradation], strict=True)
            shown = "  ".join(f"{100 * value:{max(7, len(head))}.2f}" for head, value in cells)
            lines.append(f"{name:<{wide}}  {ran:>6}  {won:>6}  {shown}")
        return "\n".join(lines)
