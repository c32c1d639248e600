# Each goal makes .venv if it is missing, installs what it needs, and does its job. On Windows: see the README.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: learn demo compare test test-colab lint fetch clean

learn: $(VENV)/learn  ## JupyterLab at the first lesson
	$(VENV)/bin/jupyter lab $(JUPYTER_FLAGS) notebooks/00_start_here.ipynb

demo: $(VENV)/learn  ## full fine-tuning beside LoRA on a real model: one table, one figure
	$(PY) -m peft_from_scratch demo

compare: $(VENV)/learn  ## twelve methods beside full fine-tuning, two seeds, at rates that were searched before; a report
	$(PY) -m peft_from_scratch compare --budget small --jobs 2
	$(PY) -m peft_from_scratch compare report --results outputs/compare

fetch: $(VENV)/learn  ## download all models and data now, for a room without a network
	$(PY) -m peft_from_scratch fetch

test: $(VENV)/test lint  ## everything that CI runs
	$(PY) -m pytest -q -n 2 -m "not compiled"
	PFS_SHAPES=0 $(PY) -m pytest -q -m compiled
	PEFT_COURSE_MODE=ci $(PY) -m pytest -q --nbval-lax --nbval-current-env --nbval-cell-timeout=120 notebooks

test-colab: $(VENV)-colab/ready  ## notebooks, checks, widgets and quizzes with the versions that Colab has
	PEFT_COURSE_MODE=ci $(VENV)-colab/bin/python -m pytest -q tests/test_notebooks.py tests/test_check_engine.py \
	  tests/test_quiz.py tests/test_museum.py tests/test_progress.py $(wildcard tests/test_lesson*.py)

lint: $(VENV)/test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/nbstripout --keep-id --verify notebooks/*.ipynb

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "This needs Python 3.11 to 3.13; say which with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/learn: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e ".[lab]"
	@touch $@

$(VENV)/test: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e ".[lab,dev,oracle,exports]"
	@touch $@ $(VENV)/learn

$(VENV)-colab/ready: pyproject.toml constraints-colab.txt
	$(PYTHON) -m venv $(VENV)-colab
	$(VENV)-colab/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-colab.txt \
	  -e . ipykernel nbclient nbformat pytest beartype psutil
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-colab build dist
