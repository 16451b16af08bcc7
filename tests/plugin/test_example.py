from underfire_example.energy import Energy
from underfire_example.fgsm import Fgsm
from underfire_example.jpeg import jpeg
from underfire_example.lid import Lid
from underfire_example.toy import toy

from underfire import testing
from underfire.core import ClassifierOptions, Victim


def test_the_parts_keep_their_contracts() -> None:
    classifier = toy("", ClassifierOptions())
    energy = Energy(classifier)
    testing.check_classifier(classifier)
    testing.check_interpreter(energy, classifier)
    testing.check_detector(jpeg, classifier)
    testing.check_detector(Lid(classifier), classifier)
    testing.check_attack(Fgsm.make("fast", "energy", 8), Victim(classifier, (energy,)))
