# All targets except those for images and clusters run in .venv, and create or update it first. They need Python 3, make
# and a package index.
#
#   make demo                      synthesize a small corpus, train on it, generate music, write a report
#   make demo INPUT=path/to/genres_original
#   make test                      run linters, type checker, import rules and the tests that take seconds
#   make test-long                 run the tests that train, evaluate or export whole models
#   make test-next                 run the tests of both with the second stack, newer packages in .venv-next (docs/next-stack.md)
#   make rehearsal                 run k8s/overlays/local as processes, from preprocessing to retraining, without a cluster
#   make test-slow                 run the tests that take minutes, such as killing twenty jobs
#   make fuzz                      change audio files, archives and lists at random for FUZZ_SECS (600) seconds
#   make bench-preprocessing       compare the Beam job with a plain loop and a typical pipeline
#   make bench-scale               time planning, and finding duplicates among up to a million synthesized fingerprints
#   make bench-readahead           time training from a bucket whose data exceed the cache; SHARDS=32 files of 32 MB
#   make bench-training            time training and generation, compared with their alternatives, and the parts of a step
#   make lock                      update the lock files
#   make musicnn                   install the embedding for `evaluate --embedding musicnn`
#   make image image-test          build and test the images with docker, podman or buildah (BUILDER=buildah)
#   make image REQUIREMENTS=requirements/trainer-cuda.lock     build the trainer's image with CUDA
#   make push OVERLAY=gke-gpu      build the images of an overlay, push them and pin their digests in it
#   make deploy OVERLAY=gke-gpu    check the overlay's settings and deploy it to the current cluster of kubectl
#   make watch JOB=preprocess      follow a Job to its end: events, logs and result
#   make submit-preprocessing OVERLAY=gke-gpu     preprocess on Dataflow; FLAGS=... adds flags

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

UV_VERSION := 0.13.9
BIN := .venv/bin
INSTALLED := .venv/installed
NEXT_INSTALLED := .venv-next/installed
# The path, if there is such a Python: uv fails on the shims of pyenv, which run the selected version only.
NEXT_PYTHON = $(or $(shell PYENV_VERSION=3.12 python3.12 -c 'import sys; print(sys.executable)' 2>/dev/null),3.12)
# Each INPUT has its own demo directory, named by a checksum of its path.
INPUT := demo/genres_original
DEMO := demo$(if $(filter-out demo/genres_original,$(INPUT)),/own-$(shell printf %s "$(abspath $(INPUT))" | cksum | cut -d' ' -f1))

