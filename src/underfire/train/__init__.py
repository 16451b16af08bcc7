"""Training of learned interpreters: photos without labels in, a network's file out.

photos     found, labelled by the classifier, split by class
objective  what a mask is trained for
quality    what a mask is worth
evaluate   what a network's masks are worth on photos
finite     what is not finite is refused, with the photos' names
loop       epochs, the best network, checkpoints: the same for both tasks
rts        the plain task
rts_a      the adversarial task, with its teacher, its doubt and the figures of forged images
run        `train_rts`: from photos to the file
"""

from underfire.train.forged import JUDGED_STEPS
from underfire.train.loop import TrainListener
from underfire.train.run import Trained, train_rts
from underfire.train.settings import AdversarialSettings, TrainSettings

__all__ = [
    "JUDGED_STEPS",
    "AdversarialSettings",
    "TrainListener",
    "TrainSettings",
    "Trained",
    "train_rts",
]
