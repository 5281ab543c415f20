"""A sink that posts output to an address."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping

import httpx2
import msgspec

from holdfast.drivers.address import endpoint
from holdfast.drivers.transport import check_headers
from holdfast.sink import Delivery, NotDelivered

REFUSED = frozenset({408, 409, 425, 429})
"""Statuses below 500 after which the same request may be taken later."""


_ORDINARY = frozenset(("accept", "accept-language", "content-type", "user-agent"))
"""Headers whose values are words that others use too."""


def _kept_secret(name: str, value: str) -> tuple[str, ...]:
    """What of this header is a secret: its value, and the credential in it without the name of its scheme."""
    if name in _ORDINARY:
        return ()
    scheme, _, credential = value.partition(" ")
    if not credential or not name.endswith("authorization"):
        return (value,)
    password = _decoded(credential).partition(":")[2] if scheme.lower() == "basic" else ""
    return tuple(filter(None, (value, credential.strip(), password)))


def _decoded(credential: str) -> str:
    try:
        return base64.b64decode(credential).decode()
    except ValueError:
        return ""


class WebhookSink:
    """Posts each delivery as JSON, with its key as `Idempotency-Key`. A status of 2xx means that it was taken.

    A connection that could not be made and a status of 4xx mean that it was not; after anything else nobody knows, and
    `look_up` is asked, if given: the receipt of what arrived under a key, or None. `headers` may hold a credential:
    their values are kept out of whatever is recorded, but for those that only say what is sent, or by whom. Redirects
    are not followed.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        look_up: Callable[[str], Awaitable[str | None]] | None = None,
        http: httpx2.AsyncClient | None = None,
    ) -> None:
        self._url = endpoint(url, "")
        self._headers = check_headers(headers or {})
        self._http = http
        self.secrets = tuple(
            it for name, value in self._headers.items() for it in _kept_secret(name.lower(), value)
        )
        """What must never be recorded or shown."""
        if look_up is not None:
            self.look_up = look_up

    def __repr__(self) -> str:
        return f"WebhookSink({self._url.host})"

    async def deliver(self, delivery: Delivery) -> str:
        """See `Sink.deliver`."""
        if self._http is not None:
            return await self._post(self._http, delivery)
        async with httpx2.AsyncClient() as http:
            return await self._post(http, delivery)

    async def _post(self, http: httpx2.AsyncClient, delivery: Delivery) -> str:
        headers = {"Content-Type": "application/json", "Idempotency-Key": delivery.key, **self._headers}
        try:
            content = msgspec.json.encode(delivery)
            # what else it says is not read: it may never end
            async with http.stream(
                "POST", self._url, content=content, headers=headers, follow_redirects=False
            ) as answer:
                status, taken = answer.status_code, answer.is_success
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise NotDelivered(f"{self._url.host} cannot be reached: {type(error).__name__}") from error
        if taken:
            return f"status {status}"
        if 300 <= status < 500:
            raise NotDelivered(f"{self._url.host} answered {status}", final=status not in REFUSED)
        raise RuntimeError(f"{self._url.host} answered {status}")
