"""An HTTP client for addresses that clients chose: it reaches public ones only.

The check stands where a connection is opened: a name is looked up once, its addresses are checked, and one of these very addresses is connected to.
Redirects and further attempts come the same way (ADR 0019).
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)
from types import TracebackType

import httpx2
from httpcore2 import (
    SOCKET_OPTION,
    AnyIOBackend,
    AsyncConnectionPool,
    AsyncNetworkBackend,
    AsyncNetworkStream,
    ConnectError,
    ConnectTimeout,
)

from threadloom.config.outbound import Outbound, network_of

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host's name. Raises OSError when it has none."""

CONNECT_TIMEOUT = 5.0
LOOKUPS_AT_ONCE = 64
"""Threads, started when they are needed. A host takes one; whoever has many hosts in a domain whose name server is silent can still take them all."""
CONNECTIONS = 64
MOST_ADDRESSES = 4
"""How many addresses of one name are tried."""

# IANA's special-purpose registry as of 2026, and what is no destination at all. Our own table: what `ipaddress` calls private
# depends on Python's version, and it counts multicast among the global ones.
NOT_PUBLIC_V4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "168.63.129.16/32",  # public by number, but answered by the host of every virtual machine at Azure
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
        ),
    )
)
# Nothing outside this is public: not ::1, IPv4 in IPv6 (mapped, NAT64), local, link-local or multicast addresses.
PUBLIC_V6 = IPv6Network("2000::/3")
NOT_PUBLIC_V6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # Teredo among others
            "2001:db8::/32",
            "2002::/16",  # 6to4
            "3fff::/20",
        ),
    )
)


class AddressRefused(Exception):
    """An address that must not be called; the sentence is for whoever chose it, and tells nothing of our network."""


class AnswerTooLarge(Exception):
    """The body of an answer is longer than the limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"The answer is longer than {limit} bytes.")


def guarded_client(
    settings: Outbound,
    *,
    timeout: float | None = None,
    redirects: int = 0,
    resolve: Resolver | None = None,
    tls: ssl.SSLContext | None = None,
) -> httpx2.AsyncClient:
    """A client whose requests raise AddressRefused, before anything is sent, unless they go to a public or an allowed address.

    `timeout` is for each step (connecting, a piece of the answer), in seconds: put `asyncio.timeout` around the whole. Follows `redirects` redirects,
    raising `httpx2.TooManyRedirects` after them; with none the redirecting answer is the answer. Keeps no cookies and knows no proxies. Read answers
    with `client.stream` and `read_limited`. Close it.
    """
    step = timeout or settings.timeout
    return httpx2.AsyncClient(
        transport=GuardedTransport(Guard(settings), resolve, tls or trusted_authorities()),
        timeout=httpx2.Timeout(step, connect=min(step, CONNECT_TIMEOUT)),
        follow_redirects=redirects > 0,
        max_redirects=redirects,
        trust_env=False,
        headers={"accept-encoding": "identity", "user-agent": "threadloom"},
        # Whoever answers for one project must not be able to mark the requests of another.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
    )


@cache
def trusted_authorities() -> ssl.SSLContext:
    """Read once in a process: that takes longer than all else a client needs."""
    return httpx2.create_ssl_context()


async def read_limited(response: httpx2.Response, limit: int) -> bytes:
    """A streamed body as it was sent, not decompressed. Raises AnswerTooLarge once it is longer than `limit` bytes."""
    body = bytearray()
    async with aclosing(response.aiter_raw()) as pieces:
        async for piece in pieces:
            body += piece
            if len(body) > limit:
                raise AnswerTooLarge(limit)
    return bytes(body)


class Guard:
    """Which addresses may be called."""

    def __init__(self, settings: Outbound) -> None:
        named = [(entry, network_of(entry)) for entry in settings.allow]
        self._networks = tuple(network for _, network in named if network is not None)
        self._hosts = frozenset(entry.lower() for entry, network in named if network is None)

    def check_url(self, url: str | httpx2.URL) -> None:
        """What can be said of a URL without looking up its name. Raises AddressRefused."""
        try:
            parsed = httpx2.URL(url)
        except (httpx2.InvalidURL, TypeError):
            raise AddressRefused("This is not a URL.") from None
        if parsed.scheme not in ("http", "https"):
            raise AddressRefused("Only http and https addresses can be called.")
        if parsed.userinfo:
            raise AddressRefused("An address must not contain a user name or a password.")
        if not parsed.host:
            raise AddressRefused("The address names no host.")
        if (address := literal(parsed.host)) is not None:
            self.usable(parsed.host, [address])

    def usable(self, host: str, addresses: Iterable[Address]) -> list[Address]:
        """Those of a host's addresses that may be connected to. Raises AddressRefused when there is none."""
        named = self._names(host)
        if found := [one for one in addresses if named or is_public(one) or self._is_allowed(one)]:
            return found
        raise AddressRefused(
            f"{host} has no public address. Others are called only if the server's `outbound.allow` names them."
        )

    def is_named(self, host: str) -> bool:
        """Whether the settings name the host, or a network that it is in."""
        address = literal(host)
        return self._names(host) or (address is not None and self._is_allowed(address))

    def _names(self, host: str) -> bool:
        return host.lower().rstrip(".") in self._hosts

    def _is_allowed(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def is_public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in NOT_PUBLIC_V4)
    return address in PUBLIC_V6 and not any(address in network for network in NOT_PUBLIC_V6)


