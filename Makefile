# `make demo` and `make test` set up all they need in .venv, with the interpreter in PYTHON.
# It takes Rust, CPython >= 3.10 and make; nothing is installed outside of $(VENV) and target/.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
URL ?= redis://localhost:6379/0
# Arguments for pytest, such as PYTEST="-k retries -x".
PYTEST ?=

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

BIN := $(VENV)/bin
# One set of dependencies serves the tests, clippy and the extension they run against.
CARGO_PROFILE := quick
CORE := $(shell find src -name '*.rs') Cargo.toml Cargo.lock pyproject.toml
TAG := $(shell $(PYTHON) -c 'import sys; print(sys.implementation.cache_tag)' 2>/dev/null)
MADE := $(VENV)/.made-with-$(or $(TAG),nothing)

# $(call step,what it is,command): says what runs, and what failed.
define step
@printf '\n== %s\n' "$(1)"; \
{ $(2); } || { code=$$?; printf '\nmake %s: %s failed (exit code %s)\n' "$@" "$(1)" "$$code" >&2; exit $$code; }
endef

.PHONY: help demo demo-processes test test-python test-all lint lint-rust lint-python bench bench-redis bench-rabbitmq bench-core exit-matrix faults fuzz storms clean

help:
	@echo 'make demo          run the trading example (ARGS="..." passes arguments on)'
	@echo 'make demo-processes URL=redis://...  the same as four processes on a broker'
	@echo 'make test          all checks and tests with PYTHON ($(PYTHON))'
	@echo 'make test-all      make test, then the Python tests on every CPython 3.10 to 3.13 found'
	@echo 'make lint          the checks alone'
	@echo 'make bench         figures beside those of the peers (ARGS="--only requests" for one workload)'
	@echo 'make bench-redis   figures on a Redis server of its own, beside those of other clients'
	@echo 'make bench-rabbitmq  the same on RabbitMQ'
	@echo 'make bench-core    figures of the core without Python'
	@echo 'make exit-matrix   many processes that end in the middle of their work, on every CPython'
	@echo 'make faults        brokers, networks and consumers that fail, in full size (ARGS="T1 --seed 7 --folder kept")'
	@echo 'make storms        10,000 random storms of crashes for supervision, in virtual time'
	@echo 'make fuzz          fuzz targets, a minute each (FUZZ_SECONDS=300 for longer); takes nightly Rust'
	@echo 'make clean         remove what these made'

demo: $(VENV)/.release
	@$(BIN)/python -m examples.trading $(ARGS)

demo-processes: $(VENV)/.release
	@$(BIN)/python -m examples.trading.processes --url $(URL) $(ARGS)

test: lint
	$(call step,cargo test,cargo test --locked --profile $(CARGO_PROFILE))
	$(call step,pytest,$(BIN)/python -m pytest $(PYTEST))
	@printf '\nmake test: all passed\n'

# For one more interpreter: what depends on it, and nothing else.
test-python: $(VENV)/.quick
	$(call step,stubtest,$(BIN)/python -m mypy.stubtest tiebeam._core)
	$(call step,pytest,$(BIN)/python -m pytest $(PYTEST))

test-all: test
	@set -e; pythons="$$(.ci/pythons)"; for python in $$pythons; do \
		version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		printf '\n==== CPython %s\n' "$$version"; \
		$(MAKE) --no-print-directory test-python PYTHON="$$python" VENV=".venv-$$version"; \
	done
	@printf '\nmake test-all: all passed\n'

lint: lint-rust lint-python

# Clippy with the extension's interpreter: pyo3 is then configured once.
lint-rust: $(MADE)
	@cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 \
		|| rustup component add rustfmt clippy
	$(call step,cargo fmt,cargo fmt --check)
	$(call step,clippy without Python,cargo clippy --locked --profile $(CARGO_PROFILE) --all-targets -- -D warnings)
	$(call step,clippy with Python,PYO3_PYTHON="$(abspath $(BIN)/python)" cargo clippy --locked --profile $(CARGO_PROFILE) --all-targets --features python -- -D warnings)

lint-python: $(VENV)/.quick
	$(call step,ruff format,$(BIN)/ruff format --check .)
	$(call step,ruff check,$(BIN)/ruff check .)
	$(call step,mypy,$(BIN)/mypy)
	$(call step,stubtest,$(BIN)/python -m mypy.stubtest tiebeam._core)

bench: $(VENV)/.release
	@$(BIN)/python benches/python/run.py $(ARGS)

bench-redis bench-rabbitmq: bench-%: $(VENV)/.release
	@cd benches/python && $(abspath $(BIN))/python -m processes $* $(ARGS)

bench-core:
	@cargo bench --locked --bench core -- $(ARGS)

exit-matrix:
	@set -e; pythons="$$(.ci/pythons)"; for python in $$pythons; do \
		version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		$(MAKE) --no-print-directory ".venv-$$version/.quick" PYTHON="$$python" VENV=".venv-$$version"; \
		".venv-$$version/bin/python" tests/exit_matrix.py $(ARGS); \
	done

faults: $(VENV)/.quick
	@$(BIN)/python -m tests.faults --full $(ARGS)

FUZZ_SECONDS ?= 60
TARGET = $(shell rustc -vV | sed -n 's/^host: //p')
FUZZ := event topic filter
# The coverage that libFuzzer is led by; what cargo-fuzz would say.
COVERAGE := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=4

# New finds of coverage go to fuzz/target, not into the corpus of the repository.
storms:
	$(call step,storms,TIEBEAM_STORMS=10000 cargo test --locked --profile $(CARGO_PROFILE) --test storms -- --nocapture)

fuzz:
	@cd fuzz && RUSTFLAGS="$(COVERAGE)" cargo +nightly build --release --target $(TARGET)
	@mkdir -p fuzz/artifacts; for target in $(FUZZ); do \
		mkdir -p fuzz/target/corpus/$$target; \
		fuzz/target/$(TARGET)/release/$$target -max_total_time=$(FUZZ_SECONDS) -timeout=10 \
			-artifact_prefix=fuzz/artifacts/ fuzz/target/corpus/$$target fuzz/corpus/$$target; \
	done

# --- set-up -------------------------------------------------------------------------------

$(MADE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo 'tiebeam needs CPython 3.10 or newer; say which: make PYTHON=python3.12 ...' >&2; exit 1; }
	@cargo --version >/dev/null 2>&1 || { echo 'tiebeam needs Rust: there is no cargo' >&2; exit 1; }
	@printf '== %s\n' "$(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV) || { \
		echo 'this Python cannot make environments; on Debian: apt-get install python3-venv' >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'maturin>=1.9.4,<2'
	@touch $@

# $(call build,profile,extras): the extension, and what the extras name, into the environment.
define build
@printf '\n== %s\n' "the extension, profile $(1)"
@rm -f $(VENV)/.quick $(VENV)/.release
@VIRTUAL_ENV="$(abspath $(VENV))" $(BIN)/maturin develop --locked --profile $(1) --extras $(2)
@touch $@
endef

# What the tests run against.
$(VENV)/.quick: $(MADE) $(CORE)
	$(call build,$(CARGO_PROFILE),test$(comma)dev$(comma)examples)

# What users get.
$(VENV)/.release: $(MADE) $(CORE)
	$(call build,release,examples$(comma)bench)

comma := ,

clean:
	rm -rf .venv .venv-3.* target python/tiebeam/_core.*.so
