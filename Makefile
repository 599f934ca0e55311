# Every target sets the checkout up first; the second time that costs a fraction of a second.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
PYTEST_ARGS ?=
GO_FLOOR := go1.24.11
# Modules of their own: what they require never reaches the client.
GO_MODULES := go-client/gosdk go-client/examples/sqlvault
# The Go tests and the demo start this program.
export MCP_SIDECAR_COMMAND ?= $(CURDIR)/$(BIN)/mcp-sidecar

.PHONY: help setup lock gen fmt lint test test-python test-go e2e conformance demo demo-chaos bench bench-quick soak fuzz check

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' Makefile

setup: ## Install everything: .venv, node_modules, compiled bytecode
	@scripts/setup.sh

lock: ## Pin all packages anew (LOCK_ARGS=--upgrade for newer ones)
	@scripts/lock.sh $(LOCK_ARGS)

gen: setup ## Render the contract to OpenRPC and Go
	@$(BIN)/python proto/generate.py

fmt: setup ## Format Python and Go
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix --exit-zero --quiet .
	@gofmt -w go-client bench/go

lint: setup ## Contract drift, ruff, mypy, gofmt, go vet
	$(BIN)/python proto/generate.py --check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@files="$$(gofmt -l go-client bench/go)"; if [ -n "$$files" ]; then echo "gofmt: run make fmt:" $$files >&2; exit 1; fi
	cd go-client && go vet ./...
	cd bench/go && go vet ./...

test-go: setup
	cd go-client && go build ./... && go test -race -count=1 ./...
	cd go-client && export GOTOOLCHAIN=$(GO_FLOOR) && go build ./... && go vet ./... && go test -short -count=1 ./...
	for module in $(GO_MODULES); do (cd "$$module" && go vet ./... && go test -count=1 ./...); done

test-python: setup
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test: setup ## All tests of both languages; Go also with its oldest supported version
	@$(MAKE) --no-print-directory test-go
	@$(MAKE) --no-print-directory test-python

e2e: setup ## Only the tests against servers that others wrote
	$(BIN)/python -m pytest tests/e2e $(PYTEST_ARGS)

conformance: setup ## The official client suite of MCP, over the bare sidecar and over the Go client
	$(BIN)/python scripts/conformance.py --driver python $(CONFORMANCE_ARGS)
	$(BIN)/python scripts/conformance.py --driver go --requirements 2025-11-25 --requirements 2026-07-28 $(CONFORMANCE_ARGS)

demo: setup ## Start the sidecar from a small Go program and use six real servers, a question and a login among it
	@cd go-client && go run ./examples/demo

demo-chaos: setup ## Kill servers and the sidecar while calls run, and show what the host saw
	@cd go-client && go run ./examples/demo -chaos 3

bench: setup ## Measure everything beside bare FastMCP and the official Go SDK; writes README.md and bench/results.json
	$(BIN)/python -m bench --json bench/results.json --readme README.md

bench-quick: setup ## The short form, under two minutes; writes nothing
	$(BIN)/python -m bench --quick

soak: setup ## Measure the whole bar at full size, an hour; writes docs/bar.md
	$(BIN)/python -m tests.bar

fuzz: setup ## Fuzz the frames of both ends with coverage guidance, a minute each
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-fuzz.lock
	$(BIN)/python scripts/fuzz_frames.py -max_total_time=60 -max_len=8192
	cd go-client && go test -run '^$$' -fuzz '^FuzzFrame$$' -fuzztime 60s .

check: setup ## What CI runs: lint and all tests
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory test
