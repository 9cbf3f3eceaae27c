# Each target does all its own set-up: it creates .venv, installs what is missing, reuses what is there.
# Without make, README.md has the plain commands.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
CONFIG ?= configs/five-minutes.yaml

.PHONY: pretrain test lab tensorboard notebooks lint install

pretrain: install
	$(BIN)/wikigpt pretrain $(CONFIG)

test: install
	$(BIN)/python -m pytest -n auto --dist loadgroup

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lab: install
	$(BIN)/jupyter lab notebooks

tensorboard: install
	$(BIN)/tensorboard --logdir runs

notebooks: install
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace notebooks/*.ipynb

install: $(READY)

# A .venv with your own build of torch in it is kept: pip sees that the pin is met.
$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "wikigpt needs Python 3.11 or newer; name one with: make PYTHON=python3.12"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || \
		{ echo "This Python can't make virtual environments; install its venv module."; exit 1; }
	@echo "Installing requirements into $(VENV) (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements.txt
	@touch $@
