# The same targets run on a laptop and in CI. `make run` needs Rust and make. `make test` also needs Python 3, npm, and
# Terraform for the tests that deploy to a local AWS. The durations are those of a first build on two cores.

CARGO ?= cargo
PYTHON ?= python3
TERRAFORM ?= terraform
DOCKER ?= docker
UV ?= uv
VENV := .venv
# SQL (DataFusion) and AWS take longer to build than everything else, so `make run` builds without them.
FEATURES := --features defi-local/sql,defi-local/aws
READERS_LAKE := target/readers-lake
EXPORTS_LAKE := target/exports-lake
PAGES_LAKE := target/pages-lake

# The environment to deploy, and the CPU architecture of its functions.
ENV ?= dev
ARCHITECTURE ?= x86_64
CONFIG ?= shared/config.toml
# Additional arguments of terraform apply and destroy: -auto-approve, -var …
TF_APPLY ?=

# Tests write thousands of small files and wait for the disk after each. In memory they take a tenth less time.
MEMORY := $(shell df --output=avail /dev/shm 2>/dev/null | awk 'NR == 2 && $$1 > 4000000 { print "/dev/shm" }')
ifneq ($(MEMORY),)
test-rust test-chain test-docs test-notebook: export TMPDIR := $(MEMORY)
endif

.PHONY: help run build test binaries test-packages test-rust test-readers test-exports test-docs test-notebook test-pages test-chain test-aws test-aws-runs test-local-aws test-aws-node test-environments test-wheel soak soak-load soak-faults soak-kills soak-fuzz bench bench-guard bench-instructions mutants check infra-check requirements fmt image wheel package bench-cold-start local-aws environment deploy destroy clean

help: ## Show the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

run: ## Run the whole pipeline over the sample chain, into ./lakehouse (3 min)
	@echo "Building the defi command without optimization, SQL and AWS: about 3 minutes on two cores, once"
	$(CARGO) run --locked -p defi-local -- run

build: ## Build the optimized command with SQL and AWS: target/release/defi (18 min)
	@echo "Building the optimized defi command with SQL and AWS: about 18 minutes on two cores, once"
	$(CARGO) build --release --locked -p defi-local $(FEATURES)

test: ## Run every test (25 min)
	@echo "Building everything without optimization and running all tests: about 25 minutes on two cores"
	@$(MAKE) --no-print-directory --jobs 3 --output-sync=target binaries test-packages
	@$(MAKE) --no-print-directory --jobs 5 --output-sync=target test-rust test-aws test-aws-runs test-chain test-environments test-local-aws test-aws-node test-docs test-notebook test-readers test-exports test-pages

# Builds the command and the functions with the features and the profile of `make test-rust`: any other choice would
# build all dependencies a second time.
binaries:
	$(CARGO) test --locked --workspace $(FEATURES) --no-run --quiet

# The packages of the tests from PyPI and npm, which are downloaded while the compiler runs.
test-packages: $(patsubst %,$(VENV)/%/ready,aws readers feast dbt croissant docs notebook) tests/pages/node_modules/ready tests/chain/node_modules/ready

test-rust: $(VENV)/aws/ready
	$(CARGO) test --locked --workspace $(FEATURES)

# Other Parquet readers, over a lake that the command has just written.
test-readers: binaries $(VENV)/readers/ready
	rm -rf $(READERS_LAKE)
	target/debug/defi run --lake $(READERS_LAKE) --wallets 150 --days 20 --seed 7
	DEFI_LAKE=$(READERS_LAKE) DEFI_BIN=$(CURDIR)/target/debug $(VENV)/readers/bin/python -m pytest -q -p no:cacheprovider tests/readers

# Feast, dbt and mlcroissant, over a lake with four published sets.
test-exports: binaries $(VENV)/feast/ready $(VENV)/dbt/ready $(VENV)/croissant/ready
	rm -rf $(EXPORTS_LAKE)
	for day in 2023-01-09 2023-01-12 2023-01-13 2023-01-21; do \
		target/debug/defi run --lake $(EXPORTS_LAKE) --wallets 60 --days 20 --seed 7 --as-of $$day || exit 1; \
	done
	for tool in feast dbt croissant; do \
		DEFI_LAKE=$(EXPORTS_LAKE) DEFI_BIN=$(CURDIR)/target/debug $(VENV)/$$tool/bin/python -m pytest -q -p no:cacheprovider tests/$$tool || exit 1; \
	done

