"""The formats of agent-sdk-core: packages with fingerprints, journals, events, typed outputs.

    export_package(manifest)        what a turn ran under, as a package; `fingerprint(package)` names it
    export_session(events)          a log as journal records and events
    judge(contract, answers)        answers held against an output contract, with the records of it

    canonical      JSON and digests                 ids refs        names, and references to things
    package        snapshots and fingerprints       capabilities hooks tools     what packages are made of
    described from_manifest                         a manifest of ours as a package
    kinds envelope filters queue                    events, who gets them, and what is dropped
    payloads records trace                          journal records, and a run as it is written
    run opening replies calls steps export          a log of ours, read
    contract validation repair published            typed outputs
    policy content telemetry stream delivery        decisions, what may be seen of content, and where it goes

Nothing that was said is in an export. A rule of that system that its own runs do not follow is not followed here.
"""

from holdfast.compat.agent_sdk.canonical import JsonObject, canonical, plain
from holdfast.compat.agent_sdk.contract import OutputContract, contract, contract_document
from holdfast.compat.agent_sdk.export import export_events, export_journal, export_session
from holdfast.compat.agent_sdk.from_manifest import export_package, export_tools
from holdfast.compat.agent_sdk.package import (
    apply_delta,
    build,
    canonical_snapshot,
    check_package,
    conformance,
    fingerprint,
    package,
    read_package,
)
from holdfast.compat.agent_sdk.repair import Candidate, Judged, judge
from holdfast.compat.agent_sdk.trace import Trace, event_rows, journal_rows
from holdfast.compat.agent_sdk.validation import Problem, check_schema, validate

__all__ = [
    "Candidate",
    "JsonObject",
    "Judged",
    "OutputContract",
    "Problem",
    "Trace",
    "apply_delta",
    "build",
    "canonical",
    "canonical_snapshot",
    "check_package",
    "check_schema",
    "conformance",
    "contract",
    "contract_document",
    "event_rows",
    "export_events",
    "export_journal",
    "export_package",
    "export_session",
    "export_tools",
    "fingerprint",
    "journal_rows",
    "judge",
    "package",
    "plain",
    "read_package",
    "validate",
]
