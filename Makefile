PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv/bin
DEMO := --parameters=experiments/demo.py $(DEMO_EXTRA)

.PHONY: setup demo test benchmark torture figures report visdom screenshots readme clean-demo

setup: .venv/ready

# pydensecrf apart: it alone needs a compiler
.venv/ready: requirements.txt requirements-crf.txt requirements-test.txt requirements-dask.txt build-constraints.txt
	test -x $(VENV)/python || $(PYTHON) -m venv .venv
	$(VENV)/python -m pip install -q --disable-pip-version-check 'pip>=25.3'
	$(VENV)/python -m pip install -q --disable-pip-version-check --build-constraint build-constraints.txt -r requirements.txt -r requirements-test.txt
	CYTHON_FORCE_REGEN=1 $(VENV)/python -m pip install -q --disable-pip-version-check --build-constraint build-constraints.txt \
	  -r requirements-crf.txt >.venv/pydensecrf.log 2>&1 || \
	  echo "pydensecrf could not be built (a C++ compiler is needed; see .venv/pydensecrf.log): the CRF engine 'pydensecrf' is missing, all else works"
	$(VENV)/python tools/visdom_front_end.py || true
	touch $@

demo: setup
	$(VENV)/python data_prepare/make_phantom.py $(DEMO)
	$(VENV)/python data_prepare/get_training_set.py $(DEMO)
	$(VENV)/python train_ds.py $(DEMO)
	$(VENV)/python val.py $(DEMO)
	$(VENV)/python Densecrf/2D-CRF.py $(DEMO) --crf_path=./demo/crf-2D/
	$(VENV)/python Densecrf/3D-CRF.py $(DEMO)
	$(MAKE) figures report

figures: setup
	$(VENV)/python scripts/draw_figures.py $(DEMO)

report: setup
	$(VENV)/python scripts/write_report.py $(DEMO)

visdom: setup
	$(VENV)/python scripts/visdom_server.py $(VISDOM_EXTRA)

screenshots: setup
	SCREENSHOTS=img $(VENV)/python -m pytest -q tests/browser

clean-demo:
	rm -rf demo

test: setup
	$(VENV)/python -m pytest -q

benchmark: setup
	$(VENV)/python benchmarks/benchmark.py $(BENCHMARK_EXTRA)

torture: setup
	$(VENV)/python tests/torture/torture.py $(TORTURE_EXTRA)

# the tables that other files decide
readme: setup
	$(VENV)/python tools/parameter_table.py
	$(VENV)/python tools/benchmark_tables.py
