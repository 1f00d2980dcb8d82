"""The secrets of channels: the variable of the environment that holds one, and the hosts it may go to.

Whoever writes a channel names both a secret and an address, so that the address is not theirs to choose: beside
MASKWATCH_SECRET_X stands MASKWATCH_SECRET_X_HOSTS, and what is not named there gets nothing. What is said of a refusal
is the same whether there is such a secret or not, so that names cannot be guessed by it.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Collection
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

from msgspec import Meta

from api.messengers.note import Refused

# A secret is never in a request or a row: a channel names the variable of the environment that holds it.
VARIABLE = r"^MASKWATCH_SECRET_[A-Z0-9_]{1,64}$(?!\n)"
HOSTS = "_HOSTS"  # after the name of a secret: the variable that says where it may go
SecretName = Annotated[str, Meta(pattern=VARIABLE, max_length=81, description="variable of the environment, "
                                 "MASKWATCH_SECRET_…, that holds it; MASKWATCH_SECRET_…_HOSTS names the hosts it may "
                                 "go to", examples=["MASKWATCH_SECRET_WARD_3"])]


class Use(NamedTuple):
    """What a channel does with secrets."""

    names: tuple[str, ...]
    host: str  # to which they go, or what they sign
    readable: bool  # on the way, to whoever listens
    vendor: frozenset[str] = frozenset()  # hosts of a robot's own vendor, for secrets that are bound to none


def plain(host: str) -> str:
    """As two names of one host are alike."""
    return host.strip().strip("[]").rstrip(".").lower()


def bound(name: str) -> frozenset[str]:
    """The hosts of MASKWATCH_SECRET_X_HOSTS; empty: there are none."""
    return frozenset(found for each in os.environ.get(name + HOSTS, "").split(",") if (found := plain(each)))


def fault(name: str, host: str, vendor: Collection[str] = ()) -> str:
    """What is wrong with sending a secret to a host, as far as may be said when a channel is written; empty: nothing.
    `vendor`: hosts of a robot's own vendor, to which a secret may go that is bound to none."""
    if not re.search(VARIABLE, name) or name.endswith(HOSTS):
        return f"expected the name of a variable MASKWATCH_SECRET_… that holds a secret, got {name[:90]!r}"
    if plain(host) in bound(name) | set(vendor):
        return ""
    own = f"{' or '.join(sorted(vendor))}, or " if vendor else ""
    return f"expected {own}a host that {name}{HOSTS} names in the environment, got {plain(host)!r}"


def secret(name: str, host: str, vendor: Collection[str] = ()) -> str:
    """Its value, for this host. Raises Refused."""
    if why := fault(name, host, vendor):
        raise Refused(why)
    value, hosts = os.environ.get(name, ""), bound(name) or set(vendor)
    if not value or plain(host) not in hosts:
        raise Refused(f"{name} cannot be sent to {plain(host)}: it is not in the environment of `maskwatch alerts`, or "
                      f"{name}{HOSTS} names other hosts there")
    return value


def host_of(url: str) -> str:
    """Empty: none that can be read."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def wrong(use: Use) -> str:
    """What is wrong with a channel as it is written; empty: nothing."""
    for name in use.names:
        if why := fault(name, use.host, use.vendor):
            return why
    if use.names and use.readable and not nearby(use.host):
        return f"expected TLS: {use.names[0]} would go to {plain(use.host)} readable for whoever listens"
    return ""


def nearby(host: str) -> bool:
    """Whether a name is this machine's own, as far as it can be told without looking it up."""
    try:
        return ipaddress.ip_address(plain(host)).is_loopback
    except ValueError:
        return plain(host) == "localhost"
