"""On CUDA: metrics and the loop give what they give on a CPU. (Estimator and fronts: beside their own.)"""

from __future__ import annotations

import math
import warnings

import pytest
import torch

from art_mtl.core import METHODS, RunConfig, ThreatModel, attack, make_method
from art_mtl.prepared import prepare as prepared

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def test_metrics(dense_case):
    case = dense_case(dtype=torch.float32)
    for task, output, target in zip(case.tasks, case.forward(case.x), case.targets, strict=True):
        cpu, gpu = task.statistics(output, target), task.statistics(output.cuda(), target.to("cuda"))
        torch.testing.assert_close(task.metric.value(cpu.sum(0)), task.metric.value(gpu.sum(0)).cpu())
        metric = task.metric.torchmetric().cuda()
        metric.update(*task.metric.arguments(output.cuda(), target.to("cuda").value, target.to("cuda").valid))
        torch.testing.assert_close(metric.compute().double().cpu(), task.metric.value(cpu.sum(0)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("norm, eps", [(math.inf, 0.05), (2, 0.5), (1, 2.0)])
@pytest.mark.parametrize("name", list(METHODS))
def test_loop(dense_case, name, norm, eps):
    case = dense_case(dtype=torch.float64)
    method = make_method(name, case.tasks)
    cpu = attack(case.forward, case.x, case.tasks, case.targets, method, case.threat(norm, eps), RunConfig(3))
    threat = case.threat(norm, eps)
    lower, upper = threat.bounds
    on_gpu = ThreatModel(norm, threat.eps.cuda(), (lower.cuda(), upper.cuda()))
    targets = [target.to("cuda") for target in case.targets]

    def forward(x):
        return [output.cuda() for output in case.forward(x.cpu())]

    gpu = attack(forward, case.x.cuda(), case.tasks, targets, method, on_gpu, RunConfig(3))
    torch.testing.assert_close(cpu, gpu.cpu(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("prepare", [None, "fp32,memory-efficient", "bf16"])
@pytest.mark.parametrize(
    "name", ["equal", "normalize", "dgba", "minmax", "minmax-official", "worst-task", "single:depth"]
)
def test_no_step_waits_for_the_device(dense_case, name, prepare):
    """More steps make no more host synchronisations; those of a whole call are counted."""
    case = dense_case(dtype=torch.float32)
    lower, upper = case.threat(math.inf, 0.05).bounds
    threat = ThreatModel(math.inf, torch.full((1, 1, 1, 1), 0.05, device="cuda"), (lower.cuda(), upper.cuda()))
    targets, x = [target.to("cuda") for target in case.targets], case.x.cuda()
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8)).cuda().eval()
    net = net if prepare is None else prepared(net, x, prepare)

    def forward(inputs):
        out = net(inputs)
        return [out[:, :4], out[:, 4:5] + 2, torch.nn.functional.normalize(out[:, 5:], dim=1)]

    def waits(steps):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                attack(forward, x, case.tasks, targets, make_method(name, case.tasks), threat, RunConfig(steps))
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return sum("synchroniz" in str(warning.message) for warning in seen)

    waits(2)
    assert waits(12) == waits(4) <= 2
