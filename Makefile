# Every target does its own set-up: `make demo` and `make test` work on a fresh machine.

BIN := .venv/bin
SHELL_FILES = $(shell find .ci gridops tests bench deploy docs examples findings -type f \
    \( -name '*.sh' -o -path '.ci/*' \) 2>/dev/null)

.PHONY: help install dev demo test ray machines machines-ci scale lint lint-ruff lint-mypy lint-shell format soak fuzz \
    bench house findings dist clean
.DEFAULT_GOAL := help

help: ## show this help
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# What .ci/setup knows: run, dev, lint, test, ray.
set-up-%:
	@.ci/setup $*

install: set-up-run ## install gridops into .venv (and ssh, sshd, rsync, git when missing)

dev: set-up-dev ## the same, with the Python packages of testing and linting

demo: set-up-run ## three real sshd nodes on this machine: health, best, sync, run
	@examples/demo.sh

test: set-up-test ## install what the tests need, run all but those of ray and machines, two at a time; ARGS="-k word" narrows them
	@$(BIN)/python -m pytest -n 2 --ignore=tests/ray --ignore=tests/systemd $(ARGS)

ray: set-up-ray ## run the tests on a real Ray cluster: as root, some minutes and 1 GB of disk
	@$(BIN)/python -m pytest tests/ray $(ARGS)

machines: ## boot Debian 12, 13 and unstable here, run the main job on them: as root, some minutes and 1 GB of disk
	@.ci/machines all $(ARGS)

machines-ci:
	@.ci/machines few $(ARGS)

soak: set-up-test ## 2000 runs while clients, connections, sshd and supervisors are killed, nodes shut down; 1 GB of output
	@GRIDOPS_FAULT_RUNS=2000 GRIDOPS_OUTPUT_MB=1000 $(BIN)/python -m pytest -rP $(ARGS) \
	    tests/faults/test_jobs_under_fire.py \
	    tests/ssh/test_jobs.py::test_much_output_is_followed_fast_and_in_little_memory

fuzz: set-up-test ## every reader of what a node sends: 5000 mutated answers each, and endless ones
	@GRIDOPS_FUZZ_INPUTS=$${GRIDOPS_FUZZ_INPUTS:-5000} $(BIN)/python -m pytest -n 2 \
	    --timeout=1800 tests/fuzz $(ARGS)

scale: set-up-test ## a thousand nodes, 100 of them dead, and 200 runs of four clients at once
	@GRIDOPS_SCALE_NODES=1000 GRIDOPS_SCALE_RUNS=200 $(BIN)/python -m pytest -rP \
	    tests/ssh/test_scale.py $(ARGS)

lint: lint-ruff lint-mypy lint-shell ## ruff, mypy --strict, shellcheck

lint-ruff: set-up-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint-mypy: set-up-lint
	$(BIN)/mypy

lint-shell: set-up-lint
	shellcheck -s sh $(SHELL_FILES)

format: set-up-dev ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: set-up-dev ## measure against other tools, side by side
	@$(BIN)/python -m bench

house: set-up-dev ## the package in figures: size, depth, words; ARGS=--list names what each counts
	@$(BIN)/python bench/house.py $(ARGS)

findings: ## what tools outside gridops do that one would not guess: is it still so?
	@.ci/findings $(ARGS)

dist: set-up-dev ## build sdist and wheel into dist/, and check them
	@.ci/dist

clean: ## end the sandbox; remove .venv, caches and build products
	@if [ -x $(BIN)/inv ] && [ -d .sandbox ]; then $(BIN)/inv sandbox.down; fi
	rm -rf .venv .venv-* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
