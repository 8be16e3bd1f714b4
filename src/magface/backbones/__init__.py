"""Networks: a batch of faces in, raw embeddings out."""