# The commands in the README and in docs/, as a new user runs them.
test-docs: binaries $(VENV)/docs/ready $(VENV)/feast/ready $(VENV)/dbt/ready
	DEFI_BIN=$(CURDIR)/target/debug $(VENV)/docs/bin/python -m pytest -q -p no:cacheprovider tests/docs

# The example notebook, over a lake of the credit scenario that the test builds.
test-notebook: binaries $(VENV)/notebook/ready
	DEFI_BIN=$(CURDIR)/target/debug $(VENV)/notebook/bin/python -m pytest -q -p no:cacheprovider tests/notebook

# The HTML pages in a browser, over a lake with two published sets. Screenshots are written to target/pages.
test-pages: binaries tests/pages/node_modules/ready
	@command -v chromium >/dev/null || checks/apt-install chromium
	rm -rf $(PAGES_LAKE) target/pages
	target/debug/defi run --lake $(PAGES_LAKE) --wallets 150 --days 20 --seed 7 --as-of 2023-01-14
	target/debug/defi run --lake $(PAGES_LAKE) --wallets 150 --days 20 --seed 7
	cd tests/pages && DEFI_LAKE=$(PAGES_LAKE) node --test

tests/pages/node_modules/ready: tests/pages/package-lock.json
	npm ci --prefix tests/pages --ignore-scripts --no-audit --no-fund --loglevel=error
	touch $@

# Lakes that are filled from a local Ethereum node with the contracts of Aave v2 and Compound v2, compared with what the
# contracts say.
test-chain: binaries $(VENV)/readers/ready tests/chain/node_modules/ready
	DEFI_BIN=$(CURDIR)/target/debug $(VENV)/readers/bin/python -m pytest -q -p no:cacheprovider tests/chain

tests/chain/node_modules/ready: tests/chain/package-lock.json tests/chain/contracts.json $(wildcard tests/chain/contracts/*) tests/chain/lib/compile.mjs
	npm ci --prefix tests/chain --ignore-scripts --no-audit --no-fund --loglevel=error
	node tests/chain/setup.mjs
	touch $@

# The functions and the state machine, deployed by Terraform to a local AWS. They mostly wait, as in AWS.
AWS_TESTS = $(VENV)/aws/bin/python -m pytest -q -p no:cacheprovider
AWS_RUN_TESTS := $(patsubst %,tests/aws/test_%.py,command concurrent_runs deadlines failures)
OTHER_AWS_TESTS := $(AWS_RUN_TESTS) $(wildcard tests/aws/test_local_*.py) tests/aws/test_environments.py tests/aws/test_node.py
test-aws: binaries $(VENV)/aws/ready
	$(AWS_TESTS) tests/aws $(OTHER_AWS_TESTS:%=--ignore %)

# Runs that fail, stop or overlap, on another local AWS.
test-aws-runs: binaries $(VENV)/aws/ready
	$(AWS_TESTS) $(AWS_RUN_TESTS)

# The local AWS itself.
test-local-aws: $(VENV)/aws/ready
	$(AWS_TESTS) $(wildcard tests/aws/test_local_*.py)

# The same with an Ethereum node as the source, on another local AWS.
test-aws-node: binaries $(VENV)/aws/ready tests/chain/node_modules/ready
	$(AWS_TESTS) tests/aws/test_node.py

# `make deploy` of two environments to another local AWS, with functions that are fakes.
test-environments: $(VENV)/aws/ready
	$(AWS_TESTS) tests/aws/test_environments.py

# The wheel in a new virtual environment. Not part of `make test`, which would have to build all dependencies once more: the
# workflow for releases runs it.
test-wheel: wheel
	DEFI_WHEELS=$(CURDIR)/target/wheels $(VENV)/wheel/bin/python -m pytest -q -p no:cacheprovider tests/wheel

# Python compiles a module when it is first imported, below target/.
export PYTHONPYCACHEPREFIX := $(CURDIR)/target/pycache
export PYTHONDONTWRITEBYTECODE :=

# One virtual environment per set of Python packages, because their versions conflict; all are filled by the pip of one. Only files
# whose hashes are in requirements.txt are installed, which lists all that is needed, and no package is built, since what a build
# needs has no hashes.
$(VENV)/pip/ready:
	$(PYTHON) -m venv $(VENV)/pip
	touch $@
$(VENV)/%/ready: PACKAGES = $(wildcard tests/$*/requirements.txt infra/$*/requirements.txt $*/requirements.txt)
$(VENV)/%/ready: | $(VENV)/pip/ready
	$(PYTHON) -m venv --without-pip $(VENV)/$*
	$(VENV)/pip/bin/python -m pip --python $(VENV)/$*/bin/python install --quiet --no-deps --no-compile --require-hashes --only-binary :all: --requirement $(PACKAGES)
	touch $@
