"""The README's claim in small: worst-task has the deepest Δ_Wor, rivals as published and with the decaying step."""

from __future__ import annotations

import pytest

from art_mtl.evaluation import benchmark, load_victim


@pytest.mark.parametrize("eps", [0.05, 0.1])
def test_worst_task_damages_its_worst_task_most(eps):
    rivals = ["equal", "normalize", "dgba", "alternate", "minmax", "minmax-official"]
    results = benchmark(
        load_victim("digits"),
        [*rivals, "worst-task"],
        eps=[eps],
        schedules=("published", "linear"),
        limit=128,
        batch_size=64,
        progress=False,
    )
    assert len(results.attacks) == 2 * len(rivals) + 1
    assert {attack.steps for attack in results.attacks} == {10}
    best_rival = min(attack.delta_wor for attack in results.attacks if attack.method != "worst-task")
    assert results["worst-task"].delta_wor < best_rival - 0.03
