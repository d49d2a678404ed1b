# make demo   see which of a multi-task model's tasks break under which attack
# make test   run every test
# Both make a virtual environment and install everything they need.

PYTHON ?= python3
VENV ?= .venv
OUT ?= results
WORKERS ?= 2

PY := $(VENV)/bin/python

.PHONY: demo test trackers libraries lint types docs check clean

DEMO := --attacks equal minmax worst-task --force --restart

demo: $(VENV)/.base
	$(VENV)/bin/art-mtl benchmark --victim digits --eps 0.1 --limit 64 --out $(OUT)/digits $(DEMO)
	$(VENV)/bin/art-mtl benchmark --victim rooms --eps 4/255 --limit 16 --out $(OUT)/rooms $(DEMO)

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -n $(WORKERS)

trackers: $(VENV)/.trackers
	PYTHONPATH=$(VENV)/trackers OMP_NUM_THREADS=1 $(PY) -m pytest -q tests/evaluation/test_trackers.py

libraries: $(VENV)/.libraries
	PYTHONPATH=$(VENV)/libraries OMP_NUM_THREADS=1 $(PY) -m pytest -q tests/fronts/test_model_libraries.py

lint: $(VENV)/.dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: $(VENV)/.dev
	$(PY) -m mypy

docs: $(VENV)/.dev
	$(PY) -m mkdocs build --strict

check: lint types test trackers libraries docs

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "art_mtl needs Python 3.10 or newer; set PYTHON=/path/to/python3.x. Found: $$($(PYTHON) --version 2>&1)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip

$(VENV)/.base: setup.cfg $(VENV)/bin/python
	$(PY) -m pip install --quiet --editable '.[data,report]'
	@touch $@

$(VENV)/.dev: setup.cfg $(VENV)/bin/python
	$(PY) -m pip install --quiet --editable '.[all,dev]'
	@touch $@ $(VENV)/.base

# In a folder of their own, because MLflow needs a newer requests than torchattacks allows.
$(VENV)/.trackers: $(VENV)/.dev
	$(PY) -m pip install --quiet --upgrade --target $(VENV)/trackers mlflow-skinny wandb
	PYTHONPATH=$(VENV)/trackers $(PY) -c 'import mlflow, wandb'
	@touch $@

# In a folder of their own for the same reason: transformers needs a newer idna than that requests allows. timm would
# bring another torch.
$(VENV)/.libraries: $(VENV)/.dev
	$(PY) -m pip install --quiet --upgrade --target $(VENV)/libraries transformers \
		numpy==$$($(PY) -c 'import numpy; print(numpy.__version__)')
	$(PY) -m pip install --quiet --upgrade --target $(VENV)/libraries --no-deps timm
	PYTHONPATH=$(VENV)/libraries $(PY) -c 'import timm, transformers; transformers.ViTModel'
	@touch $@

clean:
	rm -rf $(VENV) site $(OUT) .pytest_cache .mypy_cache .ruff_cache .hypothesis
