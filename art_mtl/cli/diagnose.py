"""``art-mtl diagnose``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from art_mtl.cli.console import say, show_table
from art_mtl.cli.options import Checkpoint, Maybe, QuietCommand, Root, Table, Tasks
from art_mtl.core import checks
from art_mtl.evaluation.experiment import CONFIG, Device, Experiment, Norm, Schedule, name_norm, parse_eps
from art_mtl.near_names import perhaps

if TYPE_CHECKING:
    from art_mtl.evaluation import Run
    from art_mtl.evaluation.attack import AttackInfo
    from art_mtl.evaluation.diagnosis import Diagnosis
    from art_mtl.evaluation.results import Key

_OF_THE_ATTACK = ("steps", "schedule", "restarts", "prepare")
_OF_THE_PLACE = ("root", "checkpoint", "tasks", "data", "device", "batch_size", "seed")


@dataclass(frozen=True, kw_only=True)
class Diagnose(QuietCommand):
    """Check whether the degradation that an attack reports is to be believed.

    Eleven sanity checks for unreliable attacks: which of them fail, and what to do. The attack is a row of a run, with
    all the settings that it ran with, or a new one.

    Attributes:
        folder: Run whose attack is diagnosed, a folder that benchmark --out was given. Without: a new attack.
        attack: Name of a row of the run; of a new attack a name that `art-mtl list` shows.
        norm: Default: that of --eps, or the first of the run or the victim.
        eps: Such as 4/255 or l2:1.0. Default: the first of the run or the victim.
        victim: Default: the run's, or rooms. A run whose victim is PATH.py:function needs it: nothing that a folder
            names is executed.
        steps: Gradient steps. Default: 10.
        schedule: Step schedule. Default: published.
        restarts: Random starts of the schedule "restarts". Default: 2.
        prepare: What the gradient steps run on, as in benchmark. Default: exact.
        limit: First samples of the data.
        seed: Default: the run's, or 0.
        batch_size: Default: the run's, or 32.
        device: Default: the run's, or auto.
        queries: Forward passes of the search without gradients, at least 2. Default: 200.
        format: How the diagnosis is printed.
        out: File for the diagnosis, as JSON.
    """

    folder: Annotated[Positional[Path | None], arg(metavar="[RUN]", help_behavior_hint="")] = None
    attack: str = "worst-task"
    norm: Maybe[Annotated[Norm, checks.norm]] = None
    eps: Maybe[str] = None
    victim: Maybe[str] = None
    root: Root = None
    checkpoint: Checkpoint = None
    tasks: Tasks = None
    data: Table = None
    steps: Maybe[int] = None
    schedule: Maybe[Schedule] = None
    restarts: Maybe[int] = None
    prepare: Maybe[str] = None
    limit: int = 64
    seed: Maybe[Annotated[int, checks.integer(0)]] = None
    batch_size: Maybe[int | Literal["auto"]] = None
    device: Maybe[Device] = None
    queries: Maybe[Annotated[int, checks.integer(2)]] = None
    format: Literal["terminal", "markdown", "json"] = "terminal"
    out: Path | None = None

    def run(self, command_line: str) -> None:
        """Diagnose the attack, print what was found, write it."""
        if self.out is not None and self.out.is_dir():
            raise ValueError(f"Parameter `out` should be a file. Found the folder {str(self.out)!r}.")
        run = self._new() if self.folder is None else self._stored(self.folder)
        run = run.with_model(self.victim, **self._given(*_OF_THE_PLACE))
        told = {"command": command_line, "progress": not self.quiet, **self._given("queries")}
        key = self._key(run.planned)
        if not self.quiet:
            say(f"the checks of {key[0]} take as long as about 20 runs of it, which can be minutes.")
        found = run.diagnose(key, limit=self.limit, **told)
        write_and_print(found, self.format, self.out)

    def _given(self, *names: str) -> dict[str, Any]:
        """Of these options those that are given."""
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def _new(self) -> Run:
        """A run of one attack, which has not begun."""
        from art_mtl.evaluation import Run

        given = self._given(*_OF_THE_ATTACK, "victim")
        given |= {name: (value,) for name, value in self._given("norm", "eps", "schedule").items()}
        return Run(None, Experiment(attacks=(self.attack,), **given))

    def _stored(self, folder: Path) -> Run:
        """A run from its experiment alone: what it came to does not matter."""
        from art_mtl.evaluation import Run

        wrong = self._given(*_OF_THE_ATTACK)
        if wrong:
            raise ValueError(f"Options of a new attack should be left out for one of a run. Found {', '.join(wrong)}.")
        return Run(None, Experiment.from_yaml(folder / CONFIG), folder)

    def _key(self, planned: Sequence[AttackInfo]) -> Key:
        """The attack that is meant.

        Raises:
            ValueError: There is none, or there are several of one norm and radius.
        """
        rows = planned if self.folder is None else [one for one in planned if one.name == self.attack]
        if not rows:
            names = list(dict.fromkeys(one.name for one in planned))
            near = perhaps(self.attack, names)
            raise ValueError(f"Parameter `attack` should be one of {', '.join(names)}. Found {self.attack!r}.{near}")
        norm, radius = (None, None) if self.eps is None else parse_eps(self.eps)
        norms = {norm, None if self.norm is None else name_norm(self.norm)}
        found = [one for one in rows if radius in (None, one.eps) and norms <= {None, one.norm}]
        if not found:
            asked = self.norm if self.eps is None else self.eps
            listed = ", ".join(one.label.rpartition(", ")[2] for one in rows)
            raise ValueError(
                f"Parameter `{'norm' if self.eps is None else 'eps'}` should be of a row of {self.attack}: {listed}. "
                f"Found {asked!r}."
            )
        same = [one for one in found if (one.norm, one.eps) == (found[0].norm, found[0].eps)]
        if len(same) > 1:
            listed = "; ".join(one.label for one in same)
            raise ValueError(f"Parameter `attack` should name one attack. Found {self.attack!r}, of: {listed}.")
        return same[0].name, same[0].norm, same[0].eps


def write_and_print(found: Diagnosis, form: str, out: Path | None) -> None:
    """Write a diagnosis, then print it; what failed is told on standard error.

    Args:
        found: What was found.
        form: "terminal", "markdown" or "json".
        out: File for it; None for none.
    """
    from art_mtl.evaluation.diagnosis import diagnosis_table

    if out is not None:
        found.to_json(out)
    if form == "json":
        print(found.to_json_text(), end="")
    else:
        show_table(diagnosis_table(found), form)
    if found.failed:
        say(f"{len(found.failed)} of {len(found.checks)} checks failed: {', '.join(found.failed)}")
    if out is not None:
        say(f"diagnosis in {out}")
