"""What may be allowed to whom: modules and actions, the roles of the first start, and what a user may see."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, and_, false, or_, true, tuple_
from sqlalchemy.orm import InstrumentedAttribute

# module -> its actions. view: see; add, edit, remove: as they say; export: take out as a file;
# review: decide about (acknowledge, approve, merge); run: start, stop, send. Each gates something: test_rights.py
MODULES: dict[str, tuple[str, ...]] = {
    "cameras": ("view", "add", "edit", "remove", "export", "run"),  # and sites, plans, zones, policies, live, footage
    "compliance": ("view", "edit", "remove", "export", "review", "run"),  # counts, episodes, alerts, replays
    "people": ("view", "add", "edit", "remove", "review", "run"),  # faces, search, routes, enrolment, erasure
    "inspections": ("view", "add", "edit", "remove", "export", "review"),
    "requests": ("view", "add", "remove", "review"),
    "users": ("view", "add", "edit", "remove"),  # and roles, grants, audit
    "chat": ("view", "add", "remove"),
    "system": ("view", "edit", "run"),  # settings, models, stream, dead letters
}
PERMISSIONS = frozenset(f"{module}.{action}" for module, actions in MODULES.items() for action in actions)


def _of(**modules: str) -> frozenset[str]:
    return frozenset(f"{module}.{action}" for module, actions in modules.items() for action in actions.split())


_EVERYBODY = _of(requests="view add remove", chat="view add")
# name -> what it is for, patrol radius in metres, permissions
ROLES: dict[str, tuple[str, float | None, frozenset[str]]] = {
    "admin": ("Everything, everywhere", None, PERMISSIONS),
    "manager": ("Runs a site: cameras, policies, people, who may see what", None, _EVERYBODY | _of(
        cameras="view add edit remove export run", compliance="view edit remove export review run",
        people="view add edit remove review run", inspections="view add edit remove export review",
        requests="review", users="view add edit", chat="remove", system="view")),
    "reviewer": ("Works through episodes and looks people up", 500.0, _EVERYBODY | _of(
        cameras="view", compliance="view edit export review", people="view review run",
        inspections="view add edit export review", system="view")),
    "inspector": ("Walks rounds with the phone", 200.0, _EVERYBODY | _of(
        cameras="view", compliance="view", inspections="view add edit export")),
    "viewer": ("Watches numbers and live pictures", None, _EVERYBODY | _of(cameras="view", compliance="view")),
}


@dataclass(frozen=True)
class Scope:
    """For which sites and cameras something is allowed."""

    everywhere: bool = False
    sites: frozenset[str] = frozenset()
    # (site, camera), besides those of `sites`: what a camera showed at another site is not its grant's
    cameras: frozenset[tuple[str, str]] = frozenset()

    def __bool__(self) -> bool:
        return self.everywhere or bool(self.sites) or bool(self.cameras)

    def covers(self, site: str, camera: str = "") -> bool:
        """Of a thing of a whole site (camera empty) only who has the site; of a camera's, who has either."""
        return self.everywhere or site in self.sites or (bool(camera) and (site, camera) in self.cameras)

    def where(self, site: InstrumentedAttribute[str], camera: InstrumentedAttribute[str] | None = None
              ) -> ColumnElement[bool]:
        """The same as a condition on rows."""
        if self.everywhere:
            return true()
        parts: list[ColumnElement[bool]] = [site.in_(sorted(self.sites))] if self.sites else []
        if camera is not None and self.cameras:
            parts.append(tuple_(site, camera).in_(sorted(self.cameras)))
        return or_(*parts) if parts else false()

    def shows_any(self, site: InstrumentedAttribute[str], cameras: Any) -> ColumnElement[bool]:
        """Rows that are of several cameras, `cameras` an array of them: who has one of them."""
        return self._several(site, cameras.overlap)

    def shows_all(self, site: InstrumentedAttribute[str], cameras: Any) -> ColumnElement[bool]:
        """The same: who has each of them."""
        return self._several(site, cameras.contained_by)

    def _several(self, site: InstrumentedAttribute[str], fits: Callable[[list[str]], ColumnElement[bool]]
                 ) -> ColumnElement[bool]:
        if self.everywhere:
            return true()
        parts: list[ColumnElement[bool]] = [site.in_(sorted(self.sites))] if self.sites else []
        parts += [and_(site == each, fits(cameras)) for each, cameras in self.by_site.items()]
        return or_(*parts) if parts else false()

    @property
    def by_site(self) -> dict[str, list[str]]:
        """Site -> cameras of it, besides those of `sites`."""
        found: dict[str, list[str]] = {}
        for site, camera in sorted(self.cameras):
            found.setdefault(site, []).append(camera)
        return found

    def asking(self, site: InstrumentedAttribute[str], camera: str) -> ColumnElement[bool]:
        """Rows of the sites at which one may see this camera: about another's one may not even ask."""
        if self.everywhere:
            return true()
        return site.in_(sorted(self.sites | {at for at, one in self.cameras if one == camera}))


@dataclass(frozen=True)
class Given:
    """A grant that holds now."""

    role: str
    site: str
    camera: str
    permissions: frozenset[str]


@dataclass(frozen=True)
class Who:
    """The user of a request and what they may do now."""

    id: str
    name: str
    login: str  # id of the session or token
    grants: tuple[Given, ...] = ()
    address: str = ""
    language: str = "zh-CN"
    _scopes: dict[str, Scope] = field(default_factory=dict, repr=False, compare=False)

    def scope(self, permission: str) -> Scope:
        """Where `permission` holds. Raises KeyError for one that does not exist."""
        if permission not in PERMISSIONS:
            raise KeyError(permission)
        if permission not in self._scopes:
            those = [grant for grant in self.grants if permission in grant.permissions]
            self._scopes[permission] = Scope(
                any(not grant.site and not grant.camera for grant in those),
                frozenset(grant.site for grant in those if grant.site and not grant.camera),
                frozenset((grant.site, grant.camera) for grant in those if grant.camera),
            )
        return self._scopes[permission]

    def may(self, permission: str, site: str | None = None, camera: str = "") -> bool:
        """Without a site: anywhere at all."""
        scope = self.scope(permission)
        return bool(scope) if site is None else scope.covers(site, camera)

    @property
    def permissions(self) -> frozenset[str]:
        return frozenset().union(*(grant.permissions for grant in self.grants))


def unknown(names: Iterable[Any]) -> list[str]:
    """Those that are no permissions."""
    return sorted(str(name) for name in names if name not in PERMISSIONS)
