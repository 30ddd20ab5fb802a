# Needs python3 (3.11 or later), make and the package registry; each target sets up what it needs in .venv.
PYTHON ?=
WORKERS ?= 2
SEED ?= $(shell od -An -N3 -tu4 /dev/urandom | tr -d ' ')
PY := .venv/bin/python

.PHONY: help setup demo test check soak fuzz docs

help:
	@echo "make setup   .venv up to date (idempotent)"
	@echo "make demo    makes a synthetic Dixon case, finds its discs with a shipped model, scores and shows them"
	@echo "make test    every test but the long runs (under 10 minutes on 2 cores)"
	@echo "make check   format, lint, types, quick tests"
	@echo "make soak    the long fault and property runs"
	@echo "make docs    the documentation as a site, out/site/index.html"
	@echo "make fuzz    damaged inputs by chance, for SECONDS (300); SEED, INPUT=DIR to read a stored finding again"

setup:
	@PYTHON="$(PYTHON)" .ci/setup

demo: seed := $(SEED)
demo: setup
	@rm -rf demo
	@echo "demo: a synthetic case with seed $(seed) (the same again: make demo SEED=$(seed))"
	@$(PY) -m ivdjax.data.phantom --output demo/cases --cases 1 --seed $(seed) --channels fat,inn,opp,wat
	@echo "demo: finding its discs with models/dixon"
	@$(PY) infer.py --model models/dixon --output demo/discs demo/cases
	@echo "demo: comparing them with the truth"
	@$(PY) evaluate.py --predictions demo/discs --references demo/cases --output demo/scores
	@echo
	@cat demo/scores/tables.md
	@echo
	@for picture in demo/discs/*/*_overview.png; do echo "picture: $$picture"; done
	@for report in demo/discs/*/report.html; do echo "report:  $$report"; done

test: setup
	$(PY) -m pytest -m "not soak" -n $(WORKERS)

check: setup
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) -m pytest -m "not slow and not soak" -n $(WORKERS)

soak: setup
	$(PY) -m pytest -m soak

docs: setup
	$(PY) -m pip install -qq --disable-pip-version-check --no-input -r requirements-docs.txt
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet
	@echo "site: out/site/index.html"

fuzz: SECONDS ?= 300
fuzz: setup
	$(PY) -m tests.fuzz --seconds $(SECONDS) --seed $(SEED) $(if $(INPUT),--input "$(INPUT)")
