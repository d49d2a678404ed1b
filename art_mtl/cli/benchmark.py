"""``art-mtl benchmark``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from art_mtl.cli.console import NOTHING_KEPT, interruption_says, say_written, show_table
from art_mtl.cli.options import Flag, WritingCommand
from art_mtl.evaluation.experiment import Experiment

if TYPE_CHECKING:
    from art_mtl.evaluation import Run


@dataclass(frozen=True, kw_only=True)
class Benchmark(WritingCommand):
    """Attack a victim with a grid of attacks, norms and radii, and compare the degradation.

    Attributes:
        config: Experiment to run, such as the experiment.yaml of a run. Options given here win over those of the file.
        restart: Throw away the run that --out holds.
        repair: Compute again the units of --out that are damaged.
        accept: What may differ from the run that --out holds.
        ray: Share the work out with Ray: "local" for all devices of this machine, "auto", or the address of a cluster.
        diagnose: Check the strongest attack of every norm and radius for signs of failure (20 times its time).
    """

    experiment: Annotated[Experiment, arg(name="")] = Experiment()
    config: Path | None = None
    restart: Flag = False
    repair: Flag = False
    accept: tuple[str, ...] = ()
    ray: str | None = None
    diagnose: Flag = False

    def run(self, command_line: str) -> None:
        """Run the experiment, write the report, print the table."""
        kept = "nothing was kept." if self.out is None else f"what is finished is in {self.out}."
        with interruption_says(f"interrupted; {kept}"):
            self._run(command_line)

    def _run(self, command_line: str) -> None:
        from art_mtl.evaluation import evaluate, make_table
        from art_mtl.evaluation.run_time import RunTime

        run = evaluate(
            self.experiment,
            out=self.out,
            restart=self.restart,
            repair=self.repair,
            force=self.force,
            accept=self.accept,
            ray=self.ray,
            callbacks=[] if self.quiet else [RunTime("" if self.out else NOTHING_KEPT)],
            progress=not self.quiet,
            command=command_line,
        )
        written = [] if self.out is None else run.report(self.out)
        elsewhere = "" if self.out is None else f"{self.out / 'table.md'} has all of them"
        show_table(make_table(run.results), "terminal", elsewhere=elsewhere)
        further = run.measure_table()
        if further is not None:
            show_table(further, "terminal", elsewhere=elsewhere)
        if written:
            say_written(written)
        if self.diagnose:
            self._diagnose(run, command_line)
            if self.out is not None:
                run.report(self.out)  # which tells of the diagnoses

    def _diagnose(self, run: Run, command_line: str) -> None:
        from art_mtl.cli.diagnose import write_and_print

        for attack in filter(None, (block.strongest for block in run.results.blocks())):
            found = run.diagnose((attack.name, attack.norm, attack.eps), command=command_line, progress=not self.quiet)
            path = None if self.out is None else self.out / f"diagnosis-{attack.norm}-{attack.eps:.6g}.json"
            write_and_print(found, "terminal", path)
