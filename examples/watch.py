"""Watch a run: where the weights of the tasks go, step by step, on the screen and in TensorBoard."""

from art_mtl.evaluation import Callback, TensorBoardCallback, evaluate


class Weights(Callback):
    """Prints which task has the greatest weight at the end of each unit, and how it came there.

    Steps are kept on the device: to print them at once would make each of them wait. After a unit all is computed.
    """

    def on_begin(self, plan):
        self.tasks, self.steps = plan.tasks, []
        print(f"{plan.total - plan.done} units to do: {len(plan.attacks)} attacks on {plan.samples} samples in chunks")

    def on_step(self, attack, chunk, record):
        self.steps.append(record.weights.mean(0))

    def on_unit(self, report):
        if report.attack is not None:
            first, last = self.steps[0].tolist(), self.steps[-1].tolist()
            task = last.index(max(last))
            moved = f"{self.tasks[task]} {first[task]:.2f} → {last[task]:.2f}"
            print(f"{report.done}/{report.total} {report.attack.label}, {report.seconds:.1f} s: {moved}")
            self.steps.clear()

    def on_attack(self, result, examples):
        low, high = result.delta_wor_interval
        print(f"{result.name}: Δ_Wor {100 * result.delta_wor:.1f} % [{100 * low:.1f}, {100 * high:.1f}]")


callbacks = [Weights(), TensorBoardCallback("results/logs", losses_every=5)]
evaluate("digits", ["minmax", "worst-task"], eps=[0.05], limit=64, chunk=32, callbacks=callbacks, progress=False)
print("Look at the curves: tensorboard --logdir results/logs")
