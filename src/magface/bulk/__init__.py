"""Embeddings of millions of photos: on all cores or many machines, shard by shard."""
