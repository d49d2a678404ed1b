"""The claims in small, baselines as published and with the decaying step: worst-task has the strongest Δ_Wor,
worst-image the strongest mean least degradation.
"""

from __future__ import annotations

import pytest

from art_mtl.evaluation import evaluate, load_victim


@pytest.mark.parametrize("eps", [0.05, 0.1])
def test_each_reading_of_worst_case_has_its_method(eps):
    baselines = ["equal", "normalize", "dgba", "alternate", "minmax", "minmax-official"]
    results = evaluate(
        load_victim("digits"),
        [*baselines, "worst-task", "worst-image"],
        eps=[eps],
        schedule=("published", "linear"),
        limit=128,
        batch_size=64,
        progress=False,
    ).results
    assert len(results.attacks) == 2 * len(baselines) + 2
    assert {attack.steps for attack in results.attacks} == {10}
    found_rivals = [attack for attack in results.attacks if attack.method in baselines]
    assert results["worst-task"].delta_wor < min(attack.delta_wor for attack in found_rivals) - 0.03
    assert results["worst-image"].least_degradation < min(attack.least_degradation for attack in found_rivals) - 0.03
    assert results["worst-image"].least_degradation < results["worst-task"].least_degradation - 0.005
