"""Holdfast: an embeddable, durable agent runtime.

    errors ids clock messages media facts/ events           0  data
    services budget network matching/ driver catalogue      1  contracts
    store schema shape partial stragglers asking tool hook
    commands/ approver sink policy rules rulebook guard
    capability config
    outcome state folds/ fold history charter manifest      2  the turn's terms
    resolve proof/ follow privacy/ writer roster journal
    watching/ archive registry
    turn/ stores/ drivers/ capabilities/ workspace/         3  rooms
    engines/
    compat/ accounts standing agent manifests drift         4  wiring
    standards model control handle mail runner session
    upkeep runtime sync testing/
    cli/                                                    5  apps

Importing this runs nothing and loads no provider, database or web code.
"""

import importlib
from typing import TYPE_CHECKING, Any

from holdfast.agent import Agent, Harness
from holdfast.approver import Approver
from holdfast.budget import Budget, Rate
from holdfast.capability import Capability, CapabilityRef, SeedFile
from holdfast.config import Config, Limits
from holdfast.drift import DriftReport
from holdfast.driver import Driver, Reply, Request, Settings, ToolSpec
from holdfast.errors import (
    AgentUnavailable,
    ConfigError,
    DriverError,
    HoldfastError,
    InputRejected,
    ManifestDrifted,
    NoOutput,
    StoreError,
    ToolError,
    UnknownCapability,
    UnknownModel,
    UnknownSession,
    UsageError,
    WorkspaceError,
)
from holdfast.events import AskOpened, Event, Fact
from holdfast.facts.asks import Grant
from holdfast.follow import ArgumentsDelta, Lagged, TextDelta, ThinkingDelta, ToolOutput, ToolProgress
from holdfast.guard import Guard
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
from holdfast.network import NetworkAccess
from holdfast.policy import Action, Policy, policy
from holdfast.privacy.views import reviewed
from holdfast.proof.difference import Change, diff
from holdfast.registry import Registry
from holdfast.rules import Rule, Taint
from holdfast.runtime import Runtime
from holdfast.services import FILES, PAYMENTS, FileInfo, Files, Key, PaymentRequest, Receipt, Scope
from holdfast.session import Session
from holdfast.sink import Delivery, NotDelivered, Sink
from holdfast.store import Database, Listing, Store
from holdfast.tool import NOT_DONE, Call, Context, Tool, tool
from holdfast.turn.prompt import Inspection
from holdfast.watching.filters import NOW, Filter
from holdfast.watching.subscription import Subscription

if TYPE_CHECKING:
    from holdfast.commands.hook import CommandHook
    from holdfast.model import Completion, Model
    from holdfast.stores.memory import MemoryStore
    from holdfast.stores.sqlite import SQLiteStore
    from holdfast.workspace.disk_files import DiskFiles

__version__ = "0.1.0"
"""The version of this package."""

_LATER = {
    "CommandHook": "holdfast.commands.hook",
    "Completion": "holdfast.model",
    "DiskFiles": "holdfast.workspace.disk_files",
    "MemoryStore": "holdfast.stores.memory",
    "Model": "holdfast.model",
    "SQLiteStore": "holdfast.stores.sqlite",
}


def __getattr__(name: str) -> Any:
    """Names whose modules many programs do without; each is loaded when it is first asked for."""
    if name not in _LATER:
        raise AttributeError(f"module 'holdfast' has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)


__all__ = [
    "FILES",
    "NOT_DONE",
    "NOW",
    "PAYMENTS",
    "Action",
    "Agent",
    "AgentUnavailable",
    "Allow",
    "Approver",
    "ArgumentsDelta",
    "AskFor",
    "AskOpened",
    "BlobRef",
    "Budget",
    "Call",
    "Capability",
    "CapabilityRef",
    "Change",
    "CommandHook",
    "Completion",
    "Config",
    "ConfigError",
    "Context",
    "Database",
    "Decision",
    "Defer",
    "Delivery",
    "Deny",
    "DiskFiles",
    "Document",
    "DriftReport",
    "Driver",
    "DriverError",
    "Event",
    "Fact",
    "FileInfo",
    "Files",
    "Filter",
    "Grant",
    "Guard",
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
    "Listing",
    "Manifest",
    "ManifestDrifted",
    "MemoryStore",
    "Message",
    "Model",
    "Modify",
    "NetworkAccess",
    "NoOutput",
    "NotDelivered",
    "PaymentRequest",
    "Policy",
    "Rate",
    "Receipt",
    "Registry",
    "Reply",
    "Request",
    "Rule",
    "Runtime",
    "SQLiteStore",
    "Scope",
    "SeedFile",
    "Session",
    "Settings",
    "Sink",
    "Store",
    "StoreError",
    "Subscription",
    "Taint",
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
    "diff",
    "policy",
    "reviewed",
    "tool",
    "user_message",
]
