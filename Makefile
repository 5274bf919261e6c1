# Every target does its own set-up: `make demo` and `make test` work on a fresh machine.

BIN := .venv/bin
SHELL_FILES = $(shell find .ci gridops tests bench deploy docs examples findings -type f \
    \( -name '*.sh' -o -path '.ci/*' \) 2>/dev/null)

.PHONY: help install dev demo test ray scale lint lint-ruff lint-mypy lint-shell format soak bench findings clean
.DEFAULT_GOAL := help

help: ## show this help
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: ## install gridops into .venv (and ssh, sshd, rsync, git when missing)
	@.ci/setup run

dev: ## the same, with what testing and linting need
	@.ci/setup dev

demo: install ## three real sshd nodes on this machine: health, best, sync, run
	@examples/demo.sh

test: dev ## run all tests but those of ray, two at a time; ARGS="-k word" narrows them
	@$(BIN)/python -m pytest -n 2 --ignore=tests/ray $(ARGS)

ray: dev ## run the tests on a real Ray cluster: as root, some minutes and 1 GB of disk
	@$(BIN)/python -m pytest tests/ray $(ARGS)

soak: dev ## 2000 runs while clients, connections, sshd and supervisors are killed; 1 GB of output
	@GRIDOPS_FAULT_RUNS=2000 GRIDOPS_OUTPUT_MB=1000 $(BIN)/python -m pytest $(ARGS) \
	    tests/faults/test_jobs_under_fire.py \
	    tests/ssh/test_jobs.py::test_much_output_is_followed_fast_and_in_little_memory

scale: dev ## a thousand nodes, 100 of them dead, and 200 runs of four clients at once
	@GRIDOPS_SCALE_NODES=1000 GRIDOPS_SCALE_RUNS=200 $(BIN)/python -m pytest -rP \
	    tests/ssh/test_scale.py $(ARGS)

lint: dev lint-ruff lint-mypy lint-shell ## ruff, mypy --strict, shellcheck

lint-ruff: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint-mypy: dev
	$(BIN)/mypy

lint-shell:
	@if command -v shellcheck >/dev/null; then \
	    echo shellcheck $(SHELL_FILES); shellcheck -s sh $(SHELL_FILES); \
	else echo "no shellcheck here: shell files are not checked" >&2; fi

format: dev ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: dev ## measure against other tools, side by side
	@$(BIN)/python -m bench

findings: ## what tools outside gridops do that one would not guess: is it still so?
	@.ci/findings $(ARGS)

clean: ## end the sandbox; remove .venv, caches and build products
	@if [ -x $(BIN)/inv ] && [ -d .sandbox ]; then $(BIN)/inv sandbox.down; fi
	rm -rf .venv .venv-* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
