"""Galleries: people and their faces, kept so that a face can be found again."""
