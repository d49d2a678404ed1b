"""torchattacks in ten lines: the same model, the same attack, tensors in and out."""

import torch

from art_mtl.evaluation import load_victim
from art_mtl.torchattacks import MinMaxMultiTaskPGD

victim = load_victim("digits")
x, y = victim.data("test", 64)
images, labels = torch.from_numpy(x), {name: torch.from_numpy(values) for name, values in y.items()}

atk = MinMaxMultiTaskPGD(victim.model, victim.tasks, eps=0.1, steps=10)
adv_images = atk(images, labels)

print(atk)
for digit in ("left", "right"):
    right = (victim.model(adv_images)[digit].argmax(1) == labels[digit]).float().mean()
    print(f"{digit}: {100 * right:.0f} % still right")
