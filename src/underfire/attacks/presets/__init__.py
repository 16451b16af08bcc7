"""Presets: every number that an attack starts from, as rows that say why. F = one forward pass of the classifier.

`paper`     the published recipe (method, section 4) with its flaws mended: judged on the rounded image, the best
            iterate kept, every image on its own. No early stop, so that its cost is the published cost.
`fast`      the default: the cheapest search that reaches the paper's quality with a margin.
`thorough`  what a patient attacker gets.
"""

from underfire.attacks.presets.options import Chosen, options_of, rescue_of
from underfire.attacks.presets.row import Preset
from underfire.attacks.presets.table import DRAWN, PRESETS
from underfire.core.presets import PRESET_NAMES

__all__ = ["DRAWN", "PRESETS", "PRESET_NAMES", "Chosen", "Preset", "options_of", "rescue_of"]
