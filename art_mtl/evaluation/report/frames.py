"""Results as a data frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from art_mtl.evaluation.results import AttackResult, Interval, Number, Results

if TYPE_CHECKING:
    import pandas

__all__ = ["figures_of", "to_frame", "with_interval"]


def to_frame(results: Results) -> pandas.DataFrame:
    """See :meth:`art_mtl.evaluation.Run.frame`."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError("A data frame needs the package pandas. Install it with: pip install '.[report]'") from error
    frame: pandas.DataFrame = pandas.DataFrame([row for attack in results.attacks for row in _rows(results, attack)])
    return frame


def figures_of(attack: AttackResult) -> dict[str, Number]:
    """What an attack has once, and not for each task: degradations with the ends of their intervals, and cost."""
    return {
        **with_interval("delta_mtl", attack.delta_mtl, attack.delta_mtl_interval),
        **with_interval("delta_wor", attack.delta_wor, attack.delta_wor_interval),
        "per_image_worst": attack.least_degradation,
        "gradient_evaluations": attack.gradient_evaluations,
        "forward_evaluations": attack.forward_evaluations,
        "seconds": attack.seconds,
        "perturbation": attack.perturbation,
    }


def with_interval(name: str, value: Number, interval: Interval) -> dict[str, Number]:
    """A figure and the ends of its interval, by name."""
    low, high = (None, None) if interval is None else interval
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _rows(results: Results, attack: AttackResult) -> list[dict[str, Any]]:
    of_attack = {**figures_of(attack), "samples": attack.samples}
    head = {"attack": attack.name, "norm": attack.norm, "eps": attack.eps}
    head |= {"schedule": attack.schedule, "steps": attack.steps}
    rows = [
        {
            **head,
            "task": task.name,
            "metric": task.metric,
            "clean": task.clean,
            "attacked": attack.values[k],
            **with_interval("delta", attack.deltas[k], attack.delta_intervals[k]),
            **of_attack,
        }
        for k, task in enumerate(results.tasks)
    ]
    if not results.measures:
        return rows
    further = zip(results.measures, attack.measures, attack.measure_intervals, strict=True)
    return rows + [
        {
            **head,
            "task": one.task,
            "metric": one.metric,
            "measure": one.name,
            **with_interval("clean", one.clean, one.clean_interval),
            **with_interval("attacked", value, interval),
            "samples": attack.samples,
        }
        for one, value, interval in further
    ]
