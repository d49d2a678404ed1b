"""The engine: what every attack of every host does with a call. Validate, restrict, configure, run, warn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from art_mtl.core.batch import (
    AttackBatch,
    Names,
    check_inputs,
    check_mask,
    check_targets,
    check_tensor,
    predicted_labels,
    radius,
)
from art_mtl.core.batch_size import BatchSize, measure_batch_size
from art_mtl.core.before_activation import BeforeActivation
from art_mtl.core.checks import AUTO
from art_mtl.core.config import AttackConfig
from art_mtl.core.forward import Forward, ForwardBackward, MicroBatching
from art_mtl.core.inference import normal_tensors, outside_inference_mode
from art_mtl.core.lending import frozen
from art_mtl.core.loop import Observer
from art_mtl.core.method import Method
from art_mtl.core.run_log import RunLog
from art_mtl.core.session import Session
from art_mtl.core.threat import RunConfig
from art_mtl.labels import MultiTaskLabels
from art_mtl.precision import dtype_of
from art_mtl.prepared import Preparation, PreparedCache
from art_mtl.tasks import Task

OWN_LABELS_BATCH = 32
"""Samples a forward pass where labels are predicted before a batch size is measured."""


@dataclass(frozen=True)
class AttackedModel:
    """A model as the engine sees it.

    Attributes:
        module: The user's, whose state is kept.
        tasks: K tasks.
        device: Where it computes.
        forward: Inputs to one raw output a task, differentiable.
        prepared: ``(how, inputs) -> forward``: the same on a prepared copy.
        own_labels: ``(inputs, batch size) -> labels``: the model's own clean predictions.
        evaluate: Whether it is put into evaluation mode.
        channels_first: Where the channels of its inputs stand.
        whole: What holds everything that a result depends on, where it is more than the module.
    """

    module: torch.nn.Module
    tasks: tuple[Task, ...]
    device: torch.device
    forward: Forward
    prepared: Callable[[Any, Tensor], Forward]
    own_labels: Callable[[Tensor, int], MultiTaskLabels]
    evaluate: bool = True
    channels_first: bool = True
    whole: Any = None

    @property
    def attackable(self) -> Tensor | None:
        """0 where an input is only given with a sample, see :class:`art_mtl.models.SeveralInputs`; None: it may be
        changed everywhere.
        """
        return getattr(self.module, "attackable", None)

    @classmethod
    def of(
        cls,
        module: torch.nn.Module,
        tasks: tuple[Task, ...],
        cache: PreparedCache,
        before: Callable[[Tensor], Tensor],
        after: Callable[[Any], Any],
        device: torch.device | None = None,
        **settings: Any,
    ) -> AttackedModel:
        """A module as a host calls it.

        Args:
            module: The user's.
            tasks: K tasks.
            cache: Keeps its prepared copies.
            before: What becomes of inputs before they enter the module.
            after: What becomes of its raw outputs.
            device: Where it computes; None for where its parameters are.
            **settings: Attributes of the object.
        """

        def outputs(network: BeforeActivation, x: Tensor) -> list[Any]:
            return network(before(x).to(dtype_of(module)), after)

        def prepared(how: Any, inputs: Tensor) -> Forward:
            settings = Preparation.parse(how)
            if settings is None:
                return forward
            with torch.no_grad():
                copied = cache(module, before(inputs[:2].to(place)).to(dtype_of(module)), settings)
            return partial(outputs, BeforeActivation(copied, tasks))

        def own_labels(inputs: Tensor, size: int) -> MultiTaskLabels:
            with torch.no_grad(), frozen(module):
                network = ForwardBackward(forward, MicroBatching(), tasks)
                parts = [network.no_grad(part.to(place)) for part in torch.split(inputs, size)]
            return MultiTaskLabels.concatenate([predicted_labels(tasks, part) for part in parts])

        place = device or next(module.parameters(), torch.empty(0, device="cpu")).device
        forward = partial(outputs, BeforeActivation(module, tasks))
        return cls(module, tasks, place, forward, prepared, own_labels, **settings)


class Callbacks:
    """What a host hears of a run. This base hears nothing."""

    def begin(self, steps: int, tasks: Sequence[str]) -> None:
        """The run begins: so many steps of so many batches, or queries of samples, on these tasks."""

    def observer(self, batch: int) -> Observer | None:
        """What is called at every step of a batch, by its number; None for nothing."""
        return None

    def member_observer(self, member: str) -> Observer | None:
        """What is called at every step of a member of an ensemble, by its name; None for nothing."""
        return None

    def advance(self, steps: int, what: str) -> None:
        """An ensemble is so many steps of samples further, with the member ``what``, which has left these out."""

    def end(self) -> None:
        """The run has ended, also by an exception."""


def naming(member: str, observer: Observer) -> Observer:
    """An observer that hands a member's steps on with its name. Of a member of a member, the inner name is kept."""
    return lambda record: observer(record if record.member is not None else replace(record, member=member))


