# Every target that people use has a line after ## that says what it does.

MODULES := shared shared/sdk functions deploy
GO      := go
# How many packages are compiled and tested, or fuzzed, at once.
JOBS    ?= 2
BIN     := $(CURDIR)/.bin

# The tools have a module of their own, so that what they need does not mix
# with what the product needs.
TOOL      := GOWORK=off $(GO) -C .tools build -trimpath -o $(BIN)/
GENERATE  := buf protoc-gen-go protoc-gen-go-grpc protoc-gen-connect-go protoc-gen-grpc-gateway protoc-gen-openapiv2
GENERATED := shared/api/gen

.DEFAULT_GOAL := help
.PHONY: help generate check-generated lint fmt test e2e e2e-instances e2e-knative need-cluster faults faults-cluster faults-short soak fuzz bench bench-short run build example images release up down clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build .bin/mayfly, which is every verb, the client and `mayfly run`
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/mayfly ./functions/cmd/mayfly

run: build ## Run everything on this machine, on 127.0.0.1:8080 (ARGS: see mayfly run --help)
	$(BIN)/mayfly run $(ARGS)

example: ## Build the example scenario into .bin/riddle
	mkdir -p $(BIN)/riddle && cp shared/sdk/examples/riddle/Pulumi.yaml $(BIN)/riddle/
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o $(BIN)/riddle/scenario ./shared/sdk/examples/riddle
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o $(BIN)/riddle/service ./shared/sdk/examples/riddle/service

images: ## Build and push the images to REGISTRY=registry.example/path, print their references
	$(GO) run ./deploy/cmd/deploy images

release: ## As images, for every architecture and with a list of parts in .bin/release
	$(GO) run ./deploy/cmd/deploy images --arch amd64,arm64 --sbom $(BIN)/release

up: ## Put Mayfly onto the cluster of the current kubeconfig; images go to REGISTRY
	$(GO) run ./deploy/cmd/deploy up

down: ## Remove Mayfly, its state and its instances from the cluster
	$(GO) run ./deploy/cmd/deploy down

# They read files outside of their module, such as config/: a result from Go's
# cache would not know that those have changed.
test: ## Test every module, with the race detector
	@for module in $(MODULES); do \
		echo "== $$module"; (cd $$module && $(GO) test -race -count 1 -p $(JOBS) -timeout 30m ./...) || exit 1; \
	done

# They wait for the cluster more than they compute.
E2E := $(GO) test -tags cluster -count 1 -p 1 -parallel 8 -timeout 60m

e2e: e2e-knative e2e-instances ## Test on the cluster of $KUBECONFIG, with $REGISTRY and $INGRESS (README, "On Kubernetes")

e2e-instances: need-cluster ## Of these, the tests of instances, which need no Knative
	cd shared && $(E2E) ./kubernetes/... ./isolation/... ./knative/...
	cd functions && $(E2E) -run '^TestCluster' ./...

e2e-knative: need-cluster ## Of these, the tests of all of Mayfly; kn must be on the PATH
	cd deploy && $(E2E) ./...

FAULTS = $(GO) test -tags faults -count 1 -timeout 90m -v -run '$(FAULTS_RUN)' ./cmd/mayfly
faults: FAULTS_RUN ?= ^(TestFaults|TestRush|TestKilled)
faults-short: FAULTS_RUN ?= ^(TestFaults|TestRush)

faults: ## Break everything around Mayfly while clients call it, and check every answer ($FAULTS_CALLS each, $FAULTS_SEED; FAULTS_RUN='TestFaults/redis full' for one); on a cluster too
	cd functions && $(FAULTS)
	@[ -n "$$KUBECONFIG" ] || echo 'To do so on a cluster set KUBECONFIG, REGISTRY and INGRESS: see README.md, "On Kubernetes".'
	[ -z "$$KUBECONFIG" ] || $(MAKE) faults-cluster

faults-short: ## The same with fewer calls, in about ten minutes on two cores
	cd functions && FAULTS_CALLS=$${FAULTS_CALLS:-150} $(FAULTS)

faults-cluster: need-cluster ## Of these, those on a cluster, in about fifteen minutes on two cores
	cd deploy && $(GO) test -tags 'cluster faults' -count 1 -timeout 90m -v -run '^TestFaultsOnCluster$$' ./e2e

