"""The work of a run: attacks × chunks, each a unit that depends on no other."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from art_mtl.core.chunks import chunks
from art_mtl.evaluation.attack import Attack, AttackInfo, generate
from art_mtl.evaluation.measure import Evaluator, protocol_labels
from art_mtl.evaluation.provenance import describe_data
from art_mtl.evaluation.runs.records import CLEAN, PICTURED, Unit, UnitResult
from art_mtl.evaluation.samples import Arrays, Source
from art_mtl.evaluation.step_recorder import StepRecorder, observed

__all__ = ["Job"]


class Job:
    """What is to be done, and how one unit of it is done.

    Args:
        evaluator: The model, measured.
        source: The data set.
        attacks: In order.
        chunk: Samples of a chunk; None for all.
        seed: Of every attack; None leaves the random generators alone.
        losses_every: See :class:`~art_mtl.evaluation.step_recorder.StepRecorder`.
        keeps_inputs: Keep all adversarial inputs.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        source: Source,
        attacks: Sequence[tuple[AttackInfo, Attack]],
        chunk: int | None,
        seed: int | None,
        losses_every: int = 0,
        keeps_inputs: bool = False,
    ) -> None:
        if chunk is not None and chunk < 1:
            raise ValueError(f"Parameter `chunk` should be at least 1, or None. Found {chunk}.")
        self.evaluator, self.source, self.attacks, self.seed = evaluator, source, attacks, seed
        self.chunk = len(source) if chunk is None else min(chunk, len(source))
        self.chunks = chunks(len(source), self.chunk)
        self.losses_every, self.keeps_inputs = losses_every, keeps_inputs
        self._held: tuple[int, Arrays] | None = None
        self._data = ""
        self._warned: set[str] = set()

    @property
    def units(self) -> list[Unit]:
        """Everything, in order: first all clean chunks, which tell whether labels will do, then chunk by chunk every
        attack, so that what is there at any moment compares attacks on the same samples.
        """
        clean = [Unit(CLEAN, c) for c in range(len(self.chunks))]
        return clean + [Unit(a, c) for c in range(len(self.chunks)) for a in range(1, len(self.attacks) + 1)]

    def label(self, unit: Unit) -> str:
        """Of a unit, for people."""
        return "clean" if unit.attack == CLEAN else self.attacks[unit.attack - 1][0].label

    def compute(self, unit: Unit) -> UnitResult:
        """Work one unit.

        Raises:
            ValueError: The attack broke its own promise, or labels do not fit.
        """
        x, y = self._read(unit.chunk)
        if unit.attack == CLEAN:
            part = self.evaluator.part(x, y, clean=True, first=self.chunks[unit.chunk].start)
            return UnitResult(part, data=self._data)
        info, attack = self.attacks[unit.attack - 1]
        watch = StepRecorder(self.losses_every)
        with observed(attack, watch), self._warnings(unit.chunk) as told:
            made = generate(info.name, attack, x, y, self.evaluator.estimator, self._seed(unit.chunk))
        pictured = PICTURED - self.chunks[unit.chunk].start
        return UnitResult(
            self.evaluator.part(made.inputs, y),
            seconds=made.seconds,
            perturbation=made.perturbation,
            steps=watch.table(),
            shown=made.inputs[:pictured].copy() if pictured > 0 else None,
            gradients=made.gradients,
            forwards=made.forwards,
            warnings=tuple(told),
            adversarial=made.inputs if self.keeps_inputs else None,
        )

    def _read(self, chunk: int) -> Arrays:
        if self._held is None or self._held[0] != chunk:
            self._held = None  # lest two chunks be in memory
            x, y = self.source.read(self.chunks[chunk])
            self._data = describe_data(x, y)
            self._held = chunk, (x, protocol_labels(self.evaluator.tasks, y, self.evaluator.protocol))
        return self._held[1]

    @contextmanager
    def _warnings(self, chunk: int) -> Iterator[list[str]]:
        """Pass warnings on, each once, and say from where a chunk's samples, which they may name, are counted.

        What was warned of stands in the list afterwards, each once.
        """
        told: list[str] = []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield told
        first = self.chunks[chunk].start
        for one in caught:
            text = str(one.message)
            if "sample" in text and first:
                text = f"{text} (Counted from sample {first}.)"
            if text not in told:
                told.append(text)
            if text not in self._warned:
                self._warned.add(text)
                warnings.warn_explicit(text, one.category, one.filename, one.lineno)

    def _seed(self, chunk: int) -> int | None:
        """A seed for each chunk; that of the first is the run's own."""
        if self.seed is None or chunk == 0:
            return self.seed
        return int(np.random.SeedSequence([self.seed, chunk]).generate_state(1)[0])
