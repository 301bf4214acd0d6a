# Thin names for the tasks of run.py, which makes its own environment.
PYTHON ?= python3

.PHONY: all test digits lint samples clean

all: lint test samples

test digits lint samples:
	$(PYTHON) run.py $@

clean:
	rm -rf .venv-run build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
