# make demo: the main job on the embedded task.  make board: the curves of all runs in a browser.
# make test: every test.  Each makes .venv first.
PYTHON ?= python3.11
VENV ?= .venv
RUN := $(VENV)/bin/python

.PHONY: demo board test fast lint install clean

demo: $(VENV)/.installed
	@test ! -e dataset || { echo "make demo: the embedded task runs only where there is no ./dataset"; exit 2; }
	$(RUN) finetune.py --regularizer smile --gpu -1 --name demo --overwrite
	$(RUN) test.py --ckpts output/demo_smile_Last.pdparams --gpu -1

board: $(VENV)/.installed
	@mkdir -p visual_log
	@$(VENV)/bin/visualdl --logdir visual_log

test: $(VENV)/.installed-dev
	$(RUN) -m pytest -n 2 --dist worksteal

fast: $(VENV)/.installed-dev
	$(RUN) -m pytest -n 2 --dist worksteal -m "not slow"

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/codespell

install: $(VENV)/.installed

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.txt requirements-minimal.txt | $(VENV)/bin/python
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(RUN) -m pip install --quiet -r requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV)
