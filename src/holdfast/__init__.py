"""Holdfast: an embeddable, durable agent runtime.

    errors ids clock messages media events                  0  data
    services network driver catalogue store schema tool     1  contracts
    hook policy capability config
    state fold history manifest resolve follow writer journal    2  the turn's terms
    archive registry
    turn/ stores/ drivers/ capabilities/ workspace/         3  rooms
    engines/
    agent manifests model handle mail runner session        4  wiring
    runtime sync testing/
    cli/                                                    5  apps

Importing this runs nothing and loads no provider, database or web code.
"""

import importlib
from typing import TYPE_CHECKING, Any

from holdfast.agent import Agent, Harness
from holdfast.capability import Capability, CapabilityRef, SeedFile
from holdfast.config import Config, Limits
from holdfast.driver import Driver, Reply, Request, Settings, ToolSpec
from holdfast.errors import (
    ConfigError,
    DriverError,
    HoldfastError,
    InputRejected,
    StoreError,
    ToolError,
    UnknownCapability,
    UnknownModel,
    UnknownSession,
    UsageError,
    WorkspaceError,
)
from holdfast.events import AskOpened, Event, Fact
from holdfast.follow import ArgumentsDelta, Lagged, TextDelta, ThinkingDelta, ToolOutput, ToolProgress
from holdfast.handle import Turn, TurnResult
from holdfast.hook import Allow, AskFor, Decision, Defer, Deny, Hook, HookEvent, Interrupt, Modify
from holdfast.manifest import Manifest
from holdfast.messages import (
    BlobRef,
    Document,
    Image,
    Message,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
    user_message,
)
from holdfast.model import Completion, Model
from holdfast.network import NetworkAccess
from holdfast.policy import Action, Policy
from holdfast.registry import Registry
from holdfast.runtime import Runtime
from holdfast.services import FILES, FileInfo, Files, Key, Scope
from holdfast.session import Session
from holdfast.store import Database, Store
from holdfast.stores.memory import MemoryStore
from holdfast.tool import NOT_DONE, Call, Context, Tool, tool
from holdfast.turn.prompt import Inspection

if TYPE_CHECKING:
    from holdfast.stores.sqlite import SQLiteStore
    from holdfast.workspace.disk_files import DiskFiles

__version__ = "0.1.0"
"""The version of this package."""

_LATER = {"SQLiteStore": "holdfast.stores.sqlite", "DiskFiles": "holdfast.workspace.disk_files"}


def __getattr__(name: str) -> Any:
    """Names whose modules load a database or system calls that most programs do not use."""
    if name not in _LATER:
        raise AttributeError(f"module 'holdfast' has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)


__all__ = [
    "FILES",
    "NOT_DONE",
    "Action",
    "Agent",
    "Allow",
    "ArgumentsDelta",
    "AskFor",
    "AskOpened",
    "BlobRef",
    "Call",
    "Capability",
    "CapabilityRef",
    "Completion",
    "Config",
    "ConfigError",
    "Context",
    "Database",
    "Decision",
    "Defer",
    "Deny",
    "DiskFiles",
    "Document",
    "Driver",
    "DriverError",
    "Event",
    "Fact",
    "FileInfo",
    "Files",
    "Harness",
    "HoldfastError",
    "Hook",
    "HookEvent",
    "Image",
    "InputRejected",
    "Inspection",
    "Interrupt",
    "Key",
    "Lagged",
    "Limits",
    "Manifest",
    "MemoryStore",
    "Message",
    "Model",
    "Modify",
    "NetworkAccess",
    "Policy",
    "Registry",
    "Reply",
    "Request",
    "Runtime",
    "SQLiteStore",
    "Scope",
    "SeedFile",
    "Session",
    "Settings",
    "Store",
    "StoreError",
    "Text",
    "TextDelta",
    "Thinking",
    "ThinkingDelta",
    "Tool",
    "ToolCall",
    "ToolError",
    "ToolOutput",
    "ToolProgress",
    "ToolResult",
    "ToolSpec",
    "Turn",
    "TurnResult",
    "UnknownCapability",
    "UnknownModel",
    "UnknownSession",
    "Usage",
    "UsageError",
    "WorkspaceError",
    "__version__",
    "tool",
    "user_message",
]
