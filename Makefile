# The two commands of the README are `make demo` and `make test`; `make help` lists the others.
# Every target installs what it needs and is missing, and says so (scripts/setup.sh).
.DEFAULT_GOAL := help
.PHONY: help demo test lint deny fuzz runtimes pure

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Build and run the demo: cameras, a model, results; everything embedded
	@scripts/setup.sh build
	@scripts/setup.sh runtimes || true
	cargo run --release -p omma-cli -- demo

test: ## Run all tests, with every runtime, those of Redis on a Valkey too (what CI runs)
	@scripts/setup.sh build test runtimes
	cargo test --workspace --doc --quiet
	@if server=$$(scripts/valkey.sh path); then set -x; \
	  OMMA_REDIS_SERVER=$$server OMMA_REQUIRE_RUNTIMES=1 cargo nextest run --workspace -E 'binary(/redis/)'; fi
	OMMA_REQUIRE_RUNTIMES=1 cargo nextest run --workspace

lint: ## Formatting, clippy without warnings, and the build that needs no C compiler
	@scripts/setup.sh build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	cargo clippy -p omma-cli --no-default-features --features rten --quiet -- -D warnings

# Advisories are left to `cargo deny check advisories`: their database is fetched from GitHub, which not every
# machine that builds this reaches.
deny: ## Licences, sources and versions of the dependencies (deny.toml)
	@scripts/setup.sh build deny
	cargo deny check bans licenses sources

fuzz: ## Run every fuzz target for a minute (scripts/fuzz.sh SECONDS TARGET... for some)
	@scripts/fuzz.sh

runtimes: ## Install ONNX Runtime and OpenVINO into the user's cache folder
	@scripts/setup.sh runtimes

pure: ## The demo from a build without any native library (rten, zune-jpeg)
	cargo run --release -p omma-cli --no-default-features --features rten -- demo
