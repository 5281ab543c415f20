"""Where a driver's requests may go: base URLs that are plain, and hosts that are public where they must be."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

import httpx2

from holdfast.errors import ConfigError, DriverError

_LOCAL = (".localhost", ".local", ".internal", ".home.arpa", ".lan")


def endpoint(base_url: str, path: str) -> httpx2.URL:
    """The address of `path` under a base URL; a query in the base URL is kept.

    Raises `ConfigError` when the base URL is not a plain http(s) address or holds a user name or password.
    """
    try:
        url = httpx2.URL(base_url)
    except (httpx2.InvalidURL, TypeError) as error:
        raise ConfigError("the base URL is not a URL; give one like https://api.example.com/v1") from error
    if url.userinfo:
        raise ConfigError(
            f"the base URL of {url.host} holds a user name or password; pass the key as api_key"
        )
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigError("the base URL must begin with https:// or http:// and name a host")
    if url.port is not None and not 0 < url.port < 65_536:
        raise ConfigError(f"the base URL of {url.host} names port {url.port}; a port is between 1 and 65535")
    old_path, mark, query = url.raw_path.partition(b"?")
    return url.copy_with(raw_path=old_path.rstrip(b"/") + path.encode() + mark + query, fragment=None)


def check_public(host: str) -> None:
    """Raises `ConfigError` for a host that by its name or number is private."""
    name = host.rstrip(".").lower()
    if f".{name}".endswith(_LOCAL) or _is_private(name):
        raise ConfigError(
            f"the base URL leads to {host}, a private address, and Options(private=False) forbids those; "
            "give a public one, or allow it"
        )


async def public_address(host: str, port: int | None) -> str:
    """The address to connect to: were the name looked up once more, it might lead elsewhere.

    Raises `DriverError`: `unsupported` when the name leads to a private address, even to one; `connection` when it
    leads nowhere.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port or 443, type=socket.SOCK_STREAM)
    except OSError as error:
        raise DriverError("connection", f"no connection to {host}: its name is not known") from error
    if any(_is_private(str(place[0])) for *_, place in found):
        raise DriverError(
            "unsupported", f"{host} leads to a private address, and Options(private=False) forbids those"
        )
    *_, place = found[0]
    return str(place[0])


def _is_private(text: str) -> bool:
    """Whether this is a number of no public host. Old ways to write one (`127.1`, `0x7f000001`) count as numbers."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0].strip("[]"))
    except ValueError:
        try:
            address = ipaddress.IPv4Address(socket.inet_aton(text))
        except OSError:
            return False
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address.sixtofour or address
    return not address.is_global or address.is_multicast
