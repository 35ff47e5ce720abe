"""Requests to addresses that clients chose."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network

from pydantic import Field, field_validator

from threadloom.config.values import Duration, Section

HOST = re.compile(
    r"(?=.{1,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,62})\.)*[a-z0-9_-]*[a-z][a-z0-9_-]*", re.IGNORECASE
)


def network_of(entry: str) -> IPv4Network | IPv6Network | None:
    """The network that an entry of `allow` names; None when it names a host. Raises ValueError when it is neither."""
    try:
        return ip_network(entry)
    except ValueError:
        if HOST.fullmatch(entry):
            return None
    raise ValueError(f"{entry!r} is neither a network such as 10.0.0.0/8 nor the name of a host.")


class Outbound(Section):
    """Requests to addresses that clients chose: webhooks and pictures."""

    allow: tuple[str, ...] = Field(
        default=(),
        description="Networks (`10.0.0.0/8`) or hosts that may be called although they are not public.",
    )
    timeout: Duration = Field(default=20.0, description="To fetch one picture.")
    max_bytes: int = Field(
        default=20 * 1024 * 1024, ge=1, description="Largest picture that is fetched."
    )

    @field_validator("allow")
    @classmethod
    def check_entries(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        for entry in entries:
            network_of(entry)
        return entries
