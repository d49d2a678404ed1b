"""From a model to a table, a data frame, a picture and a comparison; examples/evaluation.ipynb does the same."""

from art_mtl.evaluation import evaluate, load_victim

victim = load_victim("digits")
model, tasks = victim.model, victim.tasks
x, y = victim.data("test", 64)

# Each run is kept in a folder: start this file again and finished work is not computed twice.
attacks = ["equal", "minmax", "worst-task"]
ten = evaluate((model, tasks), attacks, (x, y), eps=[0.05, 0.1], out="results/ten", progress=False)
print(ten)

frame = ten.frame()  # needs pandas: pip install '.[report]'
print(frame[["attack", "eps", "task", "clean", "attacked", "delta"]].round(3).to_string(index=False))

ten.plot().savefig("results/ten.png")
print("picture in results/ten.png")

twenty = evaluate((model, tasks), attacks, (x, y), eps=[0.05, 0.1], steps=20, out="results/twenty", progress=False)
print(ten.compare(twenty))
