"""Model files: the card inside one, and the model that ships with the package."""
