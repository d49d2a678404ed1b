"""What the words of a report mean: the only copy."""

from __future__ import annotations

from art_mtl.evaluation.report.tables import describe_protocol, heading
from art_mtl.evaluation.results import Results

__all__ = ["glossary"]


def glossary(results: Results) -> list[tuple[str, str]]:
    """Terms with their meanings, in plain text."""
    metrics = "; ".join(heading(task) for task in results.tasks)
    scale = (
        "in the scale of the model's input"
        if results.clip_values is None
        else "in the scale of the model's input, [{:g}, {:g}]".format(*results.clip_values)
    )
    return [
        ("ε", f"The radius: how far an attack may move an input, in the norm that stands beside it and {scale}."),
        (
            "Δ",
            "The relative degradation of a task's metric. Negative is worse, everywhere: 0 % is unharmed, −100 % is "
            "ruin. Of an error that doubles it is −50 %.",
        ),
        ("Δ_MTL", "The mean of Δ over the tasks."),
        (
            "Δ_Wor",
            "Δ of the least degraded task, the safest one. An attack with a strong Δ_Wor leaves no task standing.",
        ),
        (
            "95 % interval",
            "From a paired bootstrap over the samples. The strongest Δ_Wor of a norm and radius is bold; a sentence "
            "says whether it is significantly stronger than the strongest attack of another role.",
        ),
        ("baseline", "A method that is published elsewhere."),
        ("ours", "A method of this package."),
        ("ensemble", "Several attacks, of which the strongest result for each sample is kept."),
        ("reference", "An attack on one task only. References do not compete and are never bold."),
        (
            "single-task reference",
            "Each task degraded by the attack on it alone. The smallest of these degradations is an empirical limit on "
            "Δ_Wor.",
        ),
        ("foreign", "An attack of another package, of which nothing more is known."),
        (
            "per-image worst-task Δ",
            "The Δ of each sample's own least degraded task, averaged over the samples (0 where the attack improves "
            "it). Samples that were wrong before the attack have nothing to lose in that task.",
        ),
        (
            "gradient evaluations",
            "How often each sample passed through the model with a gradient, as counted. Attacks are comparable where "
            "these numbers are.",
        ),
        ("+ linear step", "The method with steps that fall to 0 in place of its constant ones."),
        ("metrics", f"Over the whole data set: {metrics}. {describe_protocol(results.protocol)}"),
    ]
