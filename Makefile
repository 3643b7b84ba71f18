# The only commands a person needs. Each installs what it needs (Rust itself aside) or says what is missing.
.PHONY: help demo test check bench rust setup

CARGO ?= cargo

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup ## See it work: three hosts, three nodes, a dozen sandboxes, a killed leader, a lost host (Linux, root, about four minutes)
	$(CARGO) build --locked -p plimsoll -p plimsoll-tests --bins
	target/debug/plimsoll-demo

test: rust ## Units, properties, simulation, the real multi-host lab, and the deployment files
	@deploy/lab/install-tools.sh || { [ "$$CI" != true ] && echo "=== going on without the tools above: the lab suites will be skipped ===" >&2; }
	$(CARGO) build --locked --workspace --bins
	$(CARGO) test --locked --workspace --no-fail-fast
	deploy/check.sh

check: ## Read-only: formatting, lints as errors, documentation, layers
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked -p plimsoll --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --locked --workspace --no-deps --document-private-items
	$(CARGO) test --locked -p plimsoll-tests --test layers

bench: rust ## What it costs and is worth, beside etcd, Swarm and bare Docker (three quarters of an hour, FULL=1 two hours; Linux, root)
	@deploy/lab/install-tools.sh --bench
	$(CARGO) build --locked --profile bench-run -p plimsoll -p plimsoll-bench --bins
	target/bench-run/plimsoll-bench all $(if $(FULL),--full)
	$(CARGO) bench --locked --profile bench-run -p plimsoll-bench

rust:
	@command -v $(CARGO) >/dev/null || { echo "cargo is missing: install Rust 1.90 or later from https://rustup.rs and try again" >&2; exit 1; }

setup: rust
	@deploy/lab/install-tools.sh
