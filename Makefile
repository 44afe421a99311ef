# Everything runs in .venv, made from the pins of conda.yaml. `make train ARGS="-P epochs=3"` passes more to the command.

# The first one that starts and is a version that the pins install on; `make setup PYTHON=/path/to/python` names another.
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do $$name .ci/environment.py --check 2>/dev/null && echo $$name && break; done)
ARGS ?=
SHELL := bash
ACTIVATE := . .venv/bin/activate
STAND_IN := .venv/share/conda-stand-in
# Written last by .ci/environment.py, so it is older than conda.yaml whenever the environment is out of date.
MLFLOW ?= 3.18.0
OTHER_MLFLOW := $(CURDIR)/.venv/mlflow-$(MLFLOW)
SERVER_TESTS := tests/tracking/test_faults.py tests/tracking/test_server_away.py tests/registry/promotion/test_races.py
STAMP := $(STAND_IN)/name
SERVICE_STAMP := .venv/share/service

.PHONY: help setup train ui service service-setup service-test docs test test-all test-mlflow check bench chaos clean

help:
	@echo "make setup   make .venv, the environment, from conda.yaml"
	@echo "make train   train the starter model and track it in MLflow"
	@echo "make ui      open the tracked runs in the browser"
	@echo "make service run the tracking server of a team on this machine: PostgreSQL, S3, accounts and TLS; Ctrl-C stops it"
	@echo "make service-setup  install what make service needs"
	@echo "make service-test  run the tests of that server"
	@echo "make test    run the tests, without those that take more than ten seconds each"
	@echo "make test-all  run every test"
	@echo "make test-mlflow MLFLOW=3.18.0  run the fault tests with client or server of another MLflow"
	@echo "make check   run ruff and mypy"
	@echo "make docs    build the documentation into site/"
	@echo "make bench   measure speed and memory"
	@echo "make chaos   attack every command with kills, outages and hostile input, and count what held"
	@echo "make clean   remove .venv and caches; runs and models stay"

setup: $(STAMP)
	@echo "The environment is ready. Activate it with:  $(ACTIVATE)"
	@case "$$PWD" in *" "*) echo "The path of this folder has a space, which MLflow does not quote: add --env-manager local to mlflow run." ;; esac

$(STAMP): conda.yaml .ci/environment.py .ci/conda-stand-in/bin/conda .ci/conda-stand-in/etc/profile.d/conda.sh
	@test -n "$(PYTHON)" || { echo "make setup needs Python 3.11, 3.12 or 3.13, and found none on PATH. Install one, or give its path: make setup PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) .ci/environment.py .venv

# local: where conda is installed too, `mlflow run` would build a second environment from the same pins, and MLflow does
# not quote the path of a conda, which may have a space.
# Alone, `mlflow run` writes to the experiment Default.
train: export MLFLOW_EXPERIMENT_NAME ?= emotions
# Without it, `mlflow run` asks a server that is away for four minutes.
train: export MLFLOW_HTTP_REQUEST_MAX_RETRIES ?= 5
train: $(STAMP)
	$(ACTIVATE) && mlflow run . --env-manager local -e train -P loss=combined $(ARGS)

ui: $(STAMP)
	@echo 'In the browser, choose "Model training" at the top of the side bar once: MLflow opens in its mode for language models.'
	$(ACTIVATE) && mlflow ui $(ARGS)

service: $(SERVICE_STAMP)
	@$(ACTIVATE) && exec python -m trainer.service $(ARGS)

service-setup: $(SERVICE_STAMP)

# PostgreSQL and nginx come from Debian, the rest from PyPI.
$(SERVICE_STAMP): $(STAMP) docker/requirements.txt
	$(ACTIVATE) && pip install --quiet --requirement docker/requirements.txt
	$(ACTIVATE) && python -m trainer.service.native.install
	touch $@

service-test: $(SERVICE_STAMP)
	$(ACTIVATE) && python -m trainer.service.native.install --tests
	$(ACTIVATE) && python -m pytest -m service tests/service $(ARGS)

docs: $(STAMP)
	$(ACTIVATE) && mkdocs build --strict $(ARGS)

test: $(STAMP)
	$(ACTIVATE) && python -m pytest --numprocesses 2 --dist worksteal -m "not slow and not service" $(ARGS)

test-all: $(STAMP)
	$(ACTIVATE) && python -m pytest --numprocesses 2 --dist worksteal -m "not service" $(ARGS)

# The environment's client with a server of MLflow $(MLFLOW), the other way round, and both of that version.
test-mlflow: $(STAMP)
	$(ACTIVATE) && { [ -d $(OTHER_MLFLOW) ] || pip install --quiet --no-deps --target $(OTHER_MLFLOW) mlflow==$(MLFLOW); }
	$(ACTIVATE) && MLFLOW_SERVER_PATH=$(OTHER_MLFLOW) python -m pytest $(SERVER_TESTS) $(ARGS)
	$(ACTIVATE) && PYTHONPATH=$(OTHER_MLFLOW) MLFLOW_SERVER_PATH= python -m pytest $(SERVER_TESTS) $(ARGS)
	$(ACTIVATE) && PYTHONPATH=$(OTHER_MLFLOW) python -m pytest --numprocesses 2 tests/tracking tests/registry tests/serving $(ARGS)

check: $(STAMP)
	$(ACTIVATE) && ruff check . && ruff format --check . && mypy && mypy .ci/environment.py

bench: $(STAMP)
	$(ACTIVATE) && python -m tests.benchmarks.run $(ARGS)

chaos: $(STAMP)
	$(ACTIVATE) && python -m tests.chaos.run $(ARGS)

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
