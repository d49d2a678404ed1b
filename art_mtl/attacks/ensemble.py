"""The parameter-free ensemble, with ART's names."""

from typing import Any

import numpy as np

from art_mtl.attacks.base import Estimator, MultiTaskAttack
from art_mtl.attacks.options import FIXED_BATCHES
from art_mtl.core.configurable import arguments
from art_mtl.core.front_searches import EnsembleFront


class MultiTaskAutoAttack(EnsembleFront, MultiTaskAttack):
    """An ensemble of attacks without parameters; of each sample the worst case over its members is kept.

    After AutoAttack (Croce & Hein, ICML 2020). Members of "standard", 100 steps each: ``worst-task`` with its falling
    step, the same under Auto-PGD's rule, all tasks of each image at once, each task alone, classifications towards
    their three likeliest wrong classes, and a Square search of 1000 queries (Andriushchenko et al. 2020; L∞ and L2),
    which needs no gradients. "fast": 20 steps, without the third and the targeted ones, and 200 queries. Segmentation
    is never targeted: at each pixel the untargeted margin has the likeliest wrong class as its target already.

    A sample all of whose tasks are at full degradation (a score of 0 by the sample's own metric; an error never is)
    leaves before the next member. What decides is hard metrics, measured by forward passes of the model itself on every
    member's result. The results of all members are kept until the end: one copy of ``x`` each.

    Args:
        seed: Of the Square search; None draws from torch's global generator.

    Attributes:
        report: :class:`~art_mtl.core.searches.ensemble_report.EnsembleReport` of the last call: which member won where;
            None before.

    Examples:
        >>> import numpy as np, torch
        >>> from art_mtl import PyTorchMultiTaskEstimator, tasks
        >>> class Net(torch.nn.Module):
        ...     def forward(self, x):
        ...         return {"digit": x.flatten(1)[:, :10], "ink": x.mean((1, 2, 3))}
        >>> estimator = PyTorchMultiTaskEstimator(
        ...     Net(), tasks=[tasks.classification("digit", 10), tasks.regression("ink")],
        ...     input_shape=(1, 8, 8), clip_values=(0, 1))
        >>> x = np.random.default_rng(0).uniform(size=(4, 1, 8, 8)).astype(np.float32)
        >>> attack = MultiTaskAutoAttack(estimator, eps=0.1, version="fast", verbose=False)
        >>> x_adv = attack.generate(x)
        >>> attack.report.members
        ('worst-task', 'auto:worst-task', 'auto:single:digit', 'auto:single:ink', 'square')
        >>> sum(attack.report.counts.values())
        4
    """

    option_table = FIXED_BATCHES

    def __init__(
        self,
        estimator: Estimator,
        norm: float | str = np.inf,
        eps: Any = 0.3,
        version: str = "standard",
        selection: str = "population",
        batch_size: int = 32,
        seed: int | None = 0,
        verbose: bool = True,
        prepare: Any = None,
    ) -> None:
        super().__init__(**arguments(locals()))
