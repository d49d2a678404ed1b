"""The work of a run: attacks × chains, each a unit that depends on no other."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from art_mtl.evaluation.attack import Attack, AttackInfo, generate
from art_mtl.evaluation.measure import Judge, protocol_labels
from art_mtl.evaluation.runs.records import CLEAN, PICTURED, Finished, Unit, chains_of
from art_mtl.evaluation.samples import Arrays, Source
from art_mtl.evaluation.watch import Watch, observed

__all__ = ["Job"]


class Job:
    """What is to be done, and how one unit of it is done.

    Args:
        judge: The model, measured.
        source: The data set.
        attacks: In order.
        chain: Samples of a chain; None for all.
        seed: Of every attack; None leaves the random generators alone.
    """

    def __init__(
        self,
        judge: Judge,
        source: Source,
        attacks: Sequence[tuple[AttackInfo, Attack]],
        chain: int | None,
        seed: int | None,
    ) -> None:
        if chain is not None and chain < 1:
            raise ValueError(f"Parameter `chain` should be at least 1, or None. Found {chain}.")
        self.judge, self.source, self.attacks, self.seed = judge, source, attacks, seed
        self.chain = len(source) if chain is None else min(chain, len(source))
        self.chains = chains_of(len(source), self.chain)
        self._held: tuple[int, Arrays] | None = None
        self._warned: set[str] = set()

    @property
    def units(self) -> list[Unit]:
        """Everything, in order: first all clean chains, which tell whether labels will do, then chain by chain every
        attack, so that what is there at any moment compares attacks on the same samples.
        """
        clean = [Unit(CLEAN, c) for c in range(len(self.chains))]
        return clean + [Unit(a, c) for c in range(len(self.chains)) for a in range(1, len(self.attacks) + 1)]

    def label(self, unit: Unit) -> str:
        """Of a unit, for people."""
        return "clean" if unit.attack == CLEAN else self.attacks[unit.attack - 1][0].label

    def compute(self, unit: Unit) -> Finished:
        """Work one unit.

        Raises:
            ValueError: The attack broke its own promise, or labels do not fit.
        """
        x, y = self._read(unit.chain)
        if unit.attack == CLEAN:
            return Finished(self.judge.part(x, y))
        info, attack = self.attacks[unit.attack - 1]
        watch = Watch()
        with observed(attack, watch), self._warnings(unit.chain):
            clip_values = self.judge.estimator.clip_values
            x_adv, perturbation, seconds = generate(info.name, attack, x, y, clip_values, self._seed(unit.chain))
        pictured = PICTURED - self.chains[unit.chain].start
        shown = x_adv[:pictured].copy() if pictured > 0 else None
        found = Finished(self.judge.part(x_adv, y), seconds, perturbation, watch.table())
        return replace(found, shown=shown)

    def _read(self, chain: int) -> Arrays:
        if self._held is None or self._held[0] != chain:
            self._held = None  # lest two chains be in memory
            x, y = self.source.read(self.chains[chain])
            self._held = chain, (x, protocol_labels(self.judge.tasks, y, self.judge.protocol))
        return self._held[1]

    @contextmanager
    def _warnings(self, chain: int) -> Iterator[None]:
        """Pass warnings on, each once, and say from where a chain's samples, which they may name, are counted."""
        if len(self.chains) == 1:
            yield
            return
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        first = self.chains[chain].start
        for one in caught:
            text = str(one.message)
            if "sample" in text and first:
                text = f"{text} (Counted from sample {first}.)"
            if text not in self._warned:
                self._warned.add(text)
                warnings.warn_explicit(text, one.category, one.filename, one.lineno)

    def _seed(self, chain: int) -> int | None:
        """A seed for each chain; that of the first is the run's own."""
        if self.seed is None or chain == 0:
            return self.seed
        return int(np.random.SeedSequence([self.seed, chain]).generate_state(1)[0])
