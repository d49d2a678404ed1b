"""ART in ten lines: attack three tasks of one model at once."""

from art_mtl import PyTorchMultiTaskEstimator
from art_mtl.attacks import WorstTaskPGD
from art_mtl.evaluation import evaluate, load_victim

victim = load_victim("digits")
x, y = victim.data("test", 64)

estimator = PyTorchMultiTaskEstimator(
    victim.model, tasks=victim.tasks, input_shape=victim.input_shape, clip_values=victim.clip_values
)
attack = WorstTaskPGD(estimator, eps=0.1, max_iter=10, verbose=False)
x_adv = attack.generate(x, y)

for name, outputs in estimator.predict(x_adv).items():
    print(f"{name}: raw outputs {outputs.shape}, loss {estimator.compute_losses(x_adv, y)[name].mean():.2f}")
run = evaluate(estimator, {"mine": attack}, (x, y), progress=False)
print(f"least degraded task: {100 * run['mine'].delta_wor:.1f} %")