def literal(host: str) -> Address | None:
    """The address that a host is if it is not a name; also `127.1`, `0x7f000001` and the like, as the C library reads them."""
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


class GuardedTransport(httpx2.AsyncHTTPTransport):
    """Checks the URL of each request, also of those that a redirect makes."""

    def __init__(self, guard: Guard, resolve: Resolver | None, tls: ssl.SSLContext) -> None:
        super().__init__(verify=tls, trust_env=False)
        self._guard = guard
        self._lookups = Lookups()
        self._pool = AsyncConnectionPool(
            ssl_context=tls,
            max_connections=CONNECTIONS,
            keepalive_expiry=CONNECT_TIMEOUT,
            network_backend=GuardedBackend(guard, resolve or self._lookups),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self._guard.check_url(request.url)
        return await super().handle_async_request(request)

    async def aclose(self) -> None:
        await super().aclose()
        self._lookups.close()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()  # the base class closes only what it knows of


class GuardedBackend(AsyncNetworkBackend):
    """Opens connections. TLS and the Host header, which come later, know the name only: the certificate is still checked against it."""

    def __init__(self, guard: Guard, resolve: Resolver) -> None:
        self._guard = guard
        self._resolve = resolve
        self._sockets = AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (the shape is httpcore2's)
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        seconds = timeout or CONNECT_TIMEOUT
        with failing_as_connections_do():
            async with asyncio.timeout(seconds):
                found = map(ip_address, await self._resolve(host, port))
                addresses = self._guard.usable(host, found)[:MOST_ADDRESSES]
                connect = partial(
                    self._sockets.connect_tcp,
                    port=port,
                    timeout=seconds / len(addresses),
                    local_address=local_address,
                    socket_options=socket_options,
                )
                return await first(connect, addresses)


async def first(
    connect: Callable[[str], Awaitable[AsyncNetworkStream]], addresses: Sequence[Address]
) -> AsyncNetworkStream:
    """The first connection that can be opened."""
    for address in addresses[:-1]:
        try:
            return await connect(str(address))
        except (ConnectError, ConnectTimeout):
            continue
    return await connect(str(addresses[-1]))


@contextmanager
def failing_as_connections_do() -> Generator[None]:
    try:
        yield
    except TimeoutError:
        raise ConnectTimeout("no connection in time") from None
    except (OSError, ValueError):  # ValueError: a name that cannot be looked up at all
        raise ConnectError("the name has no address") from None


@dataclass
class Lookup:
    """A name that is being looked up, and how many wait for its addresses."""

    thread: Future[list[str]]
    addresses: asyncio.Future[list[str]]
    waiting: int = 0


class Lookups:
    """Looks names up on threads of its own: a slow name server, which a client may have chosen as well, holds up nothing else.

    A thread that looks a name up cannot be stopped: who asks for the same host meanwhile waits for its answer, and takes no other thread.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LOOKUPS_AT_ONCE, "lookup")
        self._under_way: dict[str, Lookup] = {}

    async def __call__(self, host: str, port: int) -> list[str]:
        lookup = self._under_way.get(host) or self._begin(host, port)
        lookup.waiting += 1
        try:
            addresses = await asyncio.shield(lookup.addresses)
        finally:
            lookup.waiting -= 1
            if not lookup.waiting:
                lookup.thread.cancel()  # does nothing once it has begun
        if not addresses:
            raise OSError(f"{host} has no address")
        return addresses

    def close(self) -> None:
        for lookup in list(self._under_way.values()):
            lookup.addresses.cancel()  # the event loop may be gone when the thread is done
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _begin(self, host: str, port: int) -> Lookup:
        thread = self._threads.submit(addresses_of, host, port)
        lookup = self._under_way[host] = Lookup(thread, asyncio.wrap_future(thread))
        thread.add_done_callback(lambda _: self._under_way.pop(host))
        return lookup


def addresses_of(host: str, port: int) -> list[str]:
    """None for a name that has none: an exception that nobody waits for any more would be logged."""
    try:
        return look_up(host, port)
    except (OSError, ValueError):
        return []


def look_up(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
