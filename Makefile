# Everything that a person types at the root. `make demo` and `make test` do their whole set-up themselves.
PRESET ?= release
BUILD := build/$(PRESET)
# Two at a time: the larger tests are threaded themselves.
TEST_JOBS ?= 2
# The first build shows its progress; later ones speak only when something is wrong.
NINJA_FLAGS ?= $(if $(wildcard $(BUILD)/bin/thimble),--quiet)

.PHONY: help setup build demo test test-arm64 bench bench-peers peers web lint lint-full asan clean
help:
	@echo "make demo       shrink, prove, teach and run a small model, start to end"
	@echo "make test       build and run all tests"
	@echo "make test-arm64 cross-compile for 64-bit ARM and run all tests in an emulator (hours)"
	@echo "make build      only the program: build/release/bin/thimble"
	@echo "make bench      measure speed on this machine"
	@echo "make bench-peers  measure Thimble against llama.cpp on the same files: docs/performance.md"
	@echo "make peers      a Python environment with the tools that we compare with (bench/peers/venv)"
	@echo "make web        build the report page from web/src into web/dist/report.html (needs Node; the program does not)"
	@echo "make lint       format, includes, scripts, clang-tidy on what changed (lint-full: on everything)"
	@echo "make asan       the tests under the address and undefined-behaviour sanitizers"
	@echo "make setup      only install what is missing; make clean removes build/ and out/"

setup:
	@tools/setup.sh

$(BUILD)/build.ninja: | setup
	@cmake --preset $(PRESET) --log-level=WARNING

build: setup $(BUILD)/build.ninja
	@ninja -C $(BUILD) $(NINJA_FLAGS)

demo: build
	@tools/demo.sh

test: build
	@python3 tools/fetch_model.py --quiet smollm2 || \
	  echo "make test: without the model, the tests that need it are skipped"
	@ctest --test-dir $(BUILD) --output-on-failure --parallel $(TEST_JOBS)

# A processor without the dot product, one with it, and one with everything that the emulator knows, SMMLA included.
ARM64_CPUS ?= cortex-a72 neoverse-n1 max
test-arm64:
	@tools/setup_arm64.sh
	@$(MAKE) --no-print-directory build PRESET=arm64
	@for cpu in $(ARM64_CPUS); do \
	  echo "--- QEMU_CPU=$$cpu" && \
	  QEMU_CPU=$$cpu ctest --test-dir build/arm64 --output-on-failure --parallel $(TEST_JOBS) || exit 1; \
	done

bench: build
	@tools/bench.sh

# QUICK=1: the rows that matter most, in a few minutes.
bench-peers: build
	@tools/setup_peers.sh --openvino
	@python3 tools/fetch_model.py --quiet smollm2
	@bench/peers.py $(if $(QUICK),--quick)

peers: setup
	@tools/setup_peers.sh

web:
	@tools/setup_web.sh
	@cd web && npm run --silent build

lint: setup $(BUILD)/build.ninja
	@tools/lint.sh

lint-full: setup $(BUILD)/build.ninja
	@tools/lint.sh --all

asan:
	@$(MAKE) --no-print-directory test PRESET=asan-ubsan

clean:
	@rm -rf build out
