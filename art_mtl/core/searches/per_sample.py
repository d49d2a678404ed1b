"""The plain search: every sample has a perturbation of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from art_mtl.core.chunks import DEFAULT_CHUNK, batches, chunks
from art_mtl.core.engine import RunSetup


@dataclass(frozen=True)
class PerSampleSearch:
    """Attacks batch by batch.

    Args:
        one_batch: Whether a call is one batch of a stream whose length is not known, so that it goes on with the chunk
            of the calls before; else a call is cut into chunks.
    """

    one_batch: bool = False

    def run(self, setup: RunSetup) -> Tensor:
        """See :class:`~art_mtl.core.engine.Search`."""
        method, size = setup.method, len(setup.batch)
        goes_on = self.one_batch and method.scope == "dataset"
        if goes_on:
            setup.session.match(setup.settings(), setup.model)
            setup.session.make_room(method, size)
        elif self.one_batch:
            setup.session.forget()
        if self.one_batch:
            parts, fresh = [slice(0, size)], set[int]()
        else:
            shared = method.scope == "dataset"
            chunk = method.group or DEFAULT_CHUNK
            at_once = setup.engine.batch_size(setup, chunk if shared else None)
            parts = list(batches(size, at_once, method.scope, method.group))
            fresh = {part.start for part in chunks(size, chunk)} if shared else {0}
        setup.begin(len(parts) * setup.run_config.restarts * setup.run_config.steps)
        found = torch.empty_like(setup.batch.inputs)
        for number, part in enumerate(parts):
            if part.start in fresh:
                setup.session.reset()
            adversarial = setup.session.attack(
                setup.forward,
                setup.tasks,
                method,
                setup.run_config,
                setup.batch[part].to(setup.device),
                setup.config.norm,
                observer=setup.callbacks.observer(number),
                log=setup.log,
                first_index=part.start,
            )
            found[part] = adversarial.to(found.device)
        if goes_on:
            setup.session.learn(setup.model)
        return found
