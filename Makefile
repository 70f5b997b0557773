# Everything runs in .venv, which `make install` makes from Python 3.11 or newer and a package index; nothing else is needed.
#   make demo ARGS="--seed 1"        options of `vlm-r1 demo`
#   make test ARGS="tests/grpo -x"   options of pytest
#   make test-portable ISA=avx2      as one kind of processor only
#   make install TORCH="torch==2.9.*"   another torch than constraints.txt names, where there is no .venv yet
#   make bench BENCH=step ARGS="--image-tokens 64 --against rows"   one benchmark with its options

.PHONY: help install demo test fuzz test-long test-portable check bench docs
.DEFAULT_GOAL := help

BIN := .venv/bin
INSTALLED := .venv/installed
PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH ?= $(shell grep '^torch==' constraints.txt)
ARGS ?=
ISA ?= default avx2
FUZZ ?= 100
BENCH ?= step limit sampling prefix_variants rewards growth step_phases
# Two processes of one thread each: the tiny tensors of the tests gain nothing from torch's own threads, which would only
# get in each other's way. (A worker costs some 13 s of imports, so more of them pay only for a longer suite.)
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## make .venv with the tested versions of everything (constraints.txt)

demo: $(INSTALLED)  ## teach a tiny model to find shapes, on this machine, in minutes
	$(BIN)/vlm-r1 demo $(ARGS)

test: $(INSTALLED)  ## all tests but the long ones
	$(PYTEST) -m "not long" $(ARGS)

test-long: $(INSTALLED)  ## the tests that take minutes: runs are killed, starved and damaged (docs/reliability.md)
	$(PYTEST) -m long $(ARGS)

# torch's own kernels as without AVX-512 and AVX2, then as with AVX2 alone; oneDNN's with AVX2 at most in both.
test-portable: $(INSTALLED)  ## the tests with the kernels of older processors
	@for isa in $(ISA); do echo "torch with $$isa kernels, oneDNN with AVX2"; \
		ATEN_CPU_CAPABILITY=$$isa ONEDNN_MAX_CPU_ISA=AVX2 $(PYTEST) -m "not long" $(ARGS) || exit 1; done

# FUZZ=1000 tries that many inputs of each kind; a failure prints its input for tests/fuzz/corpus.
fuzz: $(INSTALLED)  ## damaged data, annotations, recipes, scored rows and run folders, with other seeds each time
	FUZZ_EXAMPLES=$(FUZZ) $(PYTEST) tests/fuzz $(ARGS)

check: $(INSTALLED)  ## format, lint, types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/pyright

bench: $(INSTALLED)  ## measure against peers and limits, some 20 minutes on a quiet machine
	@for name in $(BENCH); do echo "python -m benchmarks.$$name $(ARGS)"; $(BIN)/python -m benchmarks.$$name $(ARGS) || exit 1; done

docs: $(INSTALLED)  ## write docs/configuration.md from the schema, and the site of all pages (site/index.html)
	$(BIN)/vlm-r1 config > docs/configuration.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# torch first: the rest then takes the build that is there.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; $(PYTHON) is older. Try: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	sed 's/^torch==.*/$(TORCH)/' constraints.txt > .venv/constraints.txt
	$(BIN)/pip install --quiet torch -c .venv/constraints.txt
	$(BIN)/pip install --quiet -e ".[dev]" -c .venv/constraints.txt
	@touch $@
