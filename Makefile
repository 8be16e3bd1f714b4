# Each target sets up its own environment from nothing but Python and pip.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
OUT ?= demo
export PHOTOS OUT

.PHONY: model demo test test-slow lint types clean

# analyze ends with 1 when some photos could not be read, which it has said by then
demo: $(VENV)/.installed-demo
	@if [ -z "$$PHOTOS" ]; then PHOTOS=$$OUT/photos; $(BIN)/python examples/demo_photos.py "$$PHOTOS"; fi && \
	{ $(BIN)/magface analyze "$$PHOTOS" -o "$$OUT/report" || [ $$? -eq 1 ]; }

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2

test-slow: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -m slow

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

# The shipped model from packages and the research data: DATA holds train.tar and train.tsv.
model: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/magface finetune --recipe recipes/magsface.toml --data "$(DATA)/train.tar" \
		--table "$(DATA)/train.tsv" -o runs/magsface
	$(BIN)/magface export runs/magsface/checkpoint.pt -o runs/magsface/magface-sface.onnx \
		--card recipes/magsface.card.json --calibrate "$(DATA)/train.tar" --table "$(DATA)/train.tsv"
	$(BIN)/magface quality calibrate "$(DATA)/train.tar" --table "$(DATA)/train.tsv" --keep scale --keep thresholds \
		--held-out recipes/magsface.toml --model runs/magsface/magface-sface.onnx -o runs/magsface/magface-sface.onnx

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-demo: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.installed-demo

clean:
	rm -rf $(VENV) demo
