# Interdict: build, test, try. `make help` lists the targets.

GO        ?= go
BIN       := bin
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS   := -s -w -X interdict/internal/version.Version=$(VERSION)
FUZZTIME  ?= 5s
LINT      := $(BIN)/golangci-lint
LINT_VERSION := v2.15.0

export CGO_ENABLED = 0

.DEFAULT_GOAL := help
.PHONY: help packages build test e2e fuzz lint fmt generate demo bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

packages: ## install the Debian packages that the tests need (root), or name the missing ones
	@scripts/packages test

build: ## build bin/interdict and bin/interdict-agent, static and reproducible
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/interdict ./cmd/interdict
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/interdict-agent ./cmd/interdict-agent

test: packages build ## everything that has to hold: vet, unit, race, fuzz seeds and short fuzzing, end to end
	@scripts/test

e2e: packages build ## the end-to-end tests alone
	$(GO) test -count=1 ./test/...

fuzz: ## fuzz every parser for FUZZTIME each
	@scripts/fuzz $(FUZZTIME)

lint: $(LINT) ## style and house rules
	$(LINT) run ./...

$(LINT):
	GOBIN=$(abspath $(BIN)) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)

fmt: $(LINT) ## format all code
	$(LINT) fmt ./...

generate: ## write the generated files anew: the OpenAPI document, the page of commands
	$(GO) generate ./...

demo: build ## play the main story in private network namespaces, then keep the lab up
	@scripts/packages demo
	$(BIN)/interdict demo $(DEMOFLAGS)

bench: packages build ## measure the budgets of docs/benchmarks.md
	@scripts/bench

clean: ## remove what was built
	rm -rf $(BIN)
