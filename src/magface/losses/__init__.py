"""Margin-softmax losses: one file a paper, only its equation inside."""
