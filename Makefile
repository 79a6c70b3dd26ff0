# Two commands are all that a newcomer needs: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := $(VENV)/demo
READY := $(VENV)/ready
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test check format clean

demo: $(DEMO)
	$(BIN)/netsmith design digits --device onnxruntime --latency 0.2ms --budget quick --out runs/digits

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) test

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# torch first and alone: a CPU build is found for this exact version, and nothing later replaces it.
$(DEMO): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) torch
	$(INSTALL) -e '.[onnxruntime]'
	touch $(DEMO)

# What the demo does without: every other runtime, and what the tests need.
$(READY): $(DEMO)
	$(INSTALL) -e '.[onnxruntime,openvino,litert,executorch,mnn,ncnn,agent,optuna,parquet,compress,dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) runs .mypy_cache .ruff_cache .pytest_cache
