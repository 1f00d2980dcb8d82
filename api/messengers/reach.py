"""Connections to addresses that people have typed: only where they may lead, checked once and connected to that."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from api.messengers.note import Later, Refused

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# What of the public space leads to no single public host, by IANA's registries of special-purpose addresses (RFC 6890),
# besides what `is_global` of this Python knows; of IPv6 all that is public lies in 2000::/3 (RFC 4291, 2.4), so that
# site-local addresses and those that carry an IPv4 address (mapped, compatible, NAT64) do not.
PUBLIC = ipaddress.ip_network("2000::/3")
SPECIAL = [ipaddress.ip_network(each) for each in (
    "0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "240.0.0.0/4",
    "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
)]  # fmt: skip
CONNECT = 5.0  # seconds
WHOLE = 15.0  # seconds for everything: an answer that trickles in does not hold a sender
ANSWER = 64 << 10  # bytes of an answer that are read


@dataclass(frozen=True)
class Reach:
    """Where messages may go. Public addresses always; others only when a setting names their network."""

    allowed: tuple[Network, ...] = ()

    @classmethod
    def of(cls, networks: str) -> Reach:
        """`10.0.0.0/8, 127.0.0.1/32`. Raises ValueError."""
        return cls(tuple(ipaddress.ip_network(each.strip()) for each in networks.split(",") if each.strip()))

    def may(self, address: Address) -> bool:
        plain = getattr(address, "ipv4_mapped", None) or address
        if any(plain.version == network.version and plain in network for network in self.allowed):
            return True
        if plain.version == 6 and plain not in PUBLIC:
            return False
        special = any(plain.version == network.version and plain in network for network in SPECIAL)
        return plain.is_global and not plain.is_multicast and not special

    def find(self, host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
        """The address to connect to. Raises Later when there is none, Refused when it may not be used."""
        try:
            found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise Later(f"{host}: {error}") from None
        refused = []
        for family, _, _, _, place in found:
            if self.may(ipaddress.ip_address(str(place[0]).split("%")[0])):
                return family, (str(place[0]), port)
            refused.append(str(place[0]))
        raise Refused(f"{host} is {', '.join(dict.fromkeys(refused))}, which is no public address: "
                      "MASKWATCH_ALERT_NETWORKS names the networks that may be used besides")

    def connect(self, host: str, port: int, timeout: float = CONNECT) -> socket.socket:
        """To the very address that was checked: a name that answers differently the second time gains nothing."""
        family, place = self.find(host, port)
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            made.settimeout(timeout)
            made.connect(place)
        except OSError as error:
            made.close()
            raise Later(f"{host}:{port}: {error}") from None
        return made


@contextlib.contextmanager
def deadline(made: socket.socket) -> Iterator[None]:
    """Whatever is read or written meanwhile ends by then, also when TLS has been put around it."""
    own = made.dup()

    def end() -> None:
        with contextlib.suppress(OSError):
            own.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(WHOLE, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        own.close()


def wrap(made: socket.socket, host: str, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
    """TLS with the name that was typed, which the certificate has to carry."""
    try:
        return (context or ssl.create_default_context()).wrap_socket(made, server_hostname=host.strip("[]"))
    except (ssl.SSLError, OSError, ValueError) as error:
        made.close()
        raise Later(f"{host}: TLS: {error}") from None


def keep(made: socket.socket, host: str) -> None:
    """Raises Refused unless nobody on the way can read what is sent: there is TLS, or no way."""
    if not isinstance(made, ssl.SSLSocket) and not ipaddress.ip_address(made.getpeername()[0]).is_loopback:
        made.close()
        raise Refused(f"{host}: expected TLS: a secret would be readable for whoever listens")


def post(url: str, body: bytes, headers: dict[str, str], reach: Reach, private: bool = False
         ) -> tuple[int, bytes, dict[str, str]]:
    """-> status, the beginning of the answer, its headers (names in lower case). Redirects are not followed. `private`:
    there is a secret in the address.

    Raises Later when there is no answer, Refused when the address may not be used."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise Refused(f"expected an address https://host/path: {error}") from None
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        raise Refused("expected an address https://host/path without a user in it")
    made = reach.connect(host, port)
    with contextlib.ExitStack() as stack:
        stack.callback(made.close)
        stack.enter_context(deadline(made))
        if parts.scheme == "https":
            made = wrap(made, host)
            stack.callback(made.close)
        if private:
            keep(made, host)
        link = http.client.HTTPConnection(host, port, timeout=WHOLE)
        link.sock = made
        path = parts.path or "/"
        try:
            made.settimeout(WHOLE)
            link.putrequest("POST", f"{path}?{parts.query}" if parts.query else path, skip_host=True,
                            skip_accept_encoding=True)
            ours = {"Host": parts.netloc, "User-Agent": "maskwatch", "Content-Length": str(len(body)),
                    "Connection": "close"}
            for name, value in {**ours, **headers}.items():
                link.putheader(name, value)
            link.endheaders(body)
            with link.getresponse() as answer:
                said = answer.read(ANSWER)
                return answer.status, said, {name.lower(): value for name, value in answer.getheaders()}
        except (OSError, http.client.HTTPException, ValueError, UnicodeError) as error:
            raise Later(f"{host}: {type(error).__name__}: {error}") from None
