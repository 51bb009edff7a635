# The same targets on a laptop and in CI. `make run` and `make test` need Rust, Python 3 and make, and nothing else.

CARGO ?= cargo
PYTHON ?= python3
VENV := .venv
# Everything that needs no AWS; SQL (DataFusion) takes about as long to build as all the rest, so `make run` does without.
FEATURES := --features defi-local/sql
READERS_LAKE := target/readers-lake

.PHONY: help run build test test-rust test-readers check fmt clean

help: ## Show the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

run: ## Run the whole pipeline over the sample chain, into ./lakehouse
	$(CARGO) run --release --locked -p defi-local -- run

build: ## Build the command with SQL: target/release/defi
	$(CARGO) build --release --locked -p defi-local --features sql

test: test-rust test-readers ## Run every test

test-rust:
	$(CARGO) test --locked --workspace $(FEATURES)

# Other people's Parquet readers, over a lake that the command has just made.
test-readers: $(VENV)/ready
	$(CARGO) build --locked -p defi-local --features sql
	rm -rf $(READERS_LAKE)
	target/debug/defi run --lake $(READERS_LAKE) --wallets 120 --days 15
	DEFI_LAKE=$(READERS_LAKE) $(VENV)/bin/python -m pytest -q -p no:cacheprovider tests/readers

$(VENV)/ready: tests/readers/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --requirement $<
	touch $@

check: ## Formatting, lints and documentation, warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets $(FEATURES) -- -D warnings
	$(CARGO) clippy --locked -p defi-local -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps $(FEATURES)

fmt: ## Format the code
	$(CARGO) fmt --all

clean: ## Delete everything that was built
	$(CARGO) clean
	rm -rf $(VENV)
