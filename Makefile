# The project's commands. `make install` needs Python 3.11+ with venv (Debian: python3-venv) and nothing else.
PYTHON ?= python3
BIN := .venv/bin
SOURCES := src tests benchmarks migrations tools examples .ci

# The SDK releases that the scenarios run with need Node and npm, which Debian has.
.PHONY: install install-dev install-compat sandbox image serve check lint audit sbom format test faults coverage bench transcripts lock clean

install: .venv/installed

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

install-dev: .venv/installed-dev

.venv/installed-dev: .venv/installed requirements-dev.lock
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements-dev.lock
	@touch $@

install-compat: install-dev
	$(BIN)/python -m tests.compat.install

# The image that models' Python is run in; needs Docker's engine. SANDBOX_BUILD="--base IMAGE" where there is no registry.
sandbox: install
	$(BIN)/threadloom sandbox build $(SANDBOX_BUILD)

# The image of API, worker and sandbox runner. IMAGE_BUILD="--build-arg BASE=IMAGE" where there is no registry.
image:
	docker build --tag threadloom $(IMAGE_BUILD) .

serve: install
	$(BIN)/threadloom serve

check: lint test

lint: install-dev
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/python -m tools.audit --where-possible

# Are vulnerabilities known of the locked packages? Fails too when that cannot be found out; `lint` says so and goes on.
audit: install-dev
	$(BIN)/python -m tools.audit

# What the server is made of, in the CycloneDX format.
sbom: install-dev
	$(BIN)/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --output-reproducible --output-format JSON --output-file sbom.json

format: install-dev
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

# A file's tests stay together: they share servers that are dear to start. Without an engine and `make sandbox`, those that run code
# are skipped, with one line at the end; REQUIRE_DOCKER=1 makes them fail.
test: install-compat
	$(BIN)/pytest --numprocesses=3 --dist=loadfile --no-loadscope-reorder -rs

# Three quarters of an hour of everything that may fail, one after the other; `make test` runs some seconds of each. docs/faults.md
faults: install-dev
	$(BIN)/python -m tests.faults.suite

# What must not have an untested branch: the run machine, the event log, the queue, the database.
coverage: install-dev
	$(BIN)/pytest --cov --cov-report=term-missing --cov-fail-under=100 tests/runs tests/db tests/api tests/faults/test_pgbouncer.py tests/test_events.py tests/test_leases.py tests/test_worker.py

bench: install-dev
	$(BIN)/python -m benchmarks

transcripts: install-compat
	$(BIN)/python -m tools.transcripts

# Both locks are compiled together so that they never disagree.
lock:
	uv pip compile --quiet --generate-hashes --no-emit-index-url --universal --python-version 3.11 --output-file requirements.lock pyproject.toml requirements-build.in
	uv pip compile --quiet --generate-hashes --no-emit-index-url --universal --python-version 3.11 --extra local --group dev --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml
	$(BIN)/python -m tests.compat.install lock

clean:
	rm -rf .venv .threadloom
