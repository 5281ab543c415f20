"""Formats of other systems, written from what Holdfast keeps. One package each.

agent_sdk      agent-sdk-core: packages, journals, events, typed outputs
"""

from holdfast.compat import agent_sdk

__all__ = ["agent_sdk"]