$(VENV)/readers/ready: tests/readers/requirements.txt
$(VENV)/feast/ready: tests/feast/requirements.txt
$(VENV)/dbt/ready: tests/dbt/requirements.txt
$(VENV)/croissant/ready: tests/croissant/requirements.txt
$(VENV)/docs/ready: tests/docs/requirements.txt
$(VENV)/notebook/ready: tests/notebook/requirements.txt
$(VENV)/aws/ready: tests/aws/requirements.txt
$(VENV)/checks/ready: infra/checks/requirements.txt
$(VENV)/package/ready: infra/package/requirements.txt
$(VENV)/wheel/ready: tests/wheel/requirements.txt

# Locks the packages of each requirements.in for all platforms, and for Python 3.11 and newer. Of jsonpath-rw, which
# mlcroissant imports, there is no wheel: tests/croissant does without it.
REQUIREMENTS := $(wildcard tests/*/requirements.in infra/*/requirements.in bench/requirements.in)
requirements: ## Write requirements.txt, with hashes, for each requirements.in (needs uv)
	for file in $(REQUIREMENTS); do \
		$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-package jsonpath-rw \
			--output-file "$${file%.in}.txt" "$$file" || exit 1; \
	done

# The size of the soak tests: random fault scripts per chain, points per scenario at which a run is killed or its store
# fails, and cases of invalid input.
FAULT_CASES ?= 400
KILLS ?= 100
FUZZ_CASES ?= 10000000
SEED ?= 0
SOAK = $(CARGO) test --release --locked -p defi-local --test
INTO = --nocapture --test-threads 1 2>&1 | tee target/soak-
soak-%: SHELL := /bin/bash
soak-%: .SHELLFLAGS := -o pipefail -c
soak: soak-load soak-faults soak-kills soak-fuzz ## Run the long form of the tests with faults, kills, load and invalid input, and print a table of the results
	@awk -f tests/support/soak.awk $(^:%=target/%.txt)

# The folder of the results must exist before cargo creates it.
soak-load soak-faults soak-kills soak-fuzz: | target
target:
	mkdir -p $@

soak-load:
	DEFI_LOAD=1 $(SOAK) load -- $(INTO)load.txt

soak-faults:
	DEFI_FAULT_CASES=$(FAULT_CASES) DEFI_FAULT_SEED=$(SEED) $(SOAK) pipeline faults:: -- --include-ignored $(INTO)faults.txt

soak-kills:
	DEFI_KILLS=$(KILLS) $(SOAK) pipeline kills:: -- $(INTO)kills.txt

soak-fuzz:
	DEFI_FUZZ_CASES=$(FUZZ_CASES) DEFI_FUZZ_SEED=$(SEED) $(SOAK) fuzz -- $(INTO)fuzz.txt

# The number of timed runs of each job at the three sizes, the timeout of a job in seconds, and the peers of the large
# size, of which each takes more than a minute.
BENCH_TIMES ?= 3 3 1
BENCH_LIMIT ?= 600
BENCH_LARGE_PEERS ?= duckdb,polars
BENCH := target/release/bench
$(VENV)/bench/ready: bench/requirements.txt
# One command compiles everything: with other packages or targets, cargo would choose other features and build
# everything again.
BENCHES = $(CARGO) test --release --locked --quiet -p defi-bench -p defi-local
bench: $(VENV)/bench/ready ## Time the rebuild compared with DuckDB, Polars, pandas, DataFusion and chDB, training rows, the daily run, extraction, the kernels, and Parquet settings
	$(BENCHES) --test load --bench kernels --no-run
	CARGO="$(BENCHES)" bench/run $(VENV)/bench/bin/python $(BENCH) $(BENCH_LIMIT) $(BENCH_LARGE_PEERS) $(BENCH_TIMES)
	@printf '\n# Cold starts\n\n'
	@if [ -d target/package/$(ARCHITECTURE) ]; then $(MAKE) --no-print-directory bench-cold-start; \
	else echo "not measured: there are no packages; build them with make package"; fi

