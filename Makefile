# Everything a newcomer, a developer and CI need. `make demo` and `make test` work on a fresh clone with Python >= 3.11.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO := demo
SIZE := 96

.PHONY: install demo ldm-demo ldm-tables leaderboard sweep-demo qualify docs test test-browser test-slow lint bench evidence bench-gpu test-lowest equal-scores reliability mutation clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml $(wildcard plugins/*/pyproject.toml)
	@test -n "$(PYTHON)" || { echo "make: no Python of version 3.11 or newer was found; set PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev,bench]' $(patsubst %/pyproject.toml,--editable %,$(wildcard plugins/*/pyproject.toml))
	touch $@

# The main job: real eyes (for training and held out), samples of a fitted generator, their scores.
demo: $(INSTALLED)
	mkdir -p $(DEMO)
	$(BIN)/hseval sample phantom -n 160 --set size=$(SIZE) --seed 1 --out $(DEMO)/train.h5 --force
	$(BIN)/hseval sample phantom -n 160 --set size=$(SIZE) --seed 2 --out $(DEMO)/real.h5 --force
	$(BIN)/hseval train pca $(DEMO)/train.h5 --out $(DEMO)/pca --force
	$(BIN)/hseval sample pca --checkpoint $(DEMO)/pca -n 160 --seed 3 --out $(DEMO)/samples.h5 --force
	$(BIN)/hseval score $(DEMO)/samples.h5 --ref $(DEMO)/real.h5 --train $(DEMO)/train.h5 --json $(DEMO)/report.json --html $(DEMO)/report.html
	@echo "the report as a page: $(DEMO)/report.html, as a file: $(DEMO)/report.json"

# The bundled generator on 256 eyes of 64 x 64 x 16: training, samples, scores, and their required levels.
# Half an hour on two cores; its result and pictures are recorded in benchmarks/results/ and docs/images/.
ldm-demo: $(INSTALLED)
	$(BIN)/python -m benchmarks.ldm.demo --out $(DEMO)/ldm

# Measures the table of reconstructions, the curve of quality against steps, and the speed.
ldm-tables: $(INSTALLED)
	$(BIN)/python -m benchmarks.ldm.autoencoder --out $(DEMO)/ldm-autoencoder
	$(BIN)/python -m benchmarks.ldm.steps --checkpoint $(DEMO)/ldm/run
	$(BIN)/python -m benchmarks.ldm.sampling_speed --checkpoint $(DEMO)/ldm/run

# Eight small latent diffusion models, killed halfway and resumed: the figure in docs/sweep.md, in minutes.
sweep-demo: $(INSTALLED)
	$(BIN)/python -m benchmarks.evidence.sweep_small --out $(DEMO)/sweep

# Five generators on two data sets, a table each: docs/leaderboard.md. It resumes; a run of `make ldm-demo` is used if there
# is one (it saves half an hour).
leaderboard: $(INSTALLED)
	$(BIN)/python -m benchmarks.evidence.leaderboard --out $(DEMO)/leaderboard --ldm $(DEMO)/ldm

# The sensitivity of every metric: tables and pictures in docs/qualify.md, on the phantom and both parts of Indian Pines.
qualify: $(INSTALLED)
	$(BIN)/python -m benchmarks.evidence.qualify

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

# The HTML report in a real, headless Chromium (Debian: apt-get install chromium); fails where there is none.
test-browser: $(INSTALLED)
	HSEVAL_BROWSER=must $(BIN)/python -m pytest tests/browser -m browser

# What takes minutes and gigabytes: networks of full size at 224 and 672 px.
test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

# The same tests with the lowest versions that pyproject.toml allows, in an environment of its own (about 5 GB).
test-lowest: $(INSTALLED)
	$(BIN)/python -m venv build/lowest
	build/lowest/bin/python -m pip install --quiet uv
	VIRTUAL_ENV=build/lowest build/lowest/bin/uv pip install --quiet --resolution lowest-direct --editable '.[dev,bench]' $(patsubst %/pyproject.toml,--editable %,$(wildcard plugins/*/pyproject.toml))
	OMP_NUM_THREADS=1 build/lowest/bin/python -m pytest -n 2

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python .ci/check_words.py
	$(BIN)/mypy

# The site in build/site; what is broken in it stops the build. Nothing is fetched.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "the site: build/site/index.html"

# Side by side with named peers; each script checks that the results agree, and records them in benchmarks/results/.
bench: $(INSTALLED)
	for script in frechet ms_ssim neighbors precision_recall extractor phantom score; do \
		$(BIN)/python -m benchmarks.scoring.$$script || exit 1; done

# What the docs claim of intervals, verdicts, copies and segmenters: most of an hour on two cores.
evidence: $(INSTALLED)
	for script in feature_metrics copies segmenters verdicts coverage; do \
		$(BIN)/python -m benchmarks.evidence.$$script || exit 1; done

# For a machine with a GPU; goes on where it was cut off.
bench-gpu: $(INSTALLED)
	$(BIN)/python -m benchmarks.gpu.measure

# 500 damaged inputs of every kind, and a hundred kills and faults: docs/reliability.md. An hour; as root it fills disks, too.
reliability: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.reliability.inputs --record
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.reliability.faults --record
	$(BIN)/python -m benchmarks.reliability.page

# Do the tests see faults? 300 small ones, planted one at a time in a copy: benchmarks/results/reliability/mutation.json. It
# resumes where it was interrupted.
mutation: $(INSTALLED)
	$(BIN)/python -m benchmarks.reliability.mutation

# Are all numbers what they were at another commit? make equal-scores OLD=<checkout of that commit>
equal-scores: $(INSTALLED)
	@test -n "$(OLD)" || { echo "make: set OLD to a checkout of the commit to compare with" >&2; exit 1; }
	$(BIN)/python -m benchmarks.evidence.equal_scores $(OLD) . --out $(DEMO)/equal-scores

clean:
	rm -rf $(DEMO) build dist .mypy_cache .ruff_cache .pytest_cache
