"""Heads: the class centres, and the loss of a batch of embeddings against them."""