soak: ## Create, renew and delete instances $SOAK_CYCLES times (10000), and see that nothing piles up
	cd functions && SOAK_CYCLES=$${SOAK_CYCLES:-10000} $(GO) test -count 1 -timeout 240m -v -run '^TestSoak$$' ./cmd/mayfly

fuzz: ## Fuzz all that reads what others wrote, each for TIME=1m, or what matches PATTERN=, and keep what is found
	.ci/fuzz $(or $(TIME),1m) '$(or $(PATTERN),.)' $(JOBS)

need-cluster:
	@for setting in KUBECONFIG REGISTRY INGRESS; do \
		[ -n "$$(printenv $$setting)" ] || { echo "set $$setting: see README.md, \"On Kubernetes\""; exit 1; }; \
	done

BENCH := $(GO) test -v -run '^$$' -benchtime 1x -timeout 60m

bench: ## Measure the verbs and print tables; on a cluster too, if $KUBECONFIG names one
	cd functions && $(BENCH) -bench "BenchmarkMayfly|BenchmarkSlowUpdate" ./cmd/mayfly
	cd functions && $(GO) test -run '^$$' -bench . ./gateway
	@[ -n "$$KUBECONFIG" ] || echo 'To measure on a cluster set KUBECONFIG and REGISTRY: see README.md, "On Kubernetes".'
	[ -z "$$KUBECONFIG" ] || (cd functions && $(BENCH) -tags cluster -bench BenchmarkKubernetes ./cmd/mayfly)
	[ -z "$$KUBECONFIG" ] || (cd deploy && $(BENCH) -tags cluster -bench BenchmarkCluster ./e2e)
	cd shared/sdk && $(GO) test -run '^$$' -bench BenchmarkStart .

bench-short: need-cluster ## Run what measures instances on a cluster, to see that it runs
	cd functions && $(BENCH) -short -tags cluster -bench BenchmarkKubernetes ./cmd/mayfly

lint: $(BIN)/golangci-lint $(BIN)/buf ## Check style, mistakes and who imports whom
	cd shared/api && $(BIN)/buf lint
	@for module in $(MODULES); do \
		echo "== $$module"; (cd $$module && GOWORK=off $(GO) mod tidy -diff && $(BIN)/golangci-lint run --allow-parallel-runners --config $(CURDIR)/.golangci.yml ./...) || exit 1; \
	done

fmt: $(BIN)/golangci-lint $(BIN)/buf ## Format Go and protos
	cd shared/api && $(BIN)/buf format -w
	@for module in $(MODULES); do \
		(cd $$module && $(BIN)/golangci-lint fmt --config $(CURDIR)/.golangci.yml ./...) || exit 1; \
	done

generate: $(addprefix $(BIN)/,$(GENERATE)) ## Make shared/api/gen from the protos
	cd shared/api && $(BIN)/buf generate

check-generated: generate ## Fail if shared/api/gen is not what the protos make
	@test -z "$$(git status --porcelain -- $(GENERATED))" || \
		{ git --no-pager diff --stat -- $(GENERATED); git status --short -- $(GENERATED); \
		echo "$(GENERATED) is stale: run 'make generate' and commit it"; exit 1; }

clean: ## Remove what was built
	rm -rf $(BIN)

$(BIN)/golangci-lint: .tools/go.mod
	$(TOOL) github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(BIN)/buf: .tools/go.mod
	$(TOOL) github.com/bufbuild/buf/cmd/buf

$(BIN)/protoc-gen-go: .tools/go.mod
	$(TOOL) google.golang.org/protobuf/cmd/protoc-gen-go

$(BIN)/protoc-gen-go-grpc: .tools/go.mod
	$(TOOL) google.golang.org/grpc/cmd/protoc-gen-go-grpc

$(BIN)/protoc-gen-connect-go: .tools/go.mod
	$(TOOL) connectrpc.com/connect/cmd/protoc-gen-connect-go

$(BIN)/protoc-gen-grpc-gateway $(BIN)/protoc-gen-openapiv2: .tools/go.mod
	$(TOOL) github.com/grpc-ecosystem/grpc-gateway/v2/$(@F)