# uv does not read pip's configuration; use the package index that is configured there.
ifndef UV_DEFAULT_INDEX
export UV_DEFAULT_INDEX := $(or $(shell python3 -m pip config get global.index-url 2>/dev/null),https://pypi.org/simple)
endif
UV := $(shell command -v uv || echo .tools/bin/uv)

.PHONY: demo test test-long test-next rehearsal test-slow bench-preprocessing bench-scale bench-readahead bench-training fuzz musicnn setup lock image image-test push deploy watch submit-preprocessing clean
setup: $(INSTALLED)

musicnn: $(INSTALLED) # its own requirements are of another TensorFlow
	VIRTUAL_ENV=.venv $(UV) pip install --quiet --no-deps musicnn==0.1.0

.tools/bin/uv:
	@echo "setup: fetching uv"
	python3 -m venv .tools || { echo "setup: python3 cannot create virtual environments: install python3-venv or uv" >&2; exit 1; }
	.tools/bin/python -m pip install --quiet "uv==$(UV_VERSION)"

# $(call install,ENVIRONMENT,PYTHON,LOCK FILE)
define install
	@echo "setup: installing the locked packages into $(1) (about 4 GB; two minutes, longer if they must be downloaded)"
	$(UV) venv --quiet --allow-existing --python $(2) $(1)
	VIRTUAL_ENV=$(1) $(UV) pip sync --quiet --require-hashes --compile-bytecode $(3)
	VIRTUAL_ENV=$(1) $(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@
endef

$(INSTALLED): requirements/dev.lock setup.py $(filter .tools/bin/uv,$(UV))
	$(call install,.venv,3.11,requirements/dev.lock)

$(NEXT_INSTALLED): requirements/dev-next.lock setup.py $(filter .tools/bin/uv,$(UV))
	$(call install,.venv-next,$(NEXT_PYTHON),requirements/dev-next.lock)

test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	mkdir -p build
	$(BIN)/python -m slipcover --source preprocessing,trainer --out build/coverage.txt -m pytest
	@awk '/^\(summary\)/ { print "coverage: " $$4 "% of lines; build/coverage.txt lists the others" }' build/coverage.txt

test-long: $(INSTALLED)
	$(BIN)/pytest -m 'long and not slow'

test-next: $(NEXT_INSTALLED)
	.venv-next/bin/python -m pytest -m 'not slow'

rehearsal: $(INSTALLED)
	PYTHONPATH=$(CURDIR):$(CURDIR)/tests $(BIN)/python -m rehearsal $(if $(FOLDER),--folder "$(FOLDER)")

test-slow: $(INSTALLED)
	$(BIN)/pytest -m slow -o faulthandler_timeout=3600

bench-preprocessing: $(INSTALLED)
	$(BIN)/python tests/benchmarks/bench_preprocessing.py --clips $(or $(CLIPS),400 4000)

bench-scale: $(INSTALLED)
	$(BIN)/python tests/benchmarks/bench_scale.py --recordings $(or $(RECORDINGS),10000 100000 1000000)

bench-readahead: $(INSTALLED)
	$(BIN)/python tests/benchmarks/bench_readahead.py --shards $(or $(SHARDS),32)

bench-training: $(INSTALLED)
	$(BIN)/python tests/benchmarks/bench_training.py
	$(BIN)/python tests/benchmarks/bench_step.py

demo: $(INSTALLED)
ifeq ($(DEMO),demo)
	$(BIN)/python -m preprocessing.synthetic --output $(INPUT)
endif
	$(BIN)/python -m preprocessing --input "$(INPUT)" --output $(DEMO)/dataset
	$(BIN)/python -m trainer train --data $(DEMO)/dataset --run $(DEMO)/run --preset tiny
	$(BIN)/python -m trainer generate --run $(DEMO)/run --output $(DEMO)/music
	@echo "Open $(CURDIR)/$(DEMO)/run/report.html: metrics, spectrograms and players. New music: $(CURDIR)/$(DEMO)/music"

# Random changes to audio files, archives and lists, other ones each time, for FUZZ_SECS seconds.
FUZZ_SECS := 600
FUZZ_TESTS := tests/unit/preprocessing/audio/test_fuzz.py tests/unit/preprocessing/sources/test_fuzz.py
fuzz: $(INSTALLED)
	@mkdir -p build; seed=$$RANDOM; end=$$((SECONDS + $(FUZZ_SECS))); first=0; \
	while [ $$SECONDS -lt $$end ]; do \
		for test in $(FUZZ_TESTS); do \
			PYTHONPATH=.:tests $(BIN)/python $$test $$seed $$first $$((first + 200)) >build/fuzz.log 2>&1 || \
				{ tail -n 20 build/fuzz.log; echo "fuzz: $$test $$seed, after the last number in build/fuzz.log" >&2; exit 1; }; \
		done; \
		first=$$((first + 200)); echo "fuzz: seed $$seed, $$first cases of each test, $$((end - SECONDS)) s left"; \
	done

COMPILE = $(UV) pip compile --quiet --generate-hashes --custom-compile-command "make lock"
LOCK = $(COMPILE) --python-version 3.11
LOCK_NEXT = $(COMPILE) --python-version 3.12
lock: $(filter .tools/bin/uv,$(UV))
	$(LOCK) -o requirements/trainer.lock requirements/trainer.in
	$(LOCK) -c requirements/trainer.lock -o requirements/dev.lock requirements/dev.in
	$(LOCK) -c requirements/trainer.lock -o requirements/trainer-cuda.lock requirements/trainer-cuda.in
	$(LOCK) -c requirements/dev.lock -o requirements/studio.lock requirements/studio.in
	$(LOCK) -c requirements/trainer.lock -o requirements/preprocessing.lock setup.py
	$(LOCK) -c requirements/trainer.lock -o requirements/build.lock requirements/build.in
	$(LOCK) -c requirements/dev.lock -o requirements/emulator.lock requirements/emulator.in
	$(LOCK_NEXT) -o requirements/trainer-next.lock requirements/trainer-next.in
	$(LOCK_NEXT) -c requirements/trainer-next.lock -o requirements/dev-next.lock requirements/dev-next.in
	$(LOCK_NEXT) -c requirements/trainer-next.lock -o requirements/trainer-next-cuda.lock requirements/trainer-next-cuda.in

# IMAGE_FLAGS go to the builder, e.g. IMAGE_FLAGS='--build-arg BASE=registry.example/python:3.11-slim-bookworm'.
IMAGES = python3 k8s/images.py $(if $(BUILDER),--builder $(BUILDER)) $(if $(REQUIREMENTS),--requirements $(REQUIREMENTS))
image:
	$(IMAGES) build $(if $(IMAGE_FLAGS),--flags='$(IMAGE_FLAGS)')

image-test:
	$(IMAGES) test

push:
	$(IMAGES) push --overlay "$(OVERLAY)" $(if $(IMAGE_FLAGS),--flags='$(IMAGE_FLAGS)')

deploy:
	python3 k8s/overlay_settings.py "$(OVERLAY)"
	@mkdir -p build && kubectl kustomize k8s/overlays/$(OVERLAY) >build/$(OVERLAY).yaml
	@! grep -n set-by- build/$(OVERLAY).yaml || { echo "this kubectl has left settings out: use 1.31 or newer" >&2; exit 2; }
	kubectl apply -f build/$(OVERLAY).yaml

watch:
	@python3 k8s/watch.py "$(JOB)"

# Like the preprocess Job, this creates a new dataset version only if something has changed.
submit-preprocessing: $(INSTALLED)
	$(BIN)/python k8s/dataflow.py "$(OVERLAY)" $(FLAGS)

clean:
	rm -rf demo .venv .venv-next .tools build *.egg-info
