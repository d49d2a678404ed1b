"""``art-mtl benchmark``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from art_mtl.cli.console import say, show_table
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
        """Run the experiment, print the table, write the report."""
        from art_mtl.evaluation import evaluate, make_table

        run = evaluate(
            self.experiment,
            out=self.out,
            restart=self.restart,
            repair=self.repair,
            force=self.force,
            accept=self.accept,
            ray=self.ray,
            progress=not self.quiet,
            command=command_line,
        )
        show_table(make_table(run.results), "terminal")
        if self.out is not None:
            written = run.report(self.out)
            say(f"{len(written)} files in {self.out}; start with {self.out / 'report.html'}")
        if self.diagnose:
            self._diagnose(run, command_line)
            if self.out is not None:
                run.report(self.out)  # which tells of the diagnoses

    def _diagnose(self, run: Run, command_line: str) -> None:
        from art_mtl.cli.diagnose import print_diagnosis

        for attack in filter(None, (block.strongest for block in run.results.blocks())):
            found = run.diagnose((attack.name, attack.norm, attack.eps), command=command_line, progress=not self.quiet)
            print_diagnosis(found, "terminal")
            if self.out is not None:
                path = self.out / f"diagnosis-{attack.norm}-{attack.eps:.6g}.json"
                found.to_json(path)
                say(f"diagnosis in {path}")
