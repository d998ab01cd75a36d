# Everything happens in .venv, inside this folder. Another Python: make PYTHON=python3.12 ...
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

.DEFAULT_GOAL := install
.PHONY: install train test test-slow lint coverage mutants fuzz hooks results pages export readme site test-site

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
test: install lint
	$(BIN)/nbdev_test --n_workers 2 --do_print --timing
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not slow'

# What takes more than five seconds each: processes killed, a file of 4 GB, scikit-learn's checks, the wheel.
test-slow: export OMP_NUM_THREADS = 1
test-slow: install
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

# Mistakes that can be seen without running anything. Nothing is reformatted.
lint: install
	$(BIN)/ruff check
	$(BIN)/mypy

# Lines and branches of the library that notebooks and tests go through together, in one number.
coverage: export OMP_NUM_THREADS = 1
coverage: install
	$(BIN)/python tools/quality/covered.py

# Deliberate mistakes in the library, one at a time: the tests must notice each.
mutants: export OMP_NUM_THREADS = 1
mutants: install
	$(BIN)/python tools/quality/mutants.py

# Thousands of damaged files, and inference from everywhere at once, for some minutes each.
fuzz: install
	FUZZ=25 $(BIN)/python -m pytest -n 2 tests/test_checkpoints.py -k damaged
	$(BIN)/python tools/quality/fuzz.py

# What git then does by itself: clean notebooks, merge them cell by cell, and lint what is committed.
hooks: install
	$(BIN)/nbdev_install_hooks
	$(BIN)/pre-commit install

# Everything in results/, from nothing or from where it stopped, and the pages that show it. With a folder of photographs
# and a GPU: make results SWEEP='--images FOLDER --minutes 9'
GRIDS := mnist-linear mnist-nl collapse knobs short-step safe-step safe-collapse safe-free safe-linear \
	tied keeping-up keeping-up-gamma keeping-up-bounded keeping-up-rates slow-sdl fast-vdl mnist-steps sparse-steps \
	steps growth growth-bounded growth-halved growth-encoder \
	$(if $(findstring --images,$(SWEEP)),patches-linear patches-nl safe-patches fast-encoder-patches contrast by-picture) labels labels-last stability
results: install
	$(BIN)/deep-sparse sweep $(GRIDS) $(SWEEP)
	$(BIN)/deep-sparse sweep labels --per-class 1 2 5 10 --draws 10 $(SWEEP)
	$(BIN)/python tools/results/photographs.py
	$(BIN)/python tools/results/convolution.py
	$(BIN)/python tools/results/tables.py nbs/experiments/10_curved.ipynb nbs/experiments/11_own_decoders.ipynb

pages: install
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace nbs/experiments/*.ipynb nbs/index.ipynb
	$(BIN)/python tools/results/pictures.py nbs/experiments/*.ipynb nbs/index.ipynb
	$(BIN)/nbdev_clean
	$(BIN)/python tools/site/readme.py

export: install
	$(BIN)/nbdev_export

readme: install
	$(BIN)/python tools/site/readme.py

# The documentation site, in _docs/. Needs Quarto and npm.
site: install
	$(BIN)/python tools/site/build_site.py

# Every page of what `make site` built, driven in headless Chromium: at two widths, in both themes.
test-site:
	node tools/site/web/test_site.mjs
