# For GNU make 3.81, Apple's, or later. demo: see it work. test: run all tests; quick: those of some seconds; cover: with coverage.
# macos: the tests of files, processes and terminals, as if on macOS (tests/macos/).
# lowest: the tests with what pyproject.toml declares as the oldest of each library and extra.
# check: lint, types and imports. completions: make those of the shells anew. install and uninstall: PREFIX=... DESTDIR=... EXTRAS=[kms,pkcs11,ssh].
# bundle: one file for a machine without a network. deb: a Debian package. html: the manual for a browser.
# mutants: change the code in one place after another, in a copy, and count the changes that no test sees;
# MUTANTS='toktools.encoding*' for one module.
# bench: measure on installed commands, with the page and the chart in docs/ if BENCH=--page.
# picture: draw the README's picture, docs/login.svg, from a login to the stand-in.
PYTHON = python3
VENV = .venv
PREFIX = /usr/local
DESTDIR =
HTML = html
EXTRAS =
MUTANTS =
# Those that start few processes and take no hundreds of examples.
QUICK = $(filter-out %/test_properties.py,$(wildcard tests/tokens/*.py)) $(patsubst %,tests/%.py,login/test_screen \
    rehearsal/test_users system/test_files commands/test_inspect commands/test_several \
    commands/test_stdin keys/test_stream test_cli test_encoding test_errors test_hints test_options test_project test_records \
    test_signatures)
# pytest rewrites each test module once, not in each worker of each run, if it may keep what it has made.
test quick cover macos: export PYTHONDONTWRITEBYTECODE =
# Those of what macOS does in another way.
MACOS = tests/macos tests/system tests/login tests/test_end_to_end.py $(patsubst %,tests/commands/test_%.py,exec login)
# Twice as many workers as cores, since many tests wait for something.
SPREAD = -n $(shell expr 2 \* $$(getconf _NPROCESSORS_ONLN)) --dist worksteal
NEEDS = import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 9))

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

macos: $(VENV)/ready-to-test
	@PATH="$(CURDIR)/tests/macos/bin:$$PATH" PYTHONPATH='$(CURDIR)/tests/macos' TOKTOOLS_BIN='$(CURDIR)/$(VENV)/bin' $(VENV)/bin/python -m pytest $(SPREAD) $(MACOS)

lowest:
	@mkdir -p dist
	@grep -E '^(dependencies|kms|pkcs11|ssh) =' pyproject.toml | \
	    grep -o '[a-z0-9-]*>=[0-9.]*' | sed 's/>=/==/' > dist/lowest.txt
	@PIP_CONSTRAINT='$(CURDIR)/dist/lowest.txt' $(MAKE) --no-print-directory .venv-lowest/ready-to-test VENV=.venv-lowest
	@$(MAKE) --no-print-directory test VENV=.venv-lowest

mutants: $(VENV)/ready-to-mutate
	@$(VENV)/bin/mutmut run $(if $(MUTANTS),'$(MUTANTS)')
	@$(VENV)/bin/mutmut results

check: $(VENV)/ready-to-test
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	for system in linux darwin freebsd; do \
	    $(VENV)/bin/mypy --platform $$system --cache-dir .mypy_cache/$$system || exit; done
	$(VENV)/bin/lint-imports --no-logo

completions: $(VENV)/ready-to-test
	@$(VENV)/bin/python packaging/completions.py completions

bench: $(VENV)/ready-to-bench
	@$(VENV)/bin/python bench/bench.py $(BENCH)

picture: $(VENV)/ready-to-test
	@$(VENV)/bin/python tests/picture.py

# One word of the shell, whatever is in it.
q = '$(subst ','\'',$(1))'

install uninstall:
	@packaging/install.sh --prefix $(call q,$(PREFIX)) --destdir $(call q,$(DESTDIR)) --python $(call q,$(PYTHON)) \
	    --extras $(call q,$(or $(EXTRAS:[%]=%),none)) $(if $(filter uninstall,$@),--uninstall)

bundle: $(VENV)/ready-to-bundle
	@packaging/bundle.sh $(VENV)/bin/python $(ARCH)

deb:
	@packaging/deb.sh

# To mandoc a page in this directory is one to link to; what is no page of ours becomes text.
html:
	@mkdir -p '$(HTML)'
	@cp docs/manual.css '$(HTML)'
	@cd man && for page in *; do \
	    mandoc -T html -O 'style=manual.css,man=%N.%S.html;-' $$page | \
	    sed 's|<a class="Xr" href="-">\([^<]*\)</a>|<span class="Xr">\1</span>|g' > '$(abspath $(HTML))'/$$page.html || exit; done
	@cp '$(HTML)'/toktools.7.html '$(HTML)'/index.html

$(VENV)/ready: pyproject.toml $(wildcard bin/*)
	@case "$$PWD" in *[[:space:]]*) \
	    echo 'the path of the checkout must not have a blank in it, since scripts name their Python' >&2; exit 2 ;; esac
	@$(PYTHON) -c '$(NEEDS)' 2> /dev/null || { echo '$(PYTHON) is no Python 3.9 or later with venv' \
	    '(on Debian and Ubuntu: python3-venv); PYTHON=... names another' >&2; exit 2; }
	[ -x $(VENV)/bin/python ] || $(PYTHON) -m venv $(VENV) # not another Python over the one that is there
	$(VENV)/bin/python -m pip install -q 'pip>=21.3' # that of Xcode's Python, and of RHEL 9's, is older
	$(VENV)/bin/python -m pip install -q -e .
	@touch $@

$(VENV)/ready-to-test: $(VENV)/ready
	$(VENV)/bin/python -m pip install -q -e '.[test]'
	@touch $@

$(VENV)/ready-to-mutate: $(VENV)/ready
	$(VENV)/bin/python -m pip install -q -e '.[mutants]'
	@touch $@

$(VENV)/ready-to-bench: $(VENV)/ready
	$(VENV)/bin/python -m pip install -q -e '.[bench]'
	@touch $@

$(VENV)/ready-to-bundle: $(VENV)/ready
	$(VENV)/bin/python -m pip install -q 'hatchling>=1.26' uv
	@touch $@

.PHONY: demo test quick cover macos lowest mutants check completions bench picture install uninstall bundle deb html
