"""How a model is prepared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch

PRECISIONS: Mapping[str, torch.dtype | None] = MappingProxyType(
    {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
)
"""Name to the dtype of the weights; None leaves them as they are."""
_SWITCHES = ("memory-efficient", "compile", "graphs")


@dataclass(frozen=True)
class Preparation:
    """How a model is prepared; see :func:`art_mtl.prepared.prepare`.

    Args:
        fold: Fold batch norms into the convolutions before them.
        channels_last: Weights and inputs in channels-last layout, which convolutions are faster in.
        precision: "fp32" (the model's own, whatever that is), "bf16" or "fp16": dtype of weights and activations.
            Inputs are cast on entry and outputs back; batch norms that stay keep their own precision.
        memory_efficient: Convolutions keep nothing but their weights for the backward pass, and ReLUs a byte an element
            in place of their output. Outputs and input gradients are the same bit for bit.
        compile: Run through :func:`torch.compile`; the first pass of every input shape takes long.
        graphs: Replay passes as CUDA graphs, by ``torch.compile(mode="reduce-overhead")``: for small batches, which
            wait for kernels to be launched. CUDA only.

    Raises:
        ValueError: An unknown precision.

    Examples:
        >>> Preparation.parse("bf16,memory-efficient")
        Preparation(fold=True, channels_last=True, precision='bf16', memory_efficient=True, compile=False, graphs=False)
        >>> Preparation.parse("exact") is None
        True
    """

    fold: bool = True
    channels_last: bool = True
    precision: str = "fp32"
    memory_efficient: bool = False
    compile: bool = False
    graphs: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"Parameter `precision` should be one of {', '.join(PRECISIONS)}. Found {self.precision!r}."
            )

    @classmethod
    def parse(cls, how: Preparation | str | None) -> Preparation | None:
        """From what a knob takes.

        Args:
            how: None or "exact" for the model as it is; "fp32", "bf16" or "fp16", and behind it, each after a comma,
                any of "memory-efficient", "compile" and "graphs"; or the object itself.

        Returns:
            None for the model as it is.

        Raises:
            TypeError: Neither a string nor a preparation.
            ValueError: Another string.
        """
        if how is None or how == "exact":
            return None
        if isinstance(how, Preparation):
            return how
        if not isinstance(how, str):
            raise TypeError(f"Parameter `prepare` should be a string, a Preparation or None. Found {how!r}.")
        precision, *switches = [word.strip() for word in how.split(",")]
        if precision not in PRECISIONS or not set(switches) <= set(_SWITCHES) or len(set(switches)) < len(switches):
            raise ValueError(
                f"Parameter `prepare` should be 'exact', or one of {', '.join(PRECISIONS)} and any of "
                f"{', '.join(_SWITCHES)} behind it, such as 'bf16,memory-efficient'. Found {how!r}."
            )
        return cls(precision=precision, **{switch.replace("-", "_"): True for switch in switches})

    def __str__(self) -> str:
        return ",".join([self.precision, *(switch for switch in _SWITCHES if getattr(self, switch.replace("-", "_")))])
