"""On CUDA: metrics and the loop give what they give on a CPU. (Estimator and fronts: beside their own.)"""

from __future__ import annotations

import math

import pytest
import torch

from art_mtl.core import METHODS, attack, make_method
from art_mtl.core.loop import Plan, Threat

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
    cpu = attack(case.forward, case.x, case.tasks, case.targets, method, case.threat(norm, eps), Plan(3))
    threat = case.threat(norm, eps)
    lower, upper = threat.bounds
    on_gpu = Threat(norm, threat.eps.cuda(), (lower.cuda(), upper.cuda()))
    targets = [target.to("cuda") for target in case.targets]

    def forward(x):
        return [output.cuda() for output in case.forward(x.cpu())]

    gpu = attack(forward, case.x.cuda(), case.tasks, targets, method, on_gpu, Plan(3))
    torch.testing.assert_close(cpu, gpu.cpu(), atol=1e-6, rtol=0)
