"""One benchmark a file: embed once, keep the embeddings, score them as often as wanted."""
