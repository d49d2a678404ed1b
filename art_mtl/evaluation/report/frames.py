"""Results as a data frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from art_mtl.evaluation.results import AttackResult, Interval, Results

if TYPE_CHECKING:
    import pandas

__all__ = ["to_frame"]


def to_frame(results: Results) -> pandas.DataFrame:
    """See :meth:`art_mtl.evaluation.Run.frame`."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError("A data frame needs the package pandas. Install it with: pip install '.[report]'") from error
    frame: pandas.DataFrame = pandas.DataFrame([row for attack in results.attacks for row in _rows(results, attack)])
    return frame


def _rows(results: Results, attack: AttackResult) -> list[dict[str, Any]]:
    of_attack = {
        **_with_interval("delta_mtl", attack.delta_mtl, attack.delta_mtl_interval),
        **_with_interval("delta_wor", attack.delta_wor, attack.delta_wor_interval),
        "per_image_worst": attack.least_degradation,
        "gradient_evaluations": attack.gradient_evaluations,
        "forward_evaluations": attack.forward_evaluations,
        "seconds": attack.seconds,
        "perturbation": attack.perturbation,
        "samples": attack.samples,
    }
    head = {"attack": attack.name, "norm": attack.norm, "eps": attack.eps}
    head |= {"schedule": attack.schedule, "steps": attack.steps}
    return [
        {
            **head,
            "task": task.name,
            "metric": task.metric,
            "clean": task.clean,
            "attacked": attack.values[k],
            **_with_interval("delta", attack.deltas[k], attack.delta_intervals[k]),
            **of_attack,
        }
        for k, task in enumerate(results.tasks)
    ]


def _with_interval(name: str, value: float | None, interval: Interval) -> dict[str, float | None]:
    low, high = (None, None) if interval is None else interval
    return {name: value, f"{name}_low": low, f"{name}_high": high}
