"""What each check demands, what a failure means, and what to do about it: the words of a diagnosis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["SANITY_CHECKS", "SanityCheck"]


@dataclass(frozen=True)
class SanityCheck:
    """The words of one check.

    Attributes:
        demand: What must hold.
        meaning: What it means if it does not.
        advice: What to do then.
    """

    demand: str
    meaning: str
    advice: str


SANITY_CHECKS: Mapping[str, SanityCheck] = MappingProxyType(
    {
        "gradient": SanityCheck(
            "Every task's loss has a finite gradient other than 0 on every sample.",
            "Where a task's gradient is 0, not finite, or too small for its floating-point type, no gradient attack "
            "can aim at that task, and its degradation is understated.",
            "Look for rounding, detach, no_grad, arg-max or conversions to integers on the way from input to output; "
            "where the model returns probabilities that are exactly 0 or 1, name its logits by output=; where the "
            "softmax of the loss saturates, divide the logits by a temperature in the attacked copy.",
        ),
        "deterministic": SanityCheck(
            "Two forward passes in evaluation mode agree, whatever the batch.",
            "Noise is left active inside forward (dropout with training=True, random resizing) or samples change "
            "each other (batch norm by the batch): metrics are draws of a lottery, and gradients are of another draw.",
            "Make forward obey the mode of its module; if the noise is a defence, attack and measure its expectation "
            "over many draws.",
        ),
        "differentiable": SanityCheck(
            "The gradient explains how outputs change along random directions inside the ball.",
            "The gradient is not that of the function which is measured: inputs are quantised, a head is detached, or "
            "a layer has a backward pass of its own.",
            "Attack with a differentiable stand-in for the step that loses the gradient (straight through for "
            "rounding), and measure on the model itself.",
        ),
        "more-steps": SanityCheck(
            "More steps are never weaker.",
            "The attack's steps do not serve the degradation that is reported: the step size is too large, or the "
            "gradient leads astray.",
            "Use a step size that decays (schedule linear) or keep the best iterate; look at the gradient's checks.",
        ),
        "convergence": SanityCheck(
            "Twice the steps are not stronger.",
            "The attack has not converged: what it reports depends on when it stopped, and understates what the model "
            "can suffer.",
            "Report the attack with twice the steps, and double them again until Δ_Wor no longer moves.",
        ),
        "larger-eps": SanityCheck(
            "A larger ε is never weaker.",
            "A larger ball holds the smaller one, so the attack does not find what is there.",
            "Scale the step size with ε, take more steps, add random restarts.",
        ),
        "huge-eps": SanityCheck(
            "An ε at which every input can be turned grey does at least the degradation of grey inputs and of noise.",
            "The attack fails where success is certain: its gradients are masked, or its steps do not reach far.",
            "Check that the perturbation grows with ε and that the gradient's checks pass; give more steps.",
        ),
        "noise": SanityCheck(
            "Random noise of the same ε is weaker.",
            "The attack points nowhere: its gradient does not lead uphill.",
            "Look at the gradient's checks; a step size far too large does this as well.",
        ),
        "reference": SanityCheck(
            "No task is degraded more by the attack on all tasks than by the attack on it alone.",
            "The single-task attacks are not at their best, so the reference made of them is too weak, and a "
            "comparison with it flatters the attack.",
            "Give the single-task attacks more steps or restarts; look for a task whose loss saturates.",
        ),
        "black-box": SanityCheck(
            "A search by queries alone does not degrade the worst task more than gradients do.",
            "Gradients are masked: the task is weaker than gradient attacks make it look.",
            "Trust the search's figure; look for what masks the gradient (quantisation, saturation, noise) and attack "
            "around it.",
        ),
        "transfer": SanityCheck(
            "Inputs made on a surrogate are not stronger than those made on the model itself.",
            "The model's gradients are masked, or the attack's loss is a poor guide (a cross-entropy that pays for "
            "what has flipped already, or that saturates).",
            "Report the transferred figure too; attack with the surrogate's gradient (rounding straight through, "
            "logits cooled) or with another objective, and measure on the model.",
        ),
    }
)
"""By name of the check, in the order in which reports print them."""
