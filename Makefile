# For GNU make. demo: see it work. test: run all tests; quick: those of some seconds; cover: with coverage.
# check: lint and types. install PREFIX=...
# bench: measure on installed commands, with the page and the chart in docs/ if BENCH=--page.
PYTHON = python3
VENV = .venv
PREFIX = /usr/local
EXTRAS =
# Twice as many workers as cores, since many tests wait for something.
QUICK = $(patsubst %,tests/test_%.py,encoding house options records signatures tokenfile)
SPREAD = -n $(shell expr 2 \* $$(nproc 2> /dev/null || echo 1)) --dist worksteal
home = $(abspath $(PREFIX))
NEEDS = import ensurepip, sys, venv; sys.version_info >= (3, 9) or sys.exit("toktools needs Python 3.9 or later")

demo: $(VENV)/ready
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" sh examples/demo.sh

test: $(VENV)/ready-to-test
	@$(VENV)/bin/python -m pytest $(SPREAD) $(TESTS)

quick: $(VENV)/ready-to-test
	@$(VENV)/bin/python -m pytest $(SPREAD) $(QUICK)

cover: $(VENV)/ready-to-test
	@$(VENV)/bin/coverage erase
	@COVERAGE_PROCESS_START="$(CURDIR)/pyproject.toml" COVERAGE_FILE="$(CURDIR)/.coverage" \
	    $(VENV)/bin/coverage run -m pytest $(SPREAD) $(TESTS)
	@$(VENV)/bin/coverage combine -q
	@$(VENV)/bin/coverage report

check: $(VENV)/ready-to-test
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

bench: $(VENV)/ready-to-bench
	@$(VENV)/bin/python bench/bench.py $(BENCH)

install:
	@test $(words $(PREFIX)) = 1 || { echo 'PREFIX must be one word, since scripts name their Python' >&2; exit 2; }
	@$(PYTHON) -c '$(NEEDS)'
	$(PYTHON) -m venv "$(home)/lib/toktools"
	"$(home)/lib/toktools/bin/python" -m pip install -q --upgrade ".$(EXTRAS)"
	mkdir -p "$(home)/bin" "$(home)/share/man/man1" "$(home)/share/man/man5" "$(home)/share/man/man7"
	cd bin && for f in *; do ln -sf "../lib/toktools/bin/$$f" "$(home)/bin/$$f" || exit; done
	cd man && for f in *.[1-9]; do d="share/man/man$${f##*.}"; \
	    ln -sf "../../../lib/toktools/$$d/$$f" "$(home)/$$d/$$f" || exit; done

$(VENV)/ready: pyproject.toml $(wildcard bin/*)
	@$(PYTHON) -c '$(NEEDS)'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q -e .
	@touch $@

$(VENV)/ready-to-test: $(VENV)/ready
	$(VENV)/bin/python -m pip install -q -e '.[test]'
	@touch $@

$(VENV)/ready-to-bench: $(VENV)/ready
	$(VENV)/bin/python -m pip install -q -e '.[bench]'
	@touch $@

.PHONY: demo test quick cover check bench install
