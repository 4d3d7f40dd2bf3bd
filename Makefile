# The commands of this project; CMakeLists.txt describes the build itself.
BUILD ?= build
RELEASE = $(BUILD)/release

.PHONY: demo test bench bench-switch build format clean
.DEFAULT_GOAL = build

demo: build ## a hypervisor inside a hypervisor
	@tools/install-packages run
	@$(RELEASE)/src/cli/abyme nest

test: ## install what is missing, build, run every test
	@tools/install-packages build run test
	@ABYME_BUILD=$(abspath $(BUILD)) tools/test

bench: ## guest speed, boot times and exits, beside QEMU's software CPU
	@tools/install-packages build run test bench
	@tools/build $(RELEASE) abyme nestbench first_instruction
	@bench/run $(RELEASE)

bench-switch: ## the virtual switch beside its peers
	@tools/install-packages build bench
	@tools/build $(RELEASE) abyme switch_pipeline_bench switch_latency_bench
	@BUILD=$(RELEASE) bench/switch/run

build: ## a release build of abyme
	@tools/install-packages build
	@tools/build $(RELEASE) abyme

format: ## clang-format, in place
	@tools/install-packages format
	@git ls-files '*.cpp' '*.hpp' | xargs clang-format -i

clean:
	rm -rf $(BUILD)
