"""The ensemble alarm: interpreters explain an image and its smoothed copy; where their maps differ, it is raised."""

from __future__ import annotations

from underfire.defenses.ensemble.alarm import EnsembleAlarm
from underfire.defenses.ensemble.interpreter import Ensemble

__all__ = ["Ensemble", "EnsembleAlarm"]
