# Everything runs in .venv, which every target makes or mends first. Needed: Python 3, make and a package index.
#
#   make demo                      synthesize a small corpus, train on it, make music, write a report
#   make demo INPUT=path/to/genres_original
#   make test                      lint and test
#   make test-slow                 the tests that take minutes, such as killing twenty jobs
#   make bench-preprocessing       time the Beam job beside a plain loop and a usual pipeline
#   make bench-training            time training and generation beside what one would compare them with
#   make lock                      resolve the lock files again

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

UV_VERSION := 0.13.9
BIN := .venv/bin
INSTALLED := .venv/installed
# One's own music has a folder of its own, by its path, so that no two demos meet.
INPUT := demo/genres_original
DEMO := demo$(if $(filter-out demo/genres_original,$(INPUT)),/own-$(shell printf %s "$(abspath $(INPUT))" | cksum | cut -d' ' -f1))

# uv does not read pip's configuration; a mirror set there is meant for it too.
ifndef UV_DEFAULT_INDEX
export UV_DEFAULT_INDEX := $(or $(shell python3 -m pip config get global.index-url 2>/dev/null),https://pypi.org/simple)
endif
UV := $(shell command -v uv || echo .tools/bin/uv)

.PHONY: demo test test-slow bench-preprocessing bench-training setup lock clean
setup: $(INSTALLED)

.tools/bin/uv:
	@echo "setup: fetching uv"
	python3 -m venv .tools || { echo "setup: python3 cannot make environments: install python3-venv, or uv" >&2; exit 1; }
	.tools/bin/python -m pip install --quiet "uv==$(UV_VERSION)"

$(INSTALLED): requirements-dev.lock setup.py $(filter .tools/bin/uv,$(UV))
	@echo "setup: the locked packages into .venv (about 3 GB; a minute, and more where they must be downloaded)"
	$(UV) venv --quiet --allow-existing --python 3.11 .venv
	VIRTUAL_ENV=.venv $(UV) pip sync --quiet --require-hashes requirements-dev.lock
	VIRTUAL_ENV=.venv $(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pytest

test-slow: $(INSTALLED)
	$(BIN)/pytest -m slow

bench-preprocessing: $(INSTALLED)
	$(BIN)/python tests/benchmarks/bench_preprocessing.py --clips $(or $(CLIPS),400 4000)

bench-training: $(INSTALLED)
	$(BIN)/python tests/benchmarks/bench_training.py

demo: $(INSTALLED)
ifeq ($(DEMO),demo)
	$(BIN)/python -m preprocessing.demo --output $(INPUT)
endif
	$(BIN)/python -m preprocessing --input "$(INPUT)" --output $(DEMO)/dataset
	$(BIN)/python -m trainer train --data $(DEMO)/dataset --run $(DEMO)/run --preset tiny
	$(BIN)/python -m trainer generate --run $(DEMO)/run --output $(DEMO)/music
	@echo "Open $(CURDIR)/$(DEMO)/run/report.html: curves, pictures and players. New music: $(CURDIR)/$(DEMO)/music"

LOCK = $(UV) pip compile --quiet --python-version 3.11 --generate-hashes --custom-compile-command "make lock"
lock: $(filter .tools/bin/uv,$(UV))
	$(LOCK) -o requirements.lock requirements.in
	$(LOCK) -c requirements.lock -o requirements-dev.lock requirements-dev.in
	$(LOCK) -c requirements.lock -o requirements-cuda.lock requirements-cuda.in

clean:
	rm -rf demo .venv .tools build *.egg-info
