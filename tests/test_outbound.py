"""The client for addresses that clients chose, in a network where every address leads to a canary."""

import asyncio
import gc
import ipaddress
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.support.canary import PUBLIC, Seen, Try, make
from tests.support.serving import answer, serving
from threadloom import outbound
from threadloom.config.outbound import Outbound
from threadloom.outbound import (
    AddressRefused,
    AnswerTooLarge,
    Guard,
    guarded_client,
    is_public,
    read_limited,
)

PRIVATE = (
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "192.88.99.1",
    "198.18.0.1",
    "203.0.113.9",
    "240.0.0.1",
    "[::1]",
    "[::]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:a9fe:a9fe]",
    "[::ffff:93.184.215.14]",
    "[fd00:ec2::254]",
    "[fc00::1]",
    "[fec0::1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::a00:1]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::1]",
    "[2001:0:7f00:1::]",
    "[2001:db8::1]",
    "[100::1]",
    "[5f00::1]",
)
# Addresses that nobody can connect to; they are refused all the same.
NOWHERE = ("224.0.0.1", "239.255.255.250", "255.255.255.255", "[ff02::1]", "[fe80::1]")
SPELLINGS = (
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "127.1",
    "127.0.1",
    "017700000001",
    "2852039166",
    "0xa9fea9fe",
    "0xA9.0xFE.0xA9.0xFE",
    "127。0。0。1",
    "localhost",
    "LOCALHOST",
)
# Refused as no URL before they are refused as an address.
NO_URLS = ("http://0177.0.0.1/", "http://①②⑦.0.0.1/", "http://127.0.0.1:x/")
TRICKS = (*PRIVATE, *SPELLINGS)
EVERYTHING = ("0.0.0.0/0", "::/0")


def urls(*hosts: str) -> tuple[str, ...]:
    return tuple(f"http://{host}/" for host in hosts)


async def test_no_trick_reaches_an_address_that_is_not_public() -> None:
    hosts = (*TRICKS, *NOWHERE)
    guarded, unguarded = await make(
        Try(urls(*hosts)), Try(urls(*TRICKS), allow=(*EVERYTHING, "localhost"))
    )
    assert dict(zip(hosts, guarded.answers, strict=True)) == dict.fromkeys(hosts, "refused")
    assert guarded.seen == ()
    # The canary would have seen each of them.
    assert dict(zip(TRICKS, unguarded.answers, strict=True)) == dict.fromkeys(TRICKS, "200")


async def test_other_ports_schemes_and_credentials_are_refused_too() -> None:
    tries = (
        "http://127.0.0.1:8080/",
        "http://[::1]:8080/",
        f"http://user:secret@{PUBLIC}/",
        f"http://user@{PUBLIC}/",
        f"ftp://{PUBLIC}/",
        f"gopher://{PUBLIC}:80/_GET",
        "file:///etc/passwd",
        "data:text/plain,x",
        "unix:///run/docker.sock",
        "http:///etc/passwd",
        f"//{PUBLIC}/",
    )
    (told,) = await make(Try(tries, redirects=3))
    assert told.answers == ("refused",) * len(tries)
    assert told.seen == ()
    assert "secret" not in "".join(told.sentences)


async def test_what_is_no_url_is_refused() -> None:
    (told,) = await make(Try(NO_URLS))
    assert told.answers == ("InvalidURL",) * len(NO_URLS)
    assert told.seen == ()
    for url in NO_URLS:
        with pytest.raises(AddressRefused, match="not a URL"):
            Guard(Outbound()).check_url(url)


async def test_a_name_is_looked_up_once_and_that_address_is_called() -> None:
    names = {"public.test": [[PUBLIC], ["127.0.0.1"]]}
    (told,) = await make(Try(urls("public.test"), names))
    assert told.answers == ("200",)
    assert told.seen == (Seen(PUBLIC, 80, "public.test"),)
    assert told.lookups == ("public.test",)


