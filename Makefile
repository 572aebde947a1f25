# The commands of a developer. Each installs what is missing first, or says in one line what it may not install.
.DEFAULT_GOAL := help
export PATH := $(PATH):$(CURDIR)/target/tools/redis:$(CURDIR)/target/tools/deny/bin
NEXTEST := $(shell command -v cargo-nextest 2>/dev/null)
MODULE := filter/build.sh

.PHONY: help setup wasm k8s oci docs picture release tools run failover test lint fmt measure versions marathon idle growth soak partitions bench trap clean fuzz reproducible deny audit

help: ## this list
	@grep -hE '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*##/\t/' | expand -t 12

setup:
	@tests/setup.sh

wasm: setup ## the module: target/wasm32-wasip1/release/redis_sentinel_filter.wasm
	$(MODULE)

# The module with a word at which it traps, for tests/tests/e2e/trap.rs: in a directory of its own.
trap: setup
	$(MODULE) --target-dir target/trap --features trap-for-tests

tools: setup
	@cargo build --locked -p redis-sentinel-tests --no-default-features --bins

run: wasm tools ## 3 Redis, 3 Sentinels and Envoy in the foreground; Ctrl-C stops it all
	@target/debug/run

failover: tools ## a live client through a failover of a running `make run` (HOW=kill|hang|planned)
	@target/debug/failover $(HOW)

k8s: wasm ## what `kubectl apply --server-side -k k8s/all` needs: the module, and random passwords if there are none
	@for dir in proxy istio/module-file; do cp target/wasm32-wasip1/release/redis_sentinel_filter.wasm k8s/$$dir/; done
	@k8s/passwords/generate.sh

docs: ## docs/configuration.md, written anew from the code
	@WRITE_DOCS=1 cargo test --locked -q -p redis-sentinel-tests --test docs the_reference_is_what_the_code_says

oci: wasm tools ## the module as an OCI image for Istio's WasmPlugin and for image volumes: target/oci
	@target/debug/oci

picture: wasm tools ## docs/failover.svg, drawn anew from a planned failover and a kill
	@target/debug/picture

release: wasm tools ## module, image, configurations and manifests with their checksums: target/dist
	@tests/setup.sh clients
	@target/debug/release

test: lint ## everything that CI runs
	@tests/setup.sh clients
	$(MODULE)
	@$(MAKE) --no-print-directory trap
	@tests/reproducible.sh
ifdef NEXTEST
	cargo nextest run --locked --workspace
else
	cargo test --locked --workspace --exclude redis-sentinel-tests
	cargo test --locked -p redis-sentinel-tests -- --test-threads=2
endif

versions: wasm ## the end-to-end core on each minor version of Envoy, and on Valkey (some ten minutes)
	@tests/setup.sh versions
	@tests/versions.sh $(VERSIONS)

lint: setup ## formatting and clippy, for this machine and for wasm
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked -p redis-sentinel-filter --target wasm32-wasip1 -- -D warnings

fuzz: SECONDS := 60
fuzz: wasm ## libFuzzer over the core, then the module under random callbacks, SECONDS=60 each (TARGET=topology for one)
	@tests/setup.sh fuzz
	@filter/core/fuzz/run.sh $(SECONDS) $(TARGET) $(INPUT)
	@[ -n "$(TARGET)" ] || FUZZ_SECONDS=$(SECONDS) cargo test --locked -q -p redis-sentinel-tests --test fuzz -- --nocapture

reproducible: setup ## the module, built twice in different places: the same bytes
	@tests/reproducible.sh

deny: setup ## licences, sources and bans of everything that is linked, by cargo-deny (which takes three minutes to compile)
	@tests/setup.sh deny
	cargo deny --locked check licenses bans sources

audit: setup ## known vulnerabilities of everything that is linked; needs RustSec's database from GitHub
	@tests/setup.sh deny
	@cargo deny --locked fetch db || { echo "audit: NOT DONE: RustSec's database is out of reach from here" >&2; exit 1; }
	cargo deny --locked check --disable-fetch advisories

fmt: ## format the code
	cargo fmt --all

measure: wasm tools ## silence and lost writes over repeated failovers (RUNS=10, HOW="planned kill hang")
	@target/debug/measure $(or $(RUNS),10) $(HOW)

marathon: RUNS := 20
marathon: wasm tools ## RUNS=20 planned failovers, half as many kills and hangs, each with and without early_switch
	@for mode in "" --early-switch; do \
	  target/debug/measure --strict $$mode $(RUNS) planned && \
	  target/debug/measure --strict $$mode $$(($(RUNS) / 2)) kill hang || exit 1; \
	done

growth: wasm tools ## whether Envoy's memory grows with the connections that it has had (CONNECTIONS=1000000)
	@target/debug/growth $(or $(CONNECTIONS),1000000)

soak: wasm tools ## RUNS=100000 simulated runs in each weather, then broken on purpose; then one trouble after the other, by chance and under load, with every promise checked (MINUTES=30, SEED=)
	@filter/core/tests/soak.sh $(or $(RUNS),100000)
	@target/debug/soak $(or $(MINUTES),30) $(SEED)

partitions: wasm tools ## every link and half of a system cut, beside clients that ask Sentinel themselves (CASE=part of a name; root)
	@tests/setup.sh clients
	@target/debug/partitions "$(CASE)"

bench: wasm ## this proxy beside plain Envoy, HAProxy, nutcracker and redis-py, into docs/benchmarks (25 minutes; QUICK=1: two, into target/; PARTS="cpu race")
	@tests/setup.sh bench
	@cargo build --locked --quiet -p redis-sentinel-bench
	@target/debug/bench $(if $(QUICK),--quick) $(PARTS)

idle: wasm tools ## what following the Sentinels costs an Envoy without clients, beside one that does not (SECONDS=60)
	@target/debug/idle $(or $(SECONDS),60)

clean: ## remove everything that was built or installed here
	cargo clean
