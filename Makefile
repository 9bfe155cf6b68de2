# Everything but images and clusters runs in .venv, which its target makes or mends first. Needed: Python 3, make and
# a package index.
#
#   make demo                      synthesize a small corpus, train on it, make music, write a report
#   make demo INPUT=path/to/genres_original
#   make test                      lint, check types and imports, test
#   make rehearsal                 k8s/overlays/local from preprocessing to retraining, as processes: no cluster needed
#   make test-slow                 the tests that take minutes, such as killing twenty jobs
#   make bench-preprocessing       time the Beam job beside a plain loop and a usual pipeline
#   make bench-training            time training and generation beside what one would compare them with
#   make lock                      resolve the lock files again
#   make image image-test          the images, built and tried with docker, podman or buildah (BUILDER=buildah)
#   make image REQUIREMENTS=requirements/trainer-cuda.lock     the trainer's with CUDA
#   make deploy OVERLAY=gke-gpu    onto the cluster that kubectl talks to
#   make submit-preprocessing PROJECT=... REGION=... BUCKET=...     on Dataflow

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

.PHONY: demo test rehearsal test-slow bench-preprocessing bench-training setup lock image image-test deploy submit-preprocessing clean
setup: $(INSTALLED)

.tools/bin/uv:
	@echo "setup: fetching uv"
	python3 -m venv .tools || { echo "setup: python3 cannot make environments: install python3-venv, or uv" >&2; exit 1; }
	.tools/bin/python -m pip install --quiet "uv==$(UV_VERSION)"

$(INSTALLED): requirements/dev.lock setup.py $(filter .tools/bin/uv,$(UV))
	@echo "setup: the locked packages into .venv (about 3 GB; two minutes, and more where they must be downloaded)"
	$(UV) venv --quiet --allow-existing --python 3.11 .venv
	VIRTUAL_ENV=.venv $(UV) pip sync --quiet --require-hashes --compile-bytecode requirements/dev.lock
	VIRTUAL_ENV=.venv $(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --quiet
	$(BIN)/pytest --cov --cov-report=html
	@echo "coverage: $$($(BIN)/coverage report --format=total)% of lines; build/coverage/index.html shows which"

rehearsal: $(INSTALLED)
	PYTHONPATH=$(CURDIR):$(CURDIR)/tests $(BIN)/python -m rehearsal $(if $(FOLDER),--folder "$(FOLDER)")

test-slow: $(INSTALLED)
	$(BIN)/pytest -m slow --timeout=3600

bench-preprocessing: $(INSTALLED)
	$(BIN)/python tests/benchmarks/bench_preprocessing.py --clips $(or $(CLIPS),400 4000)

bench-training: $(INSTALLED)
	$(BIN)/python tests/benchmarks/bench_training.py

demo: $(INSTALLED)
ifeq ($(DEMO),demo)
	$(BIN)/python -m preprocessing.synthetic.corpus --output $(INPUT)
endif
	$(BIN)/python -m preprocessing --input "$(INPUT)" --output $(DEMO)/dataset
	$(BIN)/python -m trainer train --data $(DEMO)/dataset --run $(DEMO)/run --preset tiny
	$(BIN)/python -m trainer generate --run $(DEMO)/run --output $(DEMO)/music
	@echo "Open $(CURDIR)/$(DEMO)/run/report.html: curves, pictures and players. New music: $(CURDIR)/$(DEMO)/music"

LOCK = $(UV) pip compile --quiet --python-version 3.11 --generate-hashes --custom-compile-command "make lock"
lock: $(filter .tools/bin/uv,$(UV))
	$(LOCK) -o requirements/trainer.lock requirements/trainer.in
	$(LOCK) -c requirements/trainer.lock -o requirements/dev.lock requirements/dev.in
	$(LOCK) -c requirements/trainer.lock -o requirements/trainer-cuda.lock requirements/trainer-cuda.in
	$(LOCK) -c requirements/trainer.lock -o requirements/preprocessing.lock setup.py
	$(LOCK) -c requirements/trainer.lock -o requirements/build.lock requirements/build.in
	$(LOCK) -c requirements/dev.lock -o requirements/emulator.lock requirements/emulator.in

# IMAGE_FLAGS go to the builder, e.g. IMAGE_FLAGS='--build-arg BASE=registry.example/python:3.11-slim-bookworm'.
IMAGES = python3 k8s/images.py $(if $(BUILDER),--builder $(BUILDER)) $(if $(REQUIREMENTS),--requirements $(REQUIREMENTS))
image:
	$(IMAGES) build $(if $(IMAGE_FLAGS),--flags='$(IMAGE_FLAGS)')

image-test:
	$(IMAGES) test

deploy:
	@test -f "k8s/overlays/$(OVERLAY)/kustomization.yaml" || \
	  { echo "deploy: OVERLAY must be one of: $(notdir $(wildcard k8s/overlays/*))" >&2; exit 2; }
	kubectl apply -k k8s/overlays/$(OVERLAY)

# MUSIC may be any --input; what is not preprocessed yet becomes a new version, as from the preprocess Job.
MUSIC = gs://$(BUCKET)/music
submit-preprocessing: $(INSTALLED)
	@test -n "$(PROJECT)" -a -n "$(REGION)" -a -n "$(BUCKET)" || \
	  { echo "submit-preprocessing: give PROJECT=... REGION=... BUCKET=..." >&2; exit 2; }
	$(BIN)/python -m preprocessing --input $(MUSIC) --output gs://$(BUCKET)/datasets --versioned \
	  --runner DataflowRunner --project $(PROJECT) --region $(REGION) --temp_location gs://$(BUCKET)/tmp \
	  --setup_file ./setup.py

clean:
	rm -rf demo .venv .tools build *.egg-info
