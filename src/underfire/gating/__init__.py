"""The gate: a policy's rules decided on 95 % intervals, two audits compared, and a model card. It imports no torch.

The room is called `gating`, since ``underfire.gate`` is the function.
"""

from __future__ import annotations

from underfire.gating.decide import ruling
from underfire.gating.door import GateFailedError, gate
from underfire.gating.ruling import RuleCheck, Ruling

__all__ = ["GateFailedError", "RuleCheck", "Ruling", "gate", "ruling"]
