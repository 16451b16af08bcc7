"""Maps of a transformer's attention (method, section 8)."""

from __future__ import annotations

from underfire.interpreters.attention.attention_maps import Relevance, Rollout

__all__ = ["Relevance", "Rollout"]
