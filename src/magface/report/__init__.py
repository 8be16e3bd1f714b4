"""The main job: a folder of photos becomes a table of faces, people and a report to look at."""

from __future__ import annotations

from magface.report.analysis import Analysis, analyze

__all__ = ["Analysis", "analyze"]
