# Visage: `make demo` and `make test` are all a newcomer needs; both install what is missing and are quick the second time.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
CACHE := .cache
STAMPS := $(CACHE)/stamps
ARGS ?=
KILLS ?= 50
WORKERS ?= 3
TIMES ?= 0
SUBSCRIBERS ?= 1000
SECONDS_EACH ?= 30
# Golden pictures that are not part of the project; their tests say so when they are skipped.
export VISAGE_TESTDATA ?= $(abspath $(wildcard ../shared/testdata))

.PHONY: help setup build demo test test-qdrant test-cluster chaos load reconnects faults fuzz lint deploy-lint clean

help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMPS)/debian $(STAMPS)/onnxruntime $(STAMPS)/fixtures ## Installs Debian packages, ONNX Runtime and the demo's pictures

build: $(STAMPS)/debian ## Builds the release binary, target/release/visage
	cargo build --release --locked

demo: setup build ## Plays real faces over RTSP and recognises them (make demo ARGS=--keep leaves it running)
	target/release/visage models pull
	target/release/visage demo $(ARGS)

# Built as the tests need it, binary included: a plain build would compile half the tree a second time with other features.
test: setup ## Runs all tests
	cargo test --locked --no-run
	target/debug/visage models pull retinaface-mnet025 dlib-resnet mobilefacenet liveness antispoof
	scripts/test.sh

test-qdrant: setup ## Runs the vector store's tests against the server named by VISAGE_TEST_QDRANT_URL
	@test -n "$${VISAGE_TEST_QDRANT_URL:-}" || { echo "set VISAGE_TEST_QDRANT_URL, such as http://127.0.0.1:6334"; exit 1; }
	cargo test --locked --lib store::qdrant -- --nocapture

# Ends with one line of JSON: {"kills", "events", "lost", "doubled", "enrolled", "enrolled_lost"}.
chaos: setup ## Kills the server at random moments under load and counts what is lost (make chaos KILLS=200)
	cargo test --locked --no-run
	target/debug/visage models pull retinaface-mnet025 dlib-resnet
	VISAGE_CHAOS_KILLS=$(KILLS) VISAGE_CHAOS_REPORT=$(abspath target/chaos.json) cargo test --locked --test suite chaos
	@cat target/chaos.json

# Ends with one line of JSON: {"workers", "kills", "failover_s": {"p50", "max"}, "events", "lost", "doubled"}.
test-cluster: setup ## Kills and stops workers and gateways of a cluster on a real NATS server (make test-cluster KILLS=30 WORKERS=3)
	cargo test --locked --no-run
	target/debug/visage models pull retinaface-mnet025 dlib-resnet
	VISAGE_CLUSTER_TEST_KILLS=$(KILLS) VISAGE_CLUSTER_TEST_WORKERS=$(WORKERS) VISAGE_CLUSTER_TEST_REPORT=$(abspath target/cluster.json) \
		cargo test --locked --test suite cluster::
	@cat target/cluster.json

# Ends with one line of JSON: threads, open files, memory and CPU before and after.
reconnects: setup ## Connects to cameras again and again and counts what is left behind (make reconnects TIMES=1000)
	VISAGE_RECONNECTS=$(or $(filter-out 0,$(TIMES)),1000) VISAGE_RECONNECTS_REPORT=$(abspath target/reconnects.json) \
		cargo test --locked --test suite camera_faults_reconnects
	@cat target/reconnects.json

# Ends with a table, which is in target/camera-faults.json, too.
faults: setup ## Breaks cameras in every way we know (make faults TIMES=5), 200 of them at once
	VISAGE_FAULT_TIMES=$(or $(filter-out 0,$(TIMES)),5) VISAGE_FAULT_FLAPPING=200 \
		cargo test --locked --test suite camera_faults::every_fault -- --nocapture

# Ends with one line of JSON: latency of a fast subscriber without and beside the slow ones, memory.
load: setup ## Holds many subscribers that do not read beside one that does (make load SUBSCRIBERS=1000)
	cargo test --locked --no-run
	target/debug/visage models pull retinaface-mnet025 dlib-resnet
	VISAGE_LOAD_SUBSCRIBERS=$(SUBSCRIBERS) VISAGE_LOAD_REPORT=$(abspath target/load.json) cargo test --locked --test suite load::
	@cat target/load.json

fuzz: setup ## Mutates what parsers read (make fuzz SECONDS_EACH=300; see fuzz/README.md)
	VISAGE_FUZZ_SECONDS=$(SECONDS_EACH) cargo test --locked --test fuzz -- --nocapture

lint: $(STAMPS)/debian $(STAMPS)/buf deploy-lint ## Format, clippy, docs, proto lint, deploy; warnings are errors
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --lib
	cd proto && ../$(CACHE)/tools/buf lint

deploy-lint: $(STAMPS)/deploy-tools ## Renders the Helm chart and judges it, compose.yaml and the Dockerfile; no cluster, no network
	scripts/check-deploy.sh

clean: ## Removes what was built and fetched (Debian packages stay)
	rm -rf target $(CACHE) demo-out

$(STAMPS)/debian: scripts/setup-debian.sh
	scripts/setup-debian.sh
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/onnxruntime: scripts/setup-onnxruntime.sh scripts/fetch.sh | $(STAMPS)/debian
	scripts/setup-onnxruntime.sh $(CACHE)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/fixtures: scripts/setup-fixtures.sh scripts/fetch.sh | $(STAMPS)/debian
	scripts/setup-fixtures.sh $(CACHE)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/buf: scripts/setup-buf.sh scripts/fetch.sh | $(STAMPS)/debian
	scripts/setup-buf.sh $(CACHE)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/deploy-tools: scripts/setup-deploy-tools.sh scripts/deploy-requirements.txt scripts/fetch.sh | $(STAMPS)/debian
	scripts/setup-deploy-tools.sh $(CACHE)
	@mkdir -p $(STAMPS) && touch $@
