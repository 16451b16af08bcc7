from underfire import core
from underfire.images import maps


class Energy:
    """Where the last features are strong, whatever the class."""

    name, digest, map_passes, step_passes = "energy", "", 1.0, 3.0

    def __init__(self, classifier: core.Classifier) -> None:
        self.classifier = classifier

    def explain(self, x: core.Images, y: core.Labels) -> core.Maps:
        return maps.unit_scale(self.classifier.features(x).square().sum(1)).detach()

    def surrogate(self, x: core.Images, goal: core.Goal, **options: object) -> "EnergyTwin":
        return EnergyTwin(self.classifier, goal)


class EnergyTwin:
    def __init__(self, classifier: core.Classifier, goal: core.Goal) -> None:
        self.classifier, self.goal, self.shows = classifier, goal, True  # `terms` bring the real maps

    def terms(self, x: core.Images) -> core.Terms:
        features = self.classifier.features(x)
        m = maps.unit_scale(features.square().sum(1))
        return core.Terms(self.classifier.scores(features), maps.l2(m, self.goal.maps["energy"]), m.detach())

    def advance(self, x: core.Images, progress: float) -> None: ...
    def select(self, keep: core.Labels) -> None:
        self.goal = self.goal.select(keep)
