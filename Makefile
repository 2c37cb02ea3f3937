# make demo    install, build a ResNet-50 and train a small network on digits
# make test    lint, types, tests and the wheel: what must pass
# make thorough    the long tests: from end to end, random networks, deep ones, kills, and types for Windows; continuous
#                  integration runs both
# make editors    the extension for VS Code, editors/vscode/build/danet.vsix (needs node and npm)
# make playground    the page that checks and draws specs in a browser, build/playground (needs node)
# make docs    the reference, tutorial and guides as pages in build/docs
# make bench   the figures of benchmarks/
# make results    the figures and tables of results/, from the JSON there
# make fuzz    generated specs against the interpreter, for FUZZ_SECONDS (600) from FUZZ_SEED (1) on
# make edits   10,000 random edits of specs, after each of which the language services answer
# make mutants    150 small changes of the package (of a folder: ROOM=danetc/tasks): does a test fail for each?
# make soak    fifty trainings killed at random, each to end with the bits of one left alone
# make gpu-check   what can be checked of the GPU path without a GPU: interpreted and compiled kernels, pretended devices
# make gpu     where there is a GPU: whether all is right there, and how fast
# make clean   remove what these targets made

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

VENV := .venv
BIN  := $(VENV)/bin

# The first interpreter that runs, is new enough and can make a virtual environment with pip.
# `make demo PYTHON=/path/to/python` takes another.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
		2>/dev/null && echo "$$python" && break; done)

# The wheel is tested away from the sources, in an environment of its own.
WHEEL      := $(VENV)/wheel
WHEEL_DIST := $(WHEEL)/dist
WHEEL_BIN  := $(WHEEL)/venv/bin

VSCODE := editors/vscode

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Byte code is kept, also where an environment says otherwise: tests start many processes.
export PYTHONDONTWRITEBYTECODE :=
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo test lint types types-windows unit thorough wheel editors playground playground-test docs bench results fuzz edits mutants soak gpu gpu-check clean

demo: $(VENV)/.demo
	$(BIN)/danetc build specs/danet_c_r50.danet
	$(BIN)/danetc build specs/danet_c_small.danet
	$(BIN)/danetc train specs/danet_c_small.danet --data digits --seed 0 --min-accuracy 0.9

test: lint
	$(MAKE) --jobs 2 --output-sync types wheel docs
	$(MAKE) unit

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/[!c]*.yml
	$(BIN)/zizmor --offline --quiet .github/workflows
	$(BIN)/hadolint Dockerfile

MYPY := $(BIN)/mypy -p danetc --explicit-package-bases

types: $(VENV)/.test
	$(MYPY)

# The sources must not need POSIX.
types-windows: $(VENV)/.test
	$(MYPY) --platform win32 --cache-dir .mypy_cache/win32

unit: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -q

thorough: $(VENV)/.test types-windows
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -q -m thorough

# In an empty folder, so that neither specs nor sources of this one can be found by accident.
# The programs of the borrowed dependencies (Graphviz's) are on PATH.
wheel: $(WHEEL)/.installed
	bin="$$PWD/$(WHEEL_BIN)"; export PATH="$$PATH:$$PWD/$(BIN)"; \
		empty="$$(mktemp -d)"; trap 'rm -rf "$$empty"' EXIT; cd "$$empty"; \
		"$$bin/python" -c 'import danetc, sys; assert "torch" not in sys.modules; \
			assert danetc.__file__.startswith(sys.prefix), danetc.__file__'; \
		"$$bin/danetc" check danet_c_r50; \
		"$$bin/danetc" list codes > codes.txt; test -s codes.txt; \
		"$$bin/danetc" build danet_c_r50; \
		"$$bin/python" -c 'import danetc; danetc.load("build/danet_c_r50")'; \
		"$$bin/danetc" eval pretrained:danet_c_small_digits

# What is tested of editors/ is among the unit tests, which skip the extension without its packages.
editors: $(VSCODE)/node_modules/.installed
	cd $(VSCODE) && npm run --silent check && npm run --silent package

# A folder for any web server, GitHub Pages among them. What comes from npm and PyPI is pinned.
playground: $(VENV)/.test
	$(BIN)/python editors/playground/make.py

# Apart from `unit`, since to build the page and to start Python in a browser takes half a minute.
playground-test: playground
	DANETC_REQUIRE_CHROMIUM=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/playground

# Of the sources as they are; no page needs a network.
docs: $(VENV)/.test
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "build/docs: python -m http.server -d build/docs"

# Every benchmark, whether or not one misses its bound; the status says whether one did.
bench: $(VENV)/.test
	status=0; \
	for benchmark in check_speed editor_speed build_speed scaling adversarial; do \
		$(BIN)/python benchmarks/$$benchmark.py || status=1; done; \
	for benchmark in $(QUICK); do \
		$(BIN)/python benchmarks/$$benchmark.py --quick || status=1; done; \
	exit $$status

# The short forms; without --quick each measures more and writes benchmarks/results/.
QUICK := training conditions saved_bytes peak_memory first_step scaling_time_depth dense_blocks training_overhead exchange one_image

# Trains nothing: results/run.py does.
results: $(VENV)/.test
	$(BIN)/python -m results.networks
	$(BIN)/python -m results.make

# Each seed has cases of its own; a case that fails is written, made small, to build/fuzz.
FUZZ_SECONDS ?= 600
FUZZ_SEED ?= 1

fuzz: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzzing --seconds $(FUZZ_SECONDS) --seed $(FUZZ_SEED)

edits: $(VENV)/.test
	$(BIN)/python -m tests.editor.soaking --edits 10000

ROOM    ?=
MUTANTS ?= 150
SEED    ?= 1

mutants: $(VENV)/.test
	$(BIN)/python -m tests.mutants --room "$(ROOM)" --count $(MUTANTS) --seed $(SEED)

soak: $(VENV)/.test
	$(BIN)/python benchmarks/soak.py

gpu: $(VENV)/.test
	$(BIN)/python benchmarks/gpu.py

gpu-check: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.gpu.check --write
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "" tests/gpu

clean:
	rm -rf $(VENV) build dist runs *.egg-info \
		$(VSCODE)/build $(VSCODE)/dist $(VSCODE)/node_modules \
		.pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# -- environments: a stamp is written last, so an interrupted installation is done again -----------

$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer with venv and ensurepip found;" \
		"install one (Debian: apt install python3-venv) or name it with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	touch $@

$(VENV)/.demo: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.test: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/.demo

$(VSCODE)/node_modules/.installed: $(VSCODE)/package.json $(VSCODE)/package-lock.json
	cd $(VSCODE) && npm ci --silent
	touch $@

# The sources that are packaged: a change in one of them makes a new wheel.
SOURCES := pyproject.toml README.md LICENSE $(shell find danetc dsl compiler runtime specs -type f \
	-not -path '*/__pycache__/*')

# The wheel is built from the sdist, so both are tested and nothing stale can slip in.
# Its environment borrows the dependencies of the other through a .pth file (which does not
# activate the editable install there) instead of downloading them a second time.
$(WHEEL)/.installed: $(VENV)/.test $(SOURCES)
	rm -rf $(WHEEL)
	$(BIN)/python -m build --no-isolation --outdir $(WHEEL_DIST) . > /dev/null
	$(BIN)/python -m venv --without-pip $(WHEEL)/venv
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$($(WHEEL_BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/borrowed.pth"
	$(BIN)/python -m pip --python $(WHEEL_BIN)/python install --quiet --no-deps --ignore-installed \
		$(WHEEL_DIST)/*.whl
	touch $@