class Observing(Callbacks):
    """Hands every step to a function; None for nobody."""

    def __init__(self, observer: Observer | None) -> None:
        self._observer = observer

    def observer(self, batch: int) -> Observer | None:
        return self._observer

    def member_observer(self, member: str) -> Observer | None:
        return None if self._observer is None else naming(member, self._observer)


@dataclass(frozen=True)
class Call:
    """What a host hands over for one call.

    Attributes:
        model: The model.
        inputs: Clean inputs ``(N, ...)``; where they are is where the result will be.
        labels: Labels in any form; None for the model's own clean predictions.
        bounds: Lower and upper bound of the inputs.
        mask: 0 where nothing may change, broadcastable to the inputs.
        names: What the host calls its arguments.
        callbacks: What the host hears.
        settings: Gives everything beside model and data that decides a result. Where it, or the model, differs from
            that of the last call, running statistics start anew. Asked where there are some.
    """

    model: AttackedModel
    inputs: Tensor
    labels: Any
    bounds: tuple[Any, Any]
    mask: Any = None
    names: Names = Names()
    callbacks: Callbacks = field(default_factory=Callbacks)
    settings: Callable[[], Any] = lambda: ()


@dataclass
class RunSetup:
    """Everything that a search needs.

    Attributes:
        forward: What the gradient steps run on, of the tasks that have labels.
        exact: The same of the model itself.
        tasks: The tasks that have labels.
        method: For these tasks.
        batch: All samples of the call.
        config: The attack's options.
        run_config: How long and from where, for the loop.
        device: Where the model computes.
        engine: Of the attack object.
        session: What outlives the call.
        callbacks: What the host hears.
        log: Gets what went wrong.
        settings: Gives everything beside the model that decides a result, as it is now.
        model: As :meth:`~art_mtl.core.session.Session.match` takes it.
    """

    forward: Forward
    exact: Forward
    tasks: tuple[Task, ...]
    method: Method
    batch: AttackBatch
    config: AttackConfig
    run_config: RunConfig
    device: torch.device
    engine: Engine
    session: Session
    callbacks: Callbacks
    log: RunLog = field(default_factory=RunLog)
    settings: Callable[[], Any] = lambda: ()
    model: Any = None

    @property
    def seed(self) -> int:
        """The seed of what is drawn in any case."""
        return int(self.config.seed or 0)

    @property
    def samples_at_once(self) -> int:
        """Samples a batch, where that is not to be measured."""
        size = self.config.batch_size
        return len(self.batch) if size is None else int(size)

    def begin(self, steps: int) -> None:
        """Tell the host that the run begins."""
        self.callbacks.begin(steps, [task.name for task in self.tasks])


class Search(Protocol):
    """What is done with a call: attack each sample, find one perturbation or patch for all, run an ensemble."""

    def run(self, setup: RunSetup) -> Tensor:
        """The adversarial inputs, beside and of the shape of ``setup.batch.inputs``."""


@dataclass
class Evaluations:
    """How many samples the model was evaluated on.

    Attributes:
        gradients: Backward passes, each with its forward pass where it has one of its own.
        forwards: Forward passes without any backward pass.
    """

    gradients: int = 0
    forwards: int = 0

    def counted(self, forward: Forward) -> Forward:
        """The same forward pass, counted, and each time that its inputs get a gradient."""

        def run(x: Tensor) -> Sequence[Any]:
            self.forwards += len(x)
            if torch.is_grad_enabled() and x.requires_grad:
                x.register_hook(self._backward(len(x)))  # type: ignore[no-untyped-call]
            return forward(x)

        return run

    def _backward(self, samples: int) -> Callable[[Tensor], None]:
        """What is called with each gradient of one forward pass."""
        undifferentiated = samples

        def hook(_: Tensor) -> None:
            nonlocal undifferentiated
            self.gradients += samples
            self.forwards -= undifferentiated
            undifferentiated = 0

        return hook


