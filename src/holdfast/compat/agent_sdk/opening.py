"""The beginning of a run: who it is, what it runs under, and what its answer must look like."""

from __future__ import annotations

from collections.abc import Mapping

from holdfast.compat.agent_sdk.canonical import JsonObject
from holdfast.compat.agent_sdk.contract import contract_of
from holdfast.compat.agent_sdk.envelope import RunContext
from holdfast.compat.agent_sdk.ids import RunIds, safe_name
from holdfast.compat.agent_sdk.package import fingerprint
from holdfast.compat.agent_sdk.run import Run
from holdfast.compat.agent_sdk.trace import RunTrace, Trace
from holdfast.events import Event, InputMessage, TurnStarted

Packages = Mapping[str, JsonObject]
"""Packages by the digest of the manifest that each was made of."""

NO_ROUTE: JsonObject = {"route_id": "provider.unknown", "model_id": "model.unknown"}
"""Where nobody says which provider was asked."""


class Named:
    """What each turn ran under, as far as it is known, by the digest of its manifest."""

    def __init__(self, packages: Packages) -> None:
        self.packages = packages
        self.agent = ""
        """The name of the session's agent, once the log has told it."""
        self._fingerprints = {digest: fingerprint(package) for digest, package in packages.items()}

    def context(self, event: Event, manifest: str) -> RunContext:
        """What the records of the turn that begins with this event share."""
        turn_id = event.context.turn_id
        package = self.packages.get(manifest)
        return RunContext(
            run_id=turn_id,
            agent_id=package["agent"]["agent_id"] if package else safe_name(self.agent or "agent.default"),
            session_id=event.session_id,
            turn_id=turn_id,
            trace_id=event.context.trace_id or RunIds(turn_id).name("trace"),
            fingerprint=self._fingerprints.get(manifest, manifest),
        )

    def route(self, manifest: str) -> JsonObject:
        """Which provider was asked, and for which model."""
        package = self.packages.get(manifest)
        return dict(package["provider_route"]) if package else NO_ROUTE

    def tools(self, manifest: str) -> set[str]:
        """The names of the tools that there are."""
        package = self.packages.get(manifest)
        namespaces = [str(item["namespace"]) for item in package["capabilities"]] if package else []
        return {name.removeprefix("tool.") for name in namespaces}


def begin(
    trace: Trace, named: Named, event: Event, fact: TurnStarted, wanted: InputMessage | None, told: int
) -> Run:
    """The run of this turn, begun. `told` is how many messages the model has been told before."""
    contract = wanted.output if wanted else None
    run = Run(
        trace=RunTrace(trace=trace, context=named.context(event, fact.manifest), at=event.ts),
        route=named.route(fact.manifest),
        inputs=fact.inputs,
        messages=told + len(fact.inputs),
        tools=named.tools(fact.manifest),
        contract=contract_of(contract) if contract else None,
    )
    run.begin()
    return run
