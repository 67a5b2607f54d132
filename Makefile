# `make` lists what there is to make. Python 3.11 or later and make are all that is needed.

RECENT := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
    $$python -c '$(RECENT)' 2>/dev/null && echo $$python && break; \
  done)
BUILDER ?= $(shell for builder in docker podman buildah; do \
    $$builder info >/dev/null 2>&1 && echo $$builder && break; \
  done)
VENV ?= .venv
BIN := $(VENV)/bin
PORT ?= 10877

PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
    --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'
RUN_LOCKS := requirements/run.txt requirements/build.txt

# Archives are the same bytes each time: what is in them has the time of the commit.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 1767225600)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null)
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"$$/\1/p' exporter/__init__.py)
export SOURCE_DATE_EPOCH REVISION REPOSITORY_URL SITE_URL PYTHON_IMAGE REGISTRY PIP_INDEX_URL
# What the Dockerfile takes, where it is set.
IMAGE_ARGUMENTS = $(foreach name,VERSION REVISION REPOSITORY_URL PYTHON_IMAGE REGISTRY PIP_INDEX_URL, \
    $(if $($(name)),--build-arg $(name)=$($(name))))
PLATFORMS ?= linux/amd64,linux/arm64

.DEFAULT_GOAL := help
.PHONY: help demo demo-ha prometheus test lint check-lock benchmark lock image push-image chart bundle release release-notes site clean

help: ## list what there is to make
	@sed -n 's/^\([a-z-]*\):[^#]*## /  make \1 /p' Makefile | awk '{ printf "  make %-13s", $$2; $$1 = $$2 = ""; print }'

demo: $(VENV)/.run ## run the exporter against simulated jobs until Ctrl-C [PORT=10877]
	@$(BIN)/octopus-exporter demo --port $(PORT)

demo-ha: $(VENV)/.run ## run two exporters on a private PostgreSQL ledger until Ctrl-C [PORT=10877]
	@$(BIN)/python deploy/demo_ha.py --port $(PORT)

prometheus: $(VENV)/.run ## watch that with Debian's prometheus and the alert rules [PORT=10877]
	@$(BIN)/python -m prometheus.demo --exporter $(PORT)

test: $(VENV)/.dev ## run all tests [PYTEST="-k name"]
	@$(BIN)/python -m pytest --numprocesses auto --dist loadscope --no-loadscope-reorder $(PYTEST)

lint: $(VENV)/.dev ## check style, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

check-lock: $(VENV)/.dev ## check that what the lock installs is what pyproject.toml asks for
	$(BIN)/python -m pip check
	$(BIN)/python -m pytest --quiet tests/test_lock.py

benchmark: $(VENV)/.dev ## measure at small sizes, in some minutes
	@$(BIN)/python -m benchmarks --quick

lock: $(VENV)/.dev ## pin what pyproject.toml asks for anew [LOCKFLAGS=--upgrade]
	$(LOCK) $(LOCKFLAGS) pyproject.toml --all-extras --output-file requirements/run.txt
	$(LOCK) $(LOCKFLAGS) --group build --constraints requirements/run.txt --output-file requirements/build.txt
	$(LOCK) $(LOCKFLAGS) pyproject.toml --all-extras --group dev $(RUN_LOCKS:%=--constraints %) \
	    --output-file requirements/dev.txt
	$(LOCK) $(LOCKFLAGS) --group release $(RUN_LOCKS:%=--constraints %) --constraints requirements/dev.txt \
	    --output-file requirements/release.txt

image: ## build the container image octopus-exporter
	@test -n "$(BUILDER)" || { echo "make image needs docker, podman or buildah, and that it works" >&2; exit 1; }
	BUILDAH_FORMAT=docker $(BUILDER) build --tag octopus-exporter $(IMAGE_ARGUMENTS) .

push-image: ## build and push the image for PLATFORMS with docker buildx [IMAGE=registry/name]
	@test -n "$(IMAGE)" || { echo "make push-image needs IMAGE=registry/name" >&2; exit 1; }
	@mkdir -p dist
	docker buildx build --platform $(PLATFORMS) --provenance=mode=max --sbom=true --push --metadata-file dist/image.json \
	    --tag $(IMAGE):$(VERSION) --tag $(IMAGE):latest $(IMAGE_ARGUMENTS) .
	@sed -n 's/.*"containerimage.digest": "\([^"]*\)".*/\1/p' dist/image.json | head -n 1 >dist/image.digest

bundle: $(VENV)/.release ## pack all that a network without the internet needs into dist [BUNDLEFLAGS=--no-image]
	@BUILDER=$(BUILDER) $(BIN)/python -m release bundle $(BUNDLEFLAGS)

release: $(VENV)/.release ## build wheel, sdist, chart, SBOM and bundle into dist [REPOSITORY_URL=https://...]
	@BUILDER=$(BUILDER) $(BIN)/python -m release all $(BUNDLEFLAGS)

release-notes: $(VENV)/.release ## write release-notes.md from the CHANGELOG [TAG=v0.1.0]
	@$(BIN)/python -m release notes --tag $(or $(TAG),v$(VERSION)) > release-notes.md

chart: $(VENV)/.dev ## make the chart's README and deploy/kubernetes anew; needs helm 4 for these
	@$(BIN)/python -m deploy.helm.generate

site: $(VENV)/.release ## build the documentation as a site into site [SITE_URL=https://...]
	@NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(BIN)/mkdocs --quiet build --strict --clean
	@NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(BIN)/mkdocs --quiet build --strict --config-file mkdocs.zh-CN.yml

clean: ## remove what make has made
	rm -rf $(VENV) dist site release-notes.md .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What is installed is what is locked: nothing is resolved, as a pin without its extra would send pip for the newest
# version. The stamps are as old as the last installation.
$(VENV)/.run: $(RUN_LOCKS) pyproject.toml | $(VENV)/bin/python
	@echo "Installing octopus-exporter into $(VENV)…"
	@$(PIP) install --no-deps --require-hashes $(RUN_LOCKS:%=--requirement %)
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.run
	@echo "Installing the development tools into $(VENV)…"
	@$(PIP) install --no-deps --require-hashes --requirement requirements/dev.txt
	@touch $@

$(VENV)/.release: requirements/release.txt $(VENV)/.run
	@echo "Installing the tools of a release into $(VENV)…"
	@$(PIP) install --no-deps --require-hashes --requirement requirements/release.txt
	@touch $@

$(VENV)/bin/python:
	@$(if $(shell $(PYTHON) -c '$(RECENT)' 2>/dev/null && echo yes),,\
	    $(error Python 3.11 or later is needed; say where it is: make PYTHON=/path/to/python3))
	@echo "Making $(VENV) with $(PYTHON)…"
	@$(PYTHON) -m venv $(VENV)
