"""How often somebody may guess a password: waits that grow with each failure, and whom they concern.

As NIST SP 800-63B has it (5.2.2): after some failures each further attempt has to wait, twice as long every time up to
a bound, and what others try holds nobody up at an address from which they have logged in before. So there are waits of
a name at an address, which are long; of an address, whatever names it tries; and of a name, wherever it is tried from,
which are short, since anybody may cause them. A known address is asked for none but the first, and that is short then.

An attempt is counted once it has failed, with the rows of its waits held: of many at once each sees those that ended
before it, and what comes too early is told so, whether it was right or wrong.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from api.problems import Problem
from api.tables.users import KnownAddress, Throttle

FORGET = timedelta(hours=1)  # without a failure, after which there were none
KNOWN = timedelta(days=90)  # for which an address from which somebody has logged in is theirs


@dataclass(frozen=True)
class Limit:
    """What comes of failures."""

    free: int  # failures that cost nothing
    first: float  # seconds that the attempt after those waits
    longest: float  # seconds; doubled at each failure up to this
    theirs: bool = False  # only who may be right can have caused them: a right attempt wipes them out

    def wait(self, failures: int) -> float:
        return 0.0 if failures < self.free else min(self.longest, self.first * 2.0 ** min(failures - self.free, 30))


HERE = Limit(5, 15, 900, theirs=True)  # of a name at an address
AT_HOME = Limit(5, 2, 60, theirs=True)  # of a name at an address from which it has logged in before
ADDRESS = Limit(30, 15, 900)  # of an address, over all names
NAME = Limit(20, 2, 60)  # of a name, over all addresses that are not known
OWN = Limit(5, 15, 900, theirs=True)  # of the present password, by somebody who is logged in
CODES = Limit(30, 2, 60)  # of codes of WeChat from an address: each is asked there


def of_login(session: Session, name: str, user: str | None, address: str) -> dict[str, Limit]:
    """Which waits an attempt to log in with a name is subject to. `user`: whose name it is; None: nobody's."""
    at, name = network(address), name.lower()[:64]
    known = user is not None and session.scalar(select(func.count()).select_from(KnownAddress).where(
        KnownAddress.user == user, KnownAddress.address == at, KnownAddress.at > func.now() - KNOWN))
    if known:
        return {f"here:{at} {name}": AT_HOME}
    return {f"here:{at} {name}": HERE, f"address:{at}": ADDRESS, f"name:{name}": NAME}


def allow(session: Session, limits: Mapping[str, Limit]) -> None:
    """Raises Problem 429 when an attempt comes too early. Asked before something that costs; `note` decides."""
    _check(session, limits, hold=False)


def note(session: Session, limits: Mapping[str, Limit], right: bool) -> None:
    """What came of an attempt; commits one that failed. Raises Problem 429, also for one that was right."""
    session.execute(insert(Throttle).values([{"key": key, "failures": 0, "at": func.clock_timestamp()}
                                             for key in sorted(limits)]).on_conflict_do_nothing())
    forgotten = _check(session, limits, hold=True)
    for key in sorted(limits):
        if right:
            where = [] if limits[key].theirs else [Throttle.failures == 0]
            session.execute(delete(Throttle).where(Throttle.key == key, *where))
        else:
            failures = 1 if key in forgotten else Throttle.failures + 1
            session.execute(update(Throttle).where(Throttle.key == key).values(failures=failures,
                                                                               at=func.clock_timestamp()))
    if not right:
        session.commit()  # it counts although the request fails


def _check(session: Session, limits: Mapping[str, Limit], hold: bool) -> set[str]:
    """-> keys whose failures are forgotten. Raises Problem 429 when one of them has to wait."""
    query = select(Throttle.key, Throttle.failures, Throttle.at, func.clock_timestamp()).where(
        Throttle.key.in_(limits)).order_by(Throttle.key)
    waits, forgotten = [0.0], set[str]()
    for key, failures, at, now in session.execute(query.with_for_update() if hold else query).all():
        if now - at > FORGET:
            forgotten.add(key)
        else:
            waits.append(_left(at, now, limits[key].wait(failures)))
    if (longest := max(waits)) > 0:
        seconds = str(max(1, round(longest + 0.5)))
        raise Problem(429, "too many failures", f"try again in {seconds} s", headers={"Retry-After": seconds})
    return forgotten


def _left(at: datetime, now: datetime, wait: float) -> float:
    return wait - (now - at).total_seconds()


def known(session: Session, user: str, address: str) -> None:
    """Somebody has logged in from there."""
    session.execute(insert(KnownAddress).values(user=user, address=network(address), at=func.now())
                    .on_conflict_do_update(index_elements=["user", "address"], set_={"at": func.now()}))


def network(address: str) -> str:
    """Of IPv6 the half that an operator gives out as a whole."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if found.version == 6:
        found = found.ipv4_mapped or found
    return str(found) if found.version == 4 else str(ipaddress.ip_network((int(found), 64), strict=False))