class Engine:
    """Runs the calls of one attack object, and keeps what outlives a call.

    Attributes:
        evaluations: Of the last call.
        session: Running statistics of the chunk.
        measured: The batch size that "auto" has found; None before.
        calls: How many calls there were, from which random radii are drawn.
    """

    def __init__(self) -> None:
        self.session = Session()
        self.measured: BatchSize | None = None
        self.calls = 0
        self.evaluations = Evaluations()

    def reset(self) -> None:
        """Forget the batches seen so far, and count calls anew."""
        self.session.reset()
        self.calls = 0

    def run(self, search: Search, config: AttackConfig, call: Call) -> Tensor:
        """One call.

        Args:
            search: What is done.
            config: The attack's options.
            call: What the host hands over.

        Returns:
            Adversarial inputs like those of the call.

        Raises:
            TypeError: Inputs or labels of a wrong type.
            ValueError: Shapes, values or labels do not fit; the message says which.
        """
        check_tensor(call.names.inputs, call.inputs)
        with outside_inference_mode():
            inputs, labels = normal_tensors(call.inputs.detach()), normal_tensors(call.labels)
            return self._run(search, config, replace(call, inputs=inputs, labels=labels))

    def _run(self, search: Search, config: AttackConfig, call: Call) -> Tensor:
        batch = self._validate(config, call)
        setup = self._configure(config, call, batch)
        setup.settings = lambda: (call.settings(), setup.method, batch.kept)
        self.calls += 1
        self.evaluations = Evaluations()
        setup.forward, setup.exact = self.evaluations.counted(setup.forward), self.evaluations.counted(setup.exact)
        try:
            with frozen(call.model.module, evaluate=call.model.evaluate):
                found = search.run(setup)
        finally:
            call.callbacks.end()
        setup.log.warn(len(batch))
        return found

    def _validate(self, config: AttackConfig, call: Call) -> AttackBatch:
        names, labels = call.names, call.labels
        lower, upper = (radius(names.bounds, bound, call.inputs) for bound in call.bounds)
        inputs = check_inputs(names.inputs, call.inputs, (lower, upper), names.bounds)
        allowed = check_mask(call.mask, inputs)
        attackable = check_mask(call.model.attackable, inputs)
        if attackable is not None:
            allowed = attackable if allowed is None else attackable * allowed
        own = labels is None
        if own and config.targeted:
            raise ValueError(
                f"Parameter `{names.labels}` should hold the target labels for a targeted attack. Found None."
            )
        if own:
            size = OWN_LABELS_BATCH if config.batch_size == AUTO else config.batch_size
            labels = call.model.own_labels(inputs, len(inputs) if size is None else int(size))
        kept, targets = check_targets(
            call.model.tasks, labels, len(inputs), some=config.targeted, own=own, argument=call.names.labels
        )
        return AttackBatch(
            inputs=inputs,
            targets=tuple(target.to(inputs.device) for target in targets),
            eps=radius(names.eps, config.eps, inputs),
            bounds=(lower, upper),
            step_size=None if config.step_size is None else radius(names.step_size, config.step_size, inputs),
            mask=allowed,
            own_labels=own,
            kept=kept,
        )

    def _configure(self, config: AttackConfig, call: Call, batch: AttackBatch) -> RunSetup:
        model = call.model
        tasks = tuple(model.tasks[k] for k in batch.kept)
        method = config.assemble(model.tasks)
        if len(tasks) < len(model.tasks):
            method = method.restrict(batch.kept, model.tasks)
        return RunSetup(
            forward=_some_outputs(model.prepared(config.prepare, batch.inputs), batch.kept),
            exact=_some_outputs(model.forward, batch.kept),
            tasks=tasks,
            method=method,
            batch=batch,
            config=config,
            run_config=config.run_config(tasks, batch.own_labels, model.device, model.channels_first),
            device=model.device,
            engine=self,
            session=self.session,
            callbacks=call.callbacks,
            model=model.module if model.whole is None else model.whole,
        )

    def batch_size(self, setup: RunSetup, most: int | None) -> int:
        """Samples a batch: the number that was asked for, or what is measured for "auto".

        It is measured again where a call has more samples than the last measurement could use.

        Args:
            setup: The call.
            most: Samples that a batch may hold, whatever there are; None for all.
        """
        if setup.config.batch_size != AUTO:
            return setup.samples_at_once
        available = len(setup.batch) if most is None else min(most, len(setup.batch))
        if self.measured is None or (self.measured.ran_out and available > self.measured.size):
            self.measured = measure_batch_size(setup.forward, setup.batch.inputs[:available], setup.device)
        return self.measured.size


def _some_outputs(forward: Forward, kept: Sequence[int]) -> Forward:
    """The forward pass that shows the outputs of some of the tasks."""

    def run(x: Tensor) -> Sequence[Tensor]:
        outputs = forward(x)
        return [outputs[k] for k in kept]

    return run
