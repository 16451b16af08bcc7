"""The ensemble alarm: several interpreters explain a picture and a smoothed copy of it; how far they differ alarms."""

from __future__ import annotations

from underfire.defenses.ensemble.alarm import EnsembleAlarm
from underfire.defenses.ensemble.interpreter import Ensemble

__all__ = ["Ensemble", "EnsembleAlarm"]
