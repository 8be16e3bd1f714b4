"""Faces for training: where they lie, and what is done to them."""
