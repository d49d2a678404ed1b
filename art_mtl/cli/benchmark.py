"""``art-mtl benchmark``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from art_mtl.cli.console import say, show_table
from art_mtl.cli.options import Flag, WritingCommand, threads
from art_mtl.evaluation.experiment import CONFIG, Experiment

if TYPE_CHECKING:
    from art_mtl.evaluation import Results, Victim


@dataclass(frozen=True, kw_only=True)
class Benchmark(WritingCommand):
    """Attack a victim with a grid of attacks, norms and radii, and compare the degradation.

    Attributes:
        config: Experiment to run, such as the experiment.yaml of a run. Options given here win over those of the file.
        restart: Throw away the run that --out holds.
        accept: What may differ from the run that --out holds.
        ray: Share the work out with Ray: "local" for all devices of this machine, "auto", or the address of a cluster.
        diagnose: Check the strongest attack of every norm and radius for signs of failure (20 times its time).
    """

    experiment: Annotated[Experiment, arg(name="")] = Experiment()
    config: Path | None = None
    restart: Flag = False
    accept: tuple[str, ...] = ()
    ray: str | None = None
    diagnose: Flag = False

    def run(self, command_line: str) -> None:
        """Run the experiment, print the table, write the report."""
        from art_mtl.evaluation import make_table

        self.experiment.check_names()
        try:
            results, victim = _run_experiment(self.experiment, self, command_line)
        except KeyboardInterrupt:
            if self.out is None:
                raise
            raise KeyboardInterrupt(
                f"interrupted; what is finished is in {self.out}, and the same command goes on from there."
            ) from None
        show_table(make_table(results), "terminal")
        if self.diagnose:
            self._diagnose(results, victim, command_line)

    def _diagnose(self, results: Results, victim: Victim, command_line: str) -> None:
        from art_mtl.cli.diagnose import cell_of, diagnose_attack, print_diagnosis, strongest

        for attack in strongest(results):
            cell = cell_of(self.experiment, attack, victim)
            found = diagnose_attack(
                self.experiment, cell, victim, self.out, command_line=command_line, progress=not self.quiet
            )
            print_diagnosis(found, "terminal")
            if self.out is not None:
                path = self.out / f"diagnosis-{attack.norm}-{attack.eps:.6g}.json"
                found.to_json(path)
                say(f"diagnosis in {path}")


def _run_experiment(experiment: Experiment, command: Benchmark, command_line: str) -> tuple[Results, Victim]:
    """Run an experiment, and write the report where the command has a folder for it."""
    from art_mtl.evaluation import benchmark, load_victim, write_report
    from art_mtl.evaluation.report import check_folder, gallery_of
    from art_mtl.files import write_text

    unknown = {"ray": command.ray, "accept": command.accept, "keep_adversarial": experiment.keep_adversarial}
    for name, value in unknown.items():
        if value:
            raise ValueError(f"Parameter `{name}` should be left out: `benchmark` has none. Found {value!r}.")
    if command.out is not None:
        check_folder(command.out, command.force)
    victim = load_victim(experiment.victim, root=experiment.root, checkpoint=experiment.checkpoint)
    gallery = None
    if command.out is not None:
        gallery = gallery_of(victim, experiment.limit, experiment.device, experiment.split)
    with threads(experiment.threads):
        results = benchmark(
            victim,
            experiment.attacks,
            norms=experiment.norm or None,
            eps=experiment.radii,
            steps=experiment.steps,
            schedules=experiment.schedule,
            restarts=experiment.restarts,
            limit=experiment.limit,
            batch_size=experiment.batch_size,
            seed=experiment.seed,
            device=experiment.device,
            command=command_line,
            progress=not command.quiet,
            listener=gallery,
            protocol=experiment.protocol,
            split=experiment.split,
            chunk=experiment.chunk,
            store=command.out,
            restart=command.restart,
            prepare=experiment.prepare,
        )
    if command.out is not None:
        write_text(command.out / CONFIG, experiment.to_yaml())
        written = write_report(command.out, results, gallery)
        say(f"{len(written)} files in {command.out}; start with {command.out / 'report.md'}")
    return results, victim
