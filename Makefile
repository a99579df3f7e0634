# Run `make` alone for the list of targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
GO ?= go

# Two packages at once: some tests start real programs and measure time.
PARALLEL ?= 2
TIMEOUT ?= 10m
FUZZTIME ?= 30s
BIN := bin
# How often the lab kills, cuts the power of each pair of disks, and repeats other faults.
LAB ?= LAB_ROUNDS=60 LAB_CUTS=30 LAB_CALLS=2

.DEFAULT_GOAL := help
.PHONY: help build agent test tools check fmt fuzz bench lab soak demo docs screenshots clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: agent ## build both programs into bin/
	$(GO) build -trimpath -o $(BIN)/vigil ./cmd/vigil

agent: ## build the agent alone: static, without C
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/vigil-agent ./cmd/vigil-agent

# What takes longest stands first, so that nothing waits for it at the end.
SLOW := ./agent ./spool ./panel ./media/mediatest/real ./demo ./store/duckdb
# These walk through every step that can fail. With -short it is a sample of the steps;
# without the race detector it is all of them.
MATRICES := ./agent ./spool

test: tools ## install what tests need, then vet and test everything, with the race detector
	$(GO) vet ./...
	@# The lab starts programs as processes; a race detector in its tests sees nothing of them.
	$(GO) test -race -short -vet=off -timeout $(TIMEOUT) -p $(PARALLEL) $(SLOW) $$($(GO) list ./... | grep -v '/lab$$')
	$(GO) test -vet=off -timeout $(TIMEOUT) -p $(PARALLEL) ./lab $(MATRICES)

tools: ## install the programs that tests start, where apt-get exists
	@scripts/test-tools.sh

check: ## everything that must be true before a commit
	@test -z "$$(gofmt -l . | tee /dev/stderr)" || { echo "run: make fmt"; exit 1; }
	$(MAKE) test
	CGO_ENABLED=0 $(GO) build -o /dev/null ./cmd/vigil-agent

fmt: ## format the code
	gofmt -w .

fuzz: ## run every fuzz target for FUZZTIME (30s) each
	@FUZZTIME=$(FUZZTIME) GO=$(GO) scripts/fuzz.sh

bench: ## measure against peers, side by side (minutes)
	$(GO) run ./bench

lab: ## the real programs as processes, broken in every way; writes the table of docs/reliability/report.md (needs root, minutes)
	$(LAB) LAB_REPORT=docs/reliability/report.md $(GO) test ./lab -count=1 -v -timeout 2h

SOAK ?= 7200
soak: ## the lab again and again for SOAK seconds (7200)
	@end=$$(( $$(date +%s) + $(SOAK) )); n=0; \
	while [ $$(date +%s) -lt $$end ]; do n=$$((n+1)); echo "== round $$n"; \
		LAB_ROUNDS=200 LAB_CUTS=100 LAB_CALLS=5 $(GO) test ./lab -count=1 -timeout 4h; done; echo "$$n rounds"

demo: ## the whole service on this machine with a simulated fleet
	$(GO) run ./cmd/vigil demo

docs: ## write the generated pages and example files anew
	$(GO) test ./config -run 'TestGenerated|TestFixtures' -update
	$(GO) test ./cmd/vigil ./cmd/vigil-agent -run TestReference -update
	$(GO) test ./api -run TestReferencePage -update
	$(GO) test . -run TestMetricsPage -update

screenshots: tools ## take the pictures of the documentation anew, of a demo (some minutes)
	$(GO) run ./panel/screenshots -out docs/images

clean: ## remove what was built
	rm -rf $(BIN)
