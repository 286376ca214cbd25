# `make mnist` and `make test` need only Python 3.11 or later and make: each sets up .venv on first use.
# The files .venv/.installed* stamp what is in it, so that the second run starts at once.
#
#   make mnist                     train on MNIST; options of the example go in ARGS="--epochs 10 --hidden 256"
#   make test                      ruff, mypy --strict, tests and doctests; options of pytest go in ARGS
#   make test TORCH=1              the same with torch installed, so that the parity tests run
#   make test-cuda                 without a GPU: device "cuda" above a stand-in driver, with the real CuPy and NVRTC, and
#                                  static checks of every kernel
#   make gpu                       all that a machine with an NVIDIA GPU can say, in nine minutes: tests, compute-sanitizer,
#                                  benchmarks, MNIST; with the packages of $(PYTHON), nothing is installed
#   make bench                     figures of this machine's CPU beside torch, JAX and tinygrad, and docs/benchmarks.md made
#                                  of them: ten minutes, or three with ARGS=--quick; TENSORLITE_DATA names MNIST's folder
#   make docs                      the site, in docs/_build/index.html, with warnings as errors
#   make fuzz                      random calls, programs, layers and optimizers compared with torch, two minutes, and corrupted
#                                  files by the hundred thousand, one minute; other ones with ARGS="--seed 7" (docs/fuzzing.md)
#   make audit                     docs/audit.md made anew: the errors of every operation, beside torch; three minutes.
#                                  ARGS=--check compares with what is published instead, as CI does
#   make lint | size | clean

PYTHON ?= python3
TORCH_VERSION := 2.13.0
RIVALS := jax==0.10.2 tinygrad==0.14.0
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
TORCH_STAMP := $(VENV)/.installed-torch-$(TORCH_VERSION)

RIVALS_STAMP := $(VENV)/.installed-rivals
DOCS_STAMP := $(VENV)/.installed-docs
CUDA_STAMP := $(VENV)/.installed-cuda
CUDA_TESTS := tests/test_cuda_layer.py tests/test_cuda_graph.py tests/test_cuda_products.py tests/test_cuda_missing.py \
	tests/test_cuda_faults.py tests/test_capture.py tests/test_capture_models.py tests/test_devices.py \
	tests/test_ops.py::test_gradient tests/test_ops.py::test_results_do_not_depend_on_strides

.PHONY: mnist test lint docs bench audit fuzz test-cuda gpu size clean

mnist: $(VENV)/.installed
	$(BIN)/python examples/mnist.py $(ARGS)

test: lint $(if $(TORCH),$(TORCH_STAMP))
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(DOCS_STAMP)
	$(BIN)/python -m sphinx -q -W --keep-going -j 2 -d docs/_build/.doctrees docs docs/_build $(ARGS)

bench: $(RIVALS_STAMP)
	$(BIN)/python benchmarks/run.py $(ARGS)

audit: $(VENV)/.installed-dev $(TORCH_STAMP)
	$(BIN)/python tools/audit.py $(ARGS)

test-cuda: $(CUDA_STAMP)
	PYTHONPATH=tests $(BIN)/python -m pytest -p fake_cuda.plugin -k "cuda and not cuda:sim" $(CUDA_TESTS) $(ARGS)
	$(BIN)/python tools/check_kernels.py

fuzz: $(VENV)/.installed-dev $(TORCH_STAMP)
	PYTHONPATH=tests $(BIN)/python -m fuzz all $(ARGS)
	PYTHONPATH=tests $(BIN)/python -m fuzz.files --seed 0 --count 200000 --systematic

gpu:
	$(PYTHON) tools/gpu.py $(ARGS)

size:
	@$(PYTHON) tools/code_size.py

clean:
	rm -rf $(VENV) .venv-proofs build dist docs/_build docs/api docs/source
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tensorlite needs Python 3.11 or later; name one: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: pyproject.toml | $(VENV)/.created
	$(INSTALL) --editable '.[download]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/.created
	$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.installed

$(DOCS_STAMP): pyproject.toml | $(VENV)/.created
	$(INSTALL) --editable '.[dev,docs]'
	@touch $@

$(CUDA_STAMP): pyproject.toml | $(VENV)/.created
	$(INSTALL) --editable '.[dev,test-cuda]'
	@touch $@

$(RIVALS_STAMP): pyproject.toml $(TORCH_STAMP) | $(VENV)/.created
	$(INSTALL) --editable '.[plot]' $(RIVALS)
	@touch $@

$(TORCH_STAMP): | $(VENV)/.created
	$(INSTALL) torch==$(TORCH_VERSION)
	@touch $@
