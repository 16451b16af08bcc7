"""Subjects filled in: what a classifier was trained on, and which interpreters fit it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from underfire import core, registry
from underfire.core import Classifier, ClassifierOptions, UnderfireError
from underfire.report import text
from underfire.study.plan import Subject
from underfire.study.results import ATTACKS, IMAGENET, INTERPRETERS, TRAINED


@dataclass(frozen=True)
class ResolvedSubject:
    """A classifier under study, and what became known when it was built.

    Args:
        asked: as asked for, with absolute paths.
        folder: of its audits, below the study's.
        trained_on: in words.
        map_passes: interpreter -> F that one map costs at most, for all that its audits may need.
        interpreters: those under study, in order.
        left_out: interpreters that do not fit, and why.
    """

    asked: Subject
    folder: str
    trained_on: str
    map_passes: Mapping[str, float]
    interpreters: tuple[str, ...]
    left_out: Mapping[str, str]

    @property
    def name(self) -> str:
        """The classifier's."""
        return self.asked.settings.classifier

    @property
    def has_trained(self) -> bool:
        """Whether RTSᴬ is to be set beside RTS, without being asked for by name."""
        return TRAINED in self.map_passes and TRAINED not in self.interpreters


def resolve(asked: Subject, folder: str, device: str, usual: Sequence[str] = INTERPRETERS) -> ResolvedSubject:
    """Build the classifier and its interpreters once, to see which of them fit.

    Args:
        asked: with absolute paths.
        folder: of its audits.
        device: what to build on.
        usual: the interpreters where none is named.

    Raises:
        UnderfireError: an interpreter that was named does not fit, or none does.
    """
    settings = asked.settings
    classifier = registry.build_classifier(settings.classifier, settings.classifier_options, device)
    names = asked.named or tuple(usual)
    _check_options(asked, names)
    passes: dict[str, float] = {}
    left_out: dict[str, str] = {}
    for name in names:
        try:
            passes[name] = _map_passes(asked, name, classifier)
        except UnderfireError as e:
            if asked.named:
                raise
            left_out[name] = str(e)
    if not passes:
        raise UnderfireError(f"No interpreter fits '{settings.classifier}': {left_out[names[-1]]}")
    beside = _trained_beside(asked, classifier) if "rts" in passes and TRAINED not in passes else {}
    trained_on = _trained_on(asked, classifier)
    return ResolvedSubject(asked, folder, trained_on, passes | beside, tuple(passes), left_out)


def _check_options(asked: Subject, names: Sequence[str]) -> None:
    known = (*names, *ATTACKS, *([TRAINED] if "rts" in names else []))
    for name in asked.settings.options:
        if name not in known:
            raise core.unknown("interpreter or attack in this study", name, known)


def _map_passes(asked: Subject, name: str, classifier: Classifier) -> float:
    built = registry.build_interpreter(name, classifier, asked.settings.options.get(name, {}))
    return float(built.map_passes)


def _trained_beside(asked: Subject, classifier: Classifier) -> dict[str, float]:
    """RTSᴬ and its passes, where there is such a network; one that was named must be there."""
    try:
        return {TRAINED: _map_passes(asked, TRAINED, classifier)}
    except UnderfireError:
        if TRAINED in asked.settings.options:
            raise
        return {}


def _trained_on(asked: Subject, classifier: Classifier) -> str:
    """Say in words what a classifier was trained on; without ImageNet's 1,000 classes, that is never ImageNet."""
    from underfire.classifiers.inputs import class_names  # noqa: PLC0415 (torch is slow to import)

    own, imagenet = classifier.classes, class_names(1000, {}, ClassifierOptions())
    said = asked.trained_on or (IMAGENET if asked.settings.weights is None else "other data")
    if said == IMAGENET and own.ids != imagenet.ids and own.names != imagenet.names:
        return f"other data ({text.count(len(own), 'class', 'classes')})"
    return said
