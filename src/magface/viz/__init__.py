"""Figures of results; they take arrays, never models. Needs matplotlib: `pip install 'magface[plot]'`."""
