"""The work of a run: attacks × chunks, each a unit that depends on no other."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from art_mtl.core.chunks import chunks
from art_mtl.core.context import StepRecord
from art_mtl.data.sources import Arrays, Inputs, Source
from art_mtl.evaluation.attack import Attack, AttackInfo, generate
from art_mtl.evaluation.examples import Examples, extreme_samples
from art_mtl.evaluation.input_gradients import cosine_sums
from art_mtl.evaluation.measure import Evaluator, MetricState, deltas, protocol_labels, sample_metrics
from art_mtl.evaluation.provenance import describe_data
from art_mtl.evaluation.step_recorder import StepRecorder, observed
from art_mtl.evaluation.units import CLEAN, Unit, UnitResult
from art_mtl.labels import MultiTaskLabels

_NOT_SHOWN = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
"""What Python keeps from users, and so does a run."""
_COSINES = 32
"""First samples of a chunk on which the angles between the tasks' gradients are measured."""

OnStep = Callable[[Unit, StepRecord], None]

__all__ = ["Job", "OnStep"]


class Job:
    """What is to be done, and how one unit of it is done.

    Args:
        evaluator: The model, measured.
        source: The data set.
        attacks: In order.
        chunk: Samples of a chunk; None for all.
        seed: Of every attack; None leaves the random generators alone.
        threads: Of torch on the CPU, on which last bits of sums depend. None for as many as there are; of a model on a
            GPU, whose sums do not depend on them, None leaves them alone.
        keep_adversarial: All adversarial inputs are part of the results.
        losses_every: See :class:`~art_mtl.evaluation.step_recorder.StepRecorder`.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        source: Source,
        attacks: Sequence[tuple[AttackInfo, Attack]],
        chunk: int | None,
        seed: int | None,
        threads: int | None = None,
        keep_adversarial: bool = False,
        losses_every: int = 0,
    ) -> None:
        for name, value in (("chunk", chunk), ("threads", threads)):
            if value is not None and value < 1:
                raise ValueError(f"Parameter `{name}` should be at least 1, or None. Found {value}.")
        self.evaluator, self.source, self.attacks, self.seed = evaluator, source, attacks, seed
        self.chunk = len(source) if chunk is None else min(chunk, len(source))
        self.chunks = chunks(len(source), self.chunk)
        on_cpu = evaluator.estimator.device.type == "cpu"
        self.threads = torch.get_num_threads() if threads is None and on_cpu else threads
        self.keep_adversarial, self.losses_every = keep_adversarial, losses_every
        self._held: tuple[int, Arrays, str] | None = None
        self._clean: dict[int, Tensor] = {}

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

    def samples(self, chunk: int) -> str:
        """Of a chunk, for people."""
        return f"samples {self.chunks[chunk].start} to {self.chunks[chunk].stop - 1}"

    def compute(self, unit: Unit, on_step: OnStep | None = None) -> UnitResult:
        """Work one unit.

        Args:
            unit: Which.
            on_step: Called at every step of the attack with the unit and a :class:`~art_mtl.core.StepRecord`.

        Raises:
            ValueError: The attack broke its own promise, or labels do not fit.
        """
        (x, y), data = self._read(unit.chunk)
        with self._caught(unit.chunk) as texts:
            if unit.attack == CLEAN:
                part = self.evaluator.part(x, y, clean=True, first=self.chunks[unit.chunk].start)
                self._clean[unit.chunk] = sample_metrics(self.evaluator.scales, part)
                found = UnitResult(part, cosines=self._cosines(x, y))
            else:
                found = self._attacked(unit, x, y, on_step)
        return replace(found, warnings=tuple(texts), data=data)

    def _attacked(self, unit: Unit, x: Inputs, y: MultiTaskLabels, on_step: OnStep | None) -> UnitResult:
        info, attack = self.attacks[unit.attack - 1]
        recorder = StepRecorder(self.losses_every)
        with observed(attack, recorder, *([] if on_step is None else [partial(on_step, unit)])):
            made = generate(info.name, attack, x, y, self.evaluator.estimator, self._seed(unit.chunk))
        part = self.evaluator.part(made.inputs, y)
        return UnitResult(
            part,
            seconds=made.seconds,
            perturbation=made.perturbation,
            steps=recorder.table(),
            examples=self._examples(unit.chunk, part, made.inputs),
            gradients=made.gradients,
            forwards=made.forwards,
            adversarial=made.inputs if self.keep_adversarial else None,
        )

    def _cosines(self, x: Inputs, y: MultiTaskLabels) -> Tensor | None:
        """A model that cannot be differentiated can be attacked too."""
        try:
            return cosine_sums(self.evaluator.estimator, x[:_COSINES], y[:_COSINES], self.evaluator.batch_size)
        except (RuntimeError, ValueError) as error:
            warnings.warn(
                f"The angles between the tasks' gradients are not known: {error}", RuntimeWarning, stacklevel=2
            )
            return None

    def _examples(self, chunk: int, part: MetricState, inputs: Inputs) -> Examples:
        """The inputs of the samples that are degraded least and most."""
        attacked = sample_metrics(self.evaluator.scales, part)
        degradations = deltas(self.evaluator.scales, attacked, self._clean_metrics(chunk)).numpy()
        chosen = extreme_samples(degradations, inputs[0].nbytes)
        first = self.chunks[chunk].start
        return Examples(tuple(first + i for i in chosen), inputs[chosen])

    def _clean_metrics(self, chunk: int) -> Tensor:
        """Of each sample; measured anew where another process, or an earlier one, had the clean unit."""
        if chunk not in self._clean:
            (x, y), _ = self._read(chunk)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the clean unit has given them
                self._clean[chunk] = sample_metrics(self.evaluator.scales, self.evaluator.part(x, y))
        return self._clean[chunk]

    def _read(self, chunk: int) -> tuple[Arrays, str]:
        if self._held is None or self._held[0] != chunk:
            self._held = None  # lest two chunks be in memory
            x, y = self.source.read(self.chunks[chunk])
            labels = protocol_labels(self.evaluator.tasks, y, self.evaluator.protocol)
            self._held = chunk, (x, labels), describe_data(x, y)
        return self._held[1:]

    @contextmanager
    def _caught(self, chunk: int) -> Iterator[list[str]]:
        """The warnings that are given meanwhile, each once, with the place from where a chunk's samples, which they may
        name, are counted. The driver passes them on, once for the whole run.
        """
        texts: list[str] = []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield texts
        first = self.chunks[chunk].start
        for one in caught:
            text = str(one.message)
            if issubclass(one.category, _NOT_SHOWN):
                warnings.warn_explicit(text, one.category, one.filename, one.lineno)
                continue
            if "sample" in text and first:
                text = f"{text} (Counted from sample {first}.)"
            if text not in texts:
                texts.append(text)

    def _seed(self, chunk: int) -> int | None:
        """A seed for each chunk; that of the first is the run's own."""
        if self.seed is None or chunk == 0:
            return self.seed
        return int(np.random.SeedSequence([self.seed, chunk]).generate_state(1)[0])
