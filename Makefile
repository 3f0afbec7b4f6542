PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(INSTALLED) ## make .venv and install the pinned dependencies

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "digits needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[live,denoise,train,export,espeak,dev]'
	@touch $@

sweep: setup ## train baseline and robust over three seeds each and compare them
	@data=fsdd; \
	$(BIN)/python -m digits.fsdd || { \
		[ $$? -eq 3 ] || exit 1; \
		data=espeak; \
		echo "==== FSDD CANNOT BE REACHED. Going on with SYNTHETIC VOICES (data=espeak): these are not FSDD figures. ===="; \
	}; \
	$(BIN)/python -m digits.train +sweep=compare data=$$data seed=0,1,2 resume=true hydra.sweep.dir=outputs/sweep/$$data; \
	trained=$$?; \
	$(BIN)/python experiments/compare.py outputs/sweep/$$data && exit $$trained

test: setup lint ## lint, types and tests
	$(BIN)/python -m pytest

test-slow: setup ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

lint: setup ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

pretrained: setup ## train the model of digits/pretrained again, with its calibration (about half an hour on two cores)
	$(BIN)/python -m digits.train experiment=live data.split=all conditions=clean resume=true hydra.run.dir=outputs/pretrained
	$(BIN)/python -m digits.train +sweep=loso experiment=live resume=true
	$(BIN)/python -m digits.weights outputs/pretrained/last.ckpt digits/pretrained/live.npz --held-out outputs/loso/fsdd/live
	$(BIN)/python -m digits.export ckpt_path=digits/pretrained/live.npz out=digits/pretrained/live.onnx
	sha256sum digits/pretrained/live.npz digits/pretrained/live.onnx

bench: setup ## measure the speed of everything that matters
	$(BIN)/python experiments/bench.py

mic: setup ## hear digits from the microphone
	$(BIN)/python -m digits.mic

tensorboard: setup ## browse the runs under outputs/
	$(BIN)/tensorboard --logdir outputs

clean: ## remove the environment and the caches in this folder, but no run under outputs/
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help setup sweep test test-slow lint pretrained bench mic tensorboard clean
