# Two commands on a new machine: `make demo` and `make test`. Only git, make and Python 3.11 or later with venv are
# needed. PYTHON chooses the interpreter, VENV where the environment goes.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet install

.PHONY: demo test npm lint lock map report screenshots torture torture-full bench bench-full bench-peers bench-quick bench-profile bench-review wheel-test clean

demo: $(VENV)/.installed
	$(BIN)/dispatcher send --sandbox --fresh
	@echo "To type these as they stand, first: . $(BIN)/activate"

# In three processes for two cores, for many tests wait (a lock, a browser at rest, a time-out of the DNS); each has
# whole files. `make test PROCESSES=0` runs all in one.
PROCESSES ?= $(shell $(PYTHON) -c "import os; print((3 * (os.cpu_count() or 1) + 1) // 2)")
test: $(VENV)/.installed-test tests/npm/node_modules/.installed
	$(BIN)/python -m pytest -n $(PROCESSES) --maxprocesses 8 --dist loadfile --no-loadscope-reorder

# The npm package that is a server in the tests; where it is missing they are skipped, and in CI that is a failure.
npm: tests/npm/node_modules/.installed

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Faults on purpose, each in small: part of `make test` too. The last line tells the figures. Then the long round.
torture: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m torture

torture-full: $(VENV)/.installed-test
	DISPATCHER_TORTURE=full $(BIN)/python -m pytest -m torture

# The specimen report, byte for byte.
report: $(VENV)/.installed-test
	$(BIN)/python docs/report.py

# The map of the review page, from Natural Earth's outlines: docs/world.py says which. Wants npm.
map: $(VENV)/.installed npm
	$(BIN)/python docs/world.py tests/npm/node_modules/world-atlas

# Pictures of the founding letter for the README. Wants chromium and fonts-crosextra-caladea.
screenshots: $(VENV)/.installed-test
	$(BIN)/python -m tests.screenshots

# Speed beside our peers, in one run: docs/benchmarks.md says how, and gets the figures. bench-full has a list of a
# million recipients too. The last line of bench-quick is one line of JSON.
bench: $(VENV)/.installed-test benchmarks/.installed
	$(BIN)/python -m benchmarks all --page

bench-full: $(VENV)/.installed-test benchmarks/.installed
	$(BIN)/python -m benchmarks all --page --recipients 1000 10000 100000 1000000

bench-quick: $(VENV)/.installed-test benchmarks/.installed
	@$(BIN)/python -m benchmarks quick

# Where our own time goes while sending.
bench-profile: $(VENV)/.installed-test benchmarks/.installed
	@$(BIN)/python -m benchmarks profile

# How soon the page of `dispatcher review` answers at 100,000 letters. Wants smtp-sink (Debian: postfix).
bench-review: $(VENV)/.installed-test
	@$(BIN)/python -m benchmarks.review

bench-peers: benchmarks/.installed

# A wheel, installed into an empty environment, and the main job from there.
wheel-test: $(VENV)/.installed-test
	rm -rf build/wheel && mkdir -p build/wheel
	$(BIN)/python -m pip --disable-pip-version-check --quiet wheel --no-deps --no-build-isolation --wheel-dir build/wheel .
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r lock.txt
	build/wheel/venv/bin/python -m pip --disable-pip-version-check --quiet install --no-deps build/wheel/*.whl
	cd build/wheel && venv/bin/dispatcher init campaign && cd campaign && ../venv/bin/dispatcher send --sandbox

# New versions of everything: names, versions and hashes, no addresses. Wants `uv` on the path.
LOCK = uv pip compile --universal --generate-hashes --no-header --no-annotate --no-emit-index-url \
	--no-emit-find-links --python-version 3.11 --quiet
lock:
	$(LOCK) pyproject.toml --extra build -o lock.txt
	$(LOCK) pyproject.toml --extra build --extra test -c lock.txt -o tests/lock.txt
	$(LOCK) benchmarks/peers/requirements.in -c tests/lock.txt -o benchmarks/peers/lock.txt

clean:
	rm -rf build dist $(VENV) benchmarks/.installed benchmarks/.venv benchmarks/node_modules tests/npm/node_modules   # never .dispatcher: it may hold what was sent

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

benchmarks/.installed: benchmarks/install benchmarks/package-lock.json benchmarks/peers/lock.txt
	PYTHON=$(PYTHON) benchmarks/install

tests/npm/node_modules/.installed: tests/npm/package-lock.json
	@cd tests/npm && npm ci --ignore-scripts --no-audit --no-fund && touch node_modules/.installed || \
		echo "npm, or a package of it, is not to be had: tests with its server are skipped"

$(VENV)/.installed: lock.txt pyproject.toml $(VENV)/bin/python
	$(PIP) --require-hashes -r lock.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.installed-test: tests/lock.txt $(VENV)/.installed
	$(PIP) --require-hashes -r tests/lock.txt
	touch $@