# Instruction counts do not depend on the load of the machine, so a test can limit them.
bench-guard: ## Compare the kernels' instruction counts with the committed ones
	$(CARGO) build --release --locked -p defi-bench
	@command -v valgrind >/dev/null || checks/apt-install valgrind
	$(PYTHON) bench/guard.py $(BENCH)

bench-instructions: ## Write the kernels' current instruction counts to bench/instructions.json
	$(CARGO) build --release --locked -p defi-bench
	$(PYTHON) bench/guard.py $(BENCH) --update

# Built once, without optimization.
DENY_VERSION := 0.20.2
DENY_HOME := $(VENV)/cargo-deny-$(DENY_VERSION)
DENY = $(DENY_HOME)/bin/cargo-deny --workspace --locked
$(DENY_HOME)/ready:
	$(CARGO) install --quiet --locked --debug --no-default-features --root $(@D) --version $(DENY_VERSION) cargo-deny
	touch $@

# Built once, without optimization.
MUTANTS_VERSION := 27.1.0
MUTANTS_HOME := $(VENV)/cargo-mutants-$(MUTANTS_VERSION)
$(MUTANTS_HOME)/ready:
	$(CARGO) install --quiet --locked --debug --root $(@D) --version $(MUTANTS_VERSION) cargo-mutants
	touch $@

# The parts to run: domain, replay, staging, planning, gate. Empty for all.
PARTS ?=
mutants: $(MUTANTS_HOME)/ready ## Change the rules, one change at a time, and list the changes that no test notices (45 min)
	PATH="$(CURDIR)/$(MUTANTS_HOME)/bin:$$PATH" checks/mutants $(PARTS)

# DEFI_REQUIRE_ADVISORIES: fail if the database of advisories is unreachable.
check: $(DENY_HOME)/ready ## Check imports, formatting, lints and documentation, and the licences, sources and advisories of dependencies
	checks/imports
	checks/toolchain
	$(PYTHON) -m unittest discover --quiet --start-directory checks
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets $(FEATURES) -- -D warnings
	$(CARGO) clippy --locked -p defi-local -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps $(FEATURES)
	$(DENY) --offline check licenses bans sources
	@checks/advisories $(DENY)

infra-check: $(VENV)/checks/ready ## Check Terraform, the policies, the state machine's definition and the Dockerfile
	infra/checks/run $(VENV)/checks
	$(VENV)/checks/bin/hadolint Dockerfile

fmt: ## Format the code
	$(CARGO) fmt --all
	$(TERRAFORM) fmt -recursive infra

image: ## Build the container image defi-features, with the command, SQL and AWS
	$(DOCKER) build --tag defi-features .

MATURIN = CARGO="$(CARGO)" $(VENV)/wheel/bin/maturin build
wheel: $(VENV)/wheel/ready ## Build the optimized command as a Python wheel: target/wheels (18 min)
	rm -rf target/wheels
	$(MATURIN) --release --out target/wheels

package: $(VENV)/package/ready ## Build the zip files of the functions: target/package/$(ARCHITECTURE) (12 min)
	@echo "Building the optimized functions: about 12 minutes on two cores, once"
	infra/package/build $(VENV)/package/bin $(CONFIG)

bench-cold-start: ## Print the size of each package, and the time from the start of its process to its first request
	$(PYTHON) infra/package/cold_start.py target/package/$(ARCHITECTURE)

local-aws: binaries $(VENV)/aws/ready ## Start a local AWS and deploy to it, with the sample chain as its source, until interrupted
	$(VENV)/aws/bin/python tests/aws

TF := $(TERRAFORM) -chdir=infra
TF_VARIABLES = -var-file=env/$(ENV).tfvars -var architecture=$(ARCHITECTURE)

# Before the packages are built, because it fails if the environment has no bucket for its state.
environment:
	infra/init-environment $(ENV)

deploy: environment package ## Deploy the environment ENV (dev, prod) to the account of the AWS credentials
	$(TF) apply $(TF_VARIABLES) $(TF_APPLY)

destroy: environment ## Remove the environment ENV; a lake with objects is kept unless force_destroy was applied
	$(TF) destroy $(TF_VARIABLES) $(TF_APPLY)

clean: ## Delete everything that was built
	$(CARGO) clean
	rm -rf $(VENV) tests/pages/node_modules
