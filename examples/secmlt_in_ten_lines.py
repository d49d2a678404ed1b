"""secml-torch in ten lines: the same model, the same attack, loaders in and out, losses and weights tracked."""

import torch
from torch.utils.data import DataLoader, StackDataset

from art_mtl.evaluation import load_victim
from art_mtl.secmlt import MinMaxMultiTaskPGD, TaskLossTracker, TaskWeightTracker

victim = load_victim("digits")
x, y = victim.data("test", 64)
labels = StackDataset(**{name: torch.from_numpy(values) for name, values in y.items()})
loader = DataLoader(StackDataset(torch.from_numpy(x), labels), batch_size=32)

losses, weights = TaskLossTracker(), TaskWeightTracker()
attack = MinMaxMultiTaskPGD(victim.tasks, epsilon=0.1, num_steps=10, trackers=[losses, weights])
adversarial = attack(victim.model, loader)

print(attack)
for k, task in enumerate(victim.tasks):
    first, last = losses.get()[:, k].mean(0)[[0, -1]]
    print(f"{task.name}: loss {first:.2f} -> {last:.2f}, mean weight {weights.get()[:, k].mean():.2f}")
right = sum((victim.model(samples)["left"].argmax(1) == known["left"]).sum().item() for samples, known in adversarial)
print(f"left: {100 * right / len(x):.0f} % still right")
