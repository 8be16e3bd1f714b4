"""Training: a recipe, a loop, checkpoints."""