async def test_a_name_that_turns_private_is_refused_when_it_does() -> None:
    addresses = [host.strip("[]") for host in PRIVATE]
    told = await make(
        *(
            Try(urls("rebind.test", "rebind.test"), {"rebind.test": [[PUBLIC], [address]]})
            for address in addresses
        )
    )
    for address, one in zip(addresses, told, strict=True):
        assert one.answers == ("200", "refused"), address
        assert one.seen == (Seen(PUBLIC, 80, "rebind.test"),), address
        assert address not in one.sentences[0], "what a name leads to inside is not told"


async def test_of_several_addresses_only_public_ones_are_called() -> None:
    names = {"mixed.test": [["127.0.0.1", "10.0.0.1", PUBLIC, "::1"]]}
    (told,) = await make(Try(urls("mixed.test"), names))
    assert told.seen == (Seen(PUBLIC, 80, "mixed.test"),)


async def test_an_address_that_does_not_answer_makes_way_for_the_next() -> None:
    names = {"two.test": [["255.255.255.255", "2606:2800::1", PUBLIC]]}
    (told,) = await make(Try(urls("two.test:8080"), names, allow=("255.255.255.255",)))
    assert told.seen == (Seen("2606:2800::1", 8080, "two.test:8080"),)


async def test_each_redirect_is_checked_again() -> None:
    inside = (*urls(*TRICKS), "http://rebind.test/", "file:///etc/passwd")
    names = {"public.test": [[PUBLIC]], "rebind.test": [["169.254.169.254"]]}
    told = await make(
        *(Try((f"http://public.test/to?{quote(url)}",), names, redirects=3) for url in inside)
    )
    for url, one in zip(inside, told, strict=True):
        assert one.answers in (("refused",), ("UnsupportedProtocol",)), url
        assert [seen.address for seen in one.seen] == [PUBLIC], url


async def test_redirects_are_followed_when_asked_for_and_counted() -> None:
    there = f"http://{PUBLIC}/to?" + quote(f"http://{PUBLIC}/to?" + quote(f"http://{PUBLIC}/"))
    followed, stopped, unfollowed = await make(
        Try((there,), redirects=2), Try((there,), redirects=1), Try((there,))
    )
    assert (followed.answers, len(followed.seen)) == (("200",), 3)
    assert (stopped.answers, len(stopped.seen)) == (("TooManyRedirects",), 2)
    assert (unfollowed.answers, len(unfollowed.seen)) == (("302",), 1)


async def test_networks_and_hosts_can_be_allowed() -> None:
    names = {"hooks.internal": [["10.1.2.3"]], "other.internal": [["10.1.2.3"]]}
    asked = urls("hooks.internal", "HOOKS.internal", "other.internal")
    by_host, by_network, by_address = await make(
        Try(asked, names, allow=("Hooks.internal",)),
        Try(asked, names, allow=("10.1.0.0/16",)),
        Try(urls("10.1.2.3", "10.1.2.4"), allow=("10.1.2.3",)),
    )
    assert by_host.answers == ("200", "200", "refused")
    assert by_network.answers == ("200", "200", "200")
    assert by_address.answers == ("200", "refused")


@pytest.mark.parametrize("entry", ["10.0.0.1/8", "http://a", "a:80", "*.a", "", "10.0.0", "a/8"])
def test_what_names_neither_network_nor_host_cannot_be_allowed(entry: str) -> None:
    with pytest.raises(ValidationError, match="neither a network"):
        Outbound(allow=(entry,))


async def test_the_certificate_is_checked_against_the_name(tmp_path: Path) -> None:
    names = {"public.test": [[PUBLIC]], "other.test": [[PUBLIC]]}
    asked = tuple(f"https://{host}/" for host in ("public.test", "other.test", PUBLIC))
    (told,) = await make(Try(asked, names), certificate=certificate(tmp_path, "public.test"))
    assert told.answers == ("200", "ConnectError", "ConnectError")
    assert told.seen == (Seen(PUBLIC, 443, "public.test", "public.test"),)


async def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://10.9.9.9:8080")
    (told,) = await make(Try(urls(PUBLIC)))
    assert told.seen == (Seen(PUBLIC, 80, PUBLIC),)


async def test_cookies_are_not_kept() -> None:
    (told,) = await make(Try(urls(PUBLIC, PUBLIC)))
    assert [seen.cookie for seen in told.seen] == ["", ""]


