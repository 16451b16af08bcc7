"""The search that all attacks share: its loop, its spaces, its objectives, and what counts as success."""

from underfire.attacks.search.attack import AttackMaker, SearchAttack, maker_of
from underfire.attacks.search.ball import Ball, BallWalk
from underfire.attacks.search.best import Best, ranking
from underfire.attacks.search.flow import Flow, FlowWalk
from underfire.attacks.search.live import LiveBatch
from underfire.attacks.search.loop import how_far, search
from underfire.attacks.search.objective import PredictionAlone, PredictionAndMap
from underfire.attacks.search.rescue import Rescue
from underfire.attacks.search.settings import Schedule, SearchSettings, Stages
from underfire.attacks.search.success import Reached, Success

__all__ = [
    "AttackMaker",
    "Ball",
    "BallWalk",
    "Best",
    "Flow",
    "FlowWalk",
    "LiveBatch",
    "PredictionAlone",
    "PredictionAndMap",
    "Reached",
    "Rescue",
    "Schedule",
    "SearchAttack",
    "SearchSettings",
    "Stages",
    "Success",
    "how_far",
    "maker_of",
    "ranking",
    "search",
]
