"""How well scores tell people apart, how well a quality predicts errors, how well groups match identities."""