async def test_a_body_without_end_is_cut_off() -> None:
    sent = 0

    async def endless(_: str, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n")
        while sent < 64 * 1024 * 1024:
            writer.write(b"\0" * 65536)
            await writer.drain()
            sent += 65536

    async with serving(endless) as url, guarded_client(LOOPBACK) as client:
        with pytest.raises(AnswerTooLarge):
            async with client.stream("GET", url) as response:
                await read_limited(response, 1_000_000)
    assert sent < 32 * 1024 * 1024


async def test_a_body_is_not_decompressed() -> None:
    async def packed(_: str, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"bombs", "content-encoding: gzip"))
        await writer.drain()

    async with (
        serving(packed) as url,
        guarded_client(LOOPBACK) as client,
        client.stream("GET", url) as response,
    ):
        assert await read_limited(response, 5) == b"bombs"


async def test_a_slow_body_ends_with_the_callers_time() -> None:
    async def slow(_: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        for _piece in range(100):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with serving(slow) as url, guarded_client(LOOPBACK, timeout=1) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3), client.stream("GET", url) as response:
                await read_limited(response, 1000)


async def test_a_silent_name_server_holds_up_no_other_name(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    silent = ["http://one.silent/"] * 20 + [f"http://{number}.silent/" for number in range(20)]
    with name_server(monkeypatch) as asked:
        async with serving(hello) as url, guarded_client(LOOPBACK) as client:
            hanging = [asyncio.create_task(client.get(one)) for one in silent]
            await asyncio.to_thread(asked.one.wait, 60)
            other = await client.get(named(url, "other.test"), timeout=20)
            assert other.content == b"hello"
            await cancel(hanging)
            assert asked.names.count("one.silent") == 1
            asked.end.set()
            with pytest.raises(httpx2.ConnectError):
                await client.get("http://last.silent/", timeout=20)
            del hanging  # they hold the lookups
            gc.collect()
    assert not caplog.records, "of lookups that ended when nobody waited"


async def test_a_lookup_is_for_all_who_wait_for_it_and_for_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbound, "LOOKUPS_AT_ONCE", 1)
    with name_server(monkeypatch) as asked:
        async with serving(hello) as url, guarded_client(LOOPBACK) as client:
            silent = asyncio.create_task(client.get("http://one.silent/", timeout=60))
            await asyncio.to_thread(asked.one.wait, 60)
            leaving = [named(url, host) for host in ("left.test", "other.test")]
            staying = asyncio.create_task(client.get(leaving[1], timeout=60))
            for one in leaving:
                with pytest.raises(httpx2.ConnectTimeout):
                    await client.get(one, timeout=0.05)
            asked.end.set()
            with pytest.raises(httpx2.ConnectError):
                await silent
            assert (await staying).content == b"hello"
            assert asked.names == ["one.silent", "other.test"]


async def cancel(tasks: list[asyncio.Task[httpx2.Response]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def hello(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(b"hello"))
    await writer.drain()


def named(url: str, host: str) -> str:
    return url.replace("127.0.0.1", host)


class Asked:
    """What names were looked up. `one` is set when `one.silent` was; `end` answers for the silent ones."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.one = threading.Event()
        self.end = threading.Event()


@contextmanager
def name_server(monkeypatch: pytest.MonkeyPatch) -> Generator[Asked]:
    """Knows every name under `test`; is silent on those under `silent`."""
    asked, others = Asked(), socket.getaddrinfo

    def getaddrinfo(host: str, *args: Any, **options: Any) -> Any:
        if not host.endswith((".test", ".silent")):
            return others(host, *args, **options)
        asked.names.append(host)
        if host.endswith(".test"):
            return others("127.0.0.1", *args, **options)
        if host == "one.silent":
            asked.one.set()
        asked.end.wait()
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    try:
        yield asked
    finally:
        asked.end.set()
        for thread in threading.enumerate():
            if thread.name.startswith("lookup"):
                thread.join(60)


@given(st.ip_addresses())
def test_what_python_calls_private_is_never_public(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """Our table is not looser than the library's."""
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert not is_public(address)


LOOPBACK = Outbound(allow=("127.0.0.0/8",))


def certificate(folder: Path, host: str) -> Path:
    """One that signs itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path
