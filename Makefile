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
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[live,web,denoise,train,export,espeak,dev]'
	@touch $@

sweep: setup ## train baseline and robust over three seeds each and compare them
	@data=fsdd; \
	$(BIN)/python -m digits.corpora.fsdd || { \
		[ $$? -eq 3 ] || exit 1; \
		data=espeak; \
		echo "==== FSDD CANNOT BE REACHED. Continuing with SYNTHETIC VOICES (data=espeak): these are not FSDD figures. ===="; \
	}; \
	$(BIN)/digits train +sweep=compare data=$$data seed=0,1,2 resume=true hydra.sweep.dir=outputs/sweep/$$data; \
	trained=$$?; \
	$(BIN)/python experiments/compare/compare.py outputs/sweep/$$data && exit $$trained

test: setup lint ## lint, types and tests
	$(BIN)/python -m pytest --numprocesses=auto

test-slow: setup ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

test-extras: setup ## the tests of sweepers, launchers and loggers, with their packages
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[optuna,joblib,submitit,ray,wandb,mlflow]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps litdata # torchvision would have to fit torch's build
	$(BIN)/python -m pip install --quiet --constraint constraints.txt boto3 obstore tifffile # what else it needs
	$(BIN)/python -m pytest -m extras

lint: setup ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

pretrained: setup ## train the pretrained model again, with its calibration (two hours on two cores)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[kokoro]'
	$(BIN)/python -m digits.corpora.kokoro
	$(BIN)/digits train experiment=public data.split=all conditions=clean resume=true hydra.run.dir=outputs/pretrained
	$(BIN)/digits train +sweep=air_gap experiment=public seed=0 resume=true
	$(BIN)/digits calibrate outputs/pretrained/last.ckpt digits/pretrained/public.npz --held-out outputs/air_gap/fsdd/public
	$(BIN)/digits export ckpt_path=digits/pretrained/public.npz out=digits/pretrained/public.onnx
	sha256sum digits/pretrained/public.npz digits/pretrained/public.onnx

bench: setup ## measure the speed of everything that matters
	$(BIN)/python experiments/bench/bench.py

tables: setup ## copy the studies' tables into the READMEs
	$(BIN)/python -m experiments.tables

mic: setup ## hear digits from the microphone
	$(BIN)/digits mic

web: setup ## hear digits in the browser
	$(BIN)/digits web

tensorboard: setup ## browse the runs in outputs/
	$(BIN)/tensorboard --logdir outputs

clean: ## remove the environment and the caches in this folder, but no runs
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help setup sweep test test-slow test-extras lint pretrained bench tables mic web tensorboard clean
