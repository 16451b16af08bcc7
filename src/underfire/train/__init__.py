"""Training of learned interpreters: photos without labels in, a network's file out."""

from underfire.train.rts import Trained, Training, TrainSettings, TrainWatcher, out_folder_writable, train_rts
from underfire.train.rts_a import JUDGED_STEPS, adversarial_training

__all__ = [
    "JUDGED_STEPS",
    "TrainSettings",
    "TrainWatcher",
    "Trained",
    "Training",
    "adversarial_training",
    "out_folder_writable",
    "train_rts",
]
