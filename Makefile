# Everything happens in .venv, inside this folder. Another Python: make PYTHON=python3.12 ...
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

.DEFAULT_GOAL := install
.PHONY: install train test export readme docs

install: $(STAMP)

$(STAMP): settings.ini setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed, this is %s; try make PYTHON=python3.12" % sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[dev]'
	touch $@

# A run that was interrupted goes on from its checkpoint; a finished one is evaluated again.
RUN := runs/natural
train: install
	$(BIN)/deep-sparse train $(if $(wildcard $(RUN)/checkpoint.safetensors),--resume $(RUN),\
		--dataset natural --model VDL --lam 0.01 --out $(RUN))

test: export OMP_NUM_THREADS = 1
test: install
	$(BIN)/nbdev_test --n_workers 2 --do_print --timing
	$(BIN)/python -m pytest tests

export: install
	$(BIN)/nbdev_export

readme: install
	$(BIN)/python tools/readme.py

# Needs Quarto. README.md comes from `make readme`; touching it keeps nbdev from rendering another.
docs: install
	touch README.md
	$(BIN)/nbdev_docs --n_workers 2
