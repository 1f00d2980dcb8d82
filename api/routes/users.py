"""Users, roles and grants: who there is, what roles allow, who was given what, where and until when."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from litestar import Router, delete, get, patch, post, put
from litestar.params import FromPath, JSONBody, PathParameter, QueryParameter
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import delete as sql_delete
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from api import fields, live
from api.auth import ANYBODY, hashed, needs
from api.db import now
from api.dependencies import By, Db
from api.pages import Cursor, Limit, Page, take
from api.permissions import MODULES, PERMISSIONS, Who, unknown
from api.problems import Problem, missing
from api.tables import audit
from api.tables.cameras import CameraRow
from api.tables.users import Grant, Login, Role, RolePermission, User

Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=(
    rf"^[^\s\x00-\x1f\x7f-\x9f](?:[^\x00-\x1f\x7f-\x9f\u2028\u2029]*[^\s\x00-\x1f\x7f-\x9f])?{fields.END}"))]
Line = Annotated[str, Meta(max_length=120, pattern=fields.ONE_LINE)]
Email = Annotated[str, Meta(max_length=254, pattern=rf"^([^@\s\x00-\x1f]+@[^@\s\x00-\x1f]+)?{fields.END}")]
Language = Annotated[str, Meta(pattern=r"^(zh-CN|en)$")]


class GrantView(msgspec.Struct):
    """A role somebody has."""

    id: str
    user: str
    role: str
    site: str  # empty: every site
    camera: str  # empty: every camera of the site
    until: datetime | None  # ends by itself
    by: str
    request: str
    created: datetime
    holds: bool  # now


class UserView(msgspec.Struct):
    """A user, without anything secret."""

    id: str
    name: str
    full_name: str
    email: str
    language: str
    active: bool
    created: datetime
    seen: datetime | None
    has_password: bool
    grants: list[GrantView]


class NewUser(msgspec.Struct):
    """A user to be made. Without a password they log in by single sign-on. Who makes one with a password knows it until
    the user has changed it."""

    name: Name
    full_name: Line = ""
    email: Email = ""
    language: Language = "zh-CN"
    password: Annotated[str, Meta(max_length=1000)] | None = None


class UserChange(msgspec.Struct):
    """What is left out stays."""

    full_name: Line | UnsetType = UNSET
    email: Email | UnsetType = UNSET
    language: Language | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    password: Annotated[str, Meta(max_length=1000)] | UnsetType = UNSET


class RoleView(msgspec.Struct):
    """A named set of permissions."""

    name: str
    about: str
    built_in: bool
    patrol_radius: float | None  # metres
    permissions: list[str]


class RoleWish(msgspec.Struct):
    """What a role should be."""

    permissions: Annotated[list[Annotated[str, Meta(max_length=40)]], Meta(max_length=200)]
    about: Annotated[str, Meta(max_length=400, pattern=r"^[^\x00]*$")] = ""
    patrol_radius: Annotated[float, Meta(gt=0, le=100_000)] | None = None


class NewGrant(msgspec.Struct):
    """A role for a user."""

    role: Annotated[str, Meta(max_length=40, pattern=r"^[^\x00]*$")]
    site: fields.AnySite = ""
    camera: fields.AnyCamera = ""
    until: datetime | None = None


class Module(msgspec.Struct):
    """What can be allowed."""

    name: str
    actions: list[str]


def view(db: Session, who: Who, users: list[User]) -> list[UserView]:
    """With the grants of the sites where one views users, and those of every site: the others would tell of sites."""
    grants: dict[str, list[GrantView]] = {}
    for grant in db.scalars(select(Grant).where(Grant.user.in_([u.id for u in users])).order_by(Grant.created)):
        if visible(who, grant):
            grants.setdefault(grant.user, []).append(grant_view(grant))
    return [UserView(u.id, u.name, u.full_name, u.email, u.language, u.active, u.created, u.seen, bool(u.password),
                     grants.get(u.id, [])) for u in users]


def visible(who: Who, grant: Grant) -> bool:
    return not (grant.site or grant.camera) or grant.user == who.id or who.may("users.view", grant.site, grant.camera)


def grant_view(grant: Grant) -> GrantView:
    holds = grant.until is None or grant.until > now()
    return GrantView(grant.id, grant.user, grant.role, grant.site, grant.camera, grant.until, grant.by, grant.request,
                     grant.created, holds)


def user_of(db: Session, id: str) -> User:
    found = db.get(User, id)
    if found is None:
        raise missing("user", id)
    return found


def may_give(who: Who, permissions: set[str] | frozenset[str], site: str, camera: str) -> None:
    """Nobody gives what they do not have there: else the right to add users would be the right to everything."""
    lacking = sorted(p for p in permissions if not who.may(p, site, camera) and not who.scope(p).everywhere)
    if lacking:
        where = camera or site or "everywhere"
        raise Problem(403, "more than one has", f"expected permissions you hold yourself there ({where}); "
                                                f"you lack {', '.join(lacking)}")


@get("/users", opt=needs("users.view"), sync_to_thread=True, summary="Users, by name")
def users(db: Db, who: By, q: Annotated[str, QueryParameter(max_length=64)] = "", cursor: Cursor = None,
          limit: Limit = 100) -> Page[UserView]:
    """`q`: part of the name or of the full name."""
    query = select(User)
    if q:
        like = f"%{q.replace('%', '').replace('_', '')}%"
        query = query.where(or_(User.name.ilike(like), User.full_name.ilike(like)))
    page = take(db, query, [User.name, User.id], lambda user: user, cursor, limit, descending=False)
    return Page(view(db, who, page.items), page.next)


@post("/users", opt=needs("users.add"), sync_to_thread=True, summary="Make a user")
def make(db: Db, who: By, data: JSONBody[NewUser]) -> UserView:
    if db.scalar(select(func.count()).select_from(User).where(func.lower(User.name) == data.name.lower())):
        raise Problem(409, "name taken", f"expected a name nobody has, got {data.name!r}")
    user = User(name=data.name, full_name=data.full_name, email=data.email, language=data.language,
                password=hashed(data.password) if data.password is not None else "")
    db.add(user)
    db.flush()
    audit.write(db, who.id, "user.add", user.id, address=who.address, name=data.name)
    db.refresh(user)
    return view(db, who, [user])[0]


@get("/users/{id:str}", opt=needs("users.view"), sync_to_thread=True, summary="One user")
def one(db: Db, who: By, id: FromPath[str]) -> UserView:
    return view(db, who, [user_of(db, id)])[0]


# Users are of the whole house, also those who have no rights yet: whoever could set the password of one of them would
# have what others give them later.
@patch("/users/{id:str}", opt=needs("users.edit", everywhere=True), sync_to_thread=True,
       summary="Change a user; deactivate")
def change(db: Db, who: By, id: FromPath[str], data: JSONBody[UserChange]) -> UserView:
    """A new password, or `active: false`, ends every session and token of the user."""
    user = user_of(db, id)
    may_give(who, _held(db, user.id), "", "")
    changed = {name: value for name, value in msgspec.structs.asdict(data).items() if value is not UNSET}
    if changed.get("active") is False and user.id == who.id:
        raise Problem(409, "own account", "expected another user: nobody locks themselves out")
    secret = changed.pop("password", None)
    if secret is not None:
        user.password = hashed(secret)
    for name, value in changed.items():
        setattr(user, name, value)
    if secret is not None or changed.get("active") is False:
        db.execute(sql_delete(Login).where(Login.user == user.id, Login.id != who.login))
        live.tell(db, live.Event("grants.changed", {}, users=(user.id,)))  # what is open ends at once
    db.flush()
    audit.write(db, who.id, "user.edit", user.id, address=who.address,
                **changed, **({"password": "changed"} if secret is not None else {}))
    return view(db, who, [user])[0]


@delete("/users/{id:str}", opt=needs("users.remove", everywhere=True), sync_to_thread=True, summary="Remove a user")
def remove(db: Db, who: By, id: FromPath[str]) -> None:
    """What they did stays in the audit log under their id."""
    user = user_of(db, id)
    may_give(who, _held(db, user.id), "", "")
    if user.id == who.id:
        raise Problem(409, "own account", "expected another user: nobody removes themselves")
    audit.write(db, who.id, "user.remove", user.id, address=who.address, name=user.name)
    db.delete(user)
    live.tell(db, live.Event("grants.changed", {}, users=(user.id,)))


def _held(db: Session, user: str) -> frozenset[str]:
    """Every permission a user holds anywhere."""
    return frozenset(db.scalars(select(RolePermission.permission).join(Grant, Grant.role == RolePermission.role).where(
        Grant.user == user, or_(Grant.until.is_(None), Grant.until > now()))))


@post("/users/{id:str}/grants", opt=needs("users.edit"), sync_to_thread=True, summary="Give a user a role")
def give(db: Db, who: By, id: FromPath[str], data: JSONBody[NewGrant]) -> GrantView:
    """The same role at the same place again changes its end."""
    user = user_of(db, id)
    allowed = role_permissions(db, data.role)
    if data.camera:
        row = db.get(CameraRow, data.camera)
        # a camera of another site would open that one to whoever may give rights here
        if row is None or (data.site and row.site != data.site) or not who.may("cameras.view", row.site, row.id):
            raise Problem(422, "no such camera", f"expected a camera {f'of {data.site}' if data.site else 'there is'} "
                          f"that you may see, got {data.camera!r}")
        data = msgspec.structs.replace(data, site=row.site)
    may_give(who, allowed, data.site, data.camera)
    if data.until is not None and (data.until.tzinfo is None or data.until <= now()):
        raise Problem(422, "no time to come", f"expected `until` with a time zone and in the future, got {data.until}")
    grant = db.scalar(select(Grant).where(Grant.user == id, Grant.role == data.role, Grant.site == data.site,
                                          Grant.camera == data.camera))
    if grant is None:
        grant = Grant(user=user.id, role=data.role, site=data.site, camera=data.camera, created=now())
        db.add(grant)
    grant.until, grant.by = data.until, who.id
    db.flush()
    audit.write(db, who.id, "grant.give", user.id, site=data.site, camera=data.camera, address=who.address,
                role=data.role, until=data.until.isoformat() if data.until else None)
    live.tell(db, live.Event("grants.changed", {}, users=(user.id,)))
    return grant_view(grant)


@delete("/users/{id:str}/grants/{grant:str}", opt=needs("users.edit"), sync_to_thread=True,
        summary="Take a role away")
def take_away(db: Db, who: By, id: FromPath[str], grant: FromPath[str]) -> None:
    found = db.scalar(select(Grant).where(Grant.id == grant, Grant.user == id))
    if found is None or not visible(who, found):
        raise missing("grant", grant)
    may_give(who, role_permissions(db, found.role), found.site, found.camera)
    if found.user == who.id and found.role == "admin":
        raise Problem(409, "own account", "expected another user: nobody takes away their own admin role")
    db.delete(found)
    audit.write(db, who.id, "grant.take", id, site=found.site, camera=found.camera, address=who.address,
                role=found.role)
    live.tell(db, live.Event("grants.changed", {}, users=(id,)))


# -- roles ----------------------------------------------------------------------------------------------------------


def role_permissions(db: Session, name: str) -> frozenset[str]:
    """Raises Problem 422 for a role there is not."""
    if db.get(Role, name) is None:
        raise Problem(422, "no such role", f"expected one of {', '.join(db.scalars(select(Role.name)))}, got {name!r}")
    return frozenset(db.scalars(select(RolePermission.permission).where(RolePermission.role == name)))


def _roles(db: Session) -> list[RoleView]:
    held: dict[str, list[str]] = {}
    for role, permission in db.execute(select(RolePermission.role, RolePermission.permission)):
        held.setdefault(role, []).append(permission)
    return [RoleView(r.name, r.about, r.built_in, r.patrol_radius, sorted(held.get(r.name, [])))
            for r in db.scalars(select(Role).order_by(Role.name))]


@get("/roles", opt=needs(ANYBODY), sync_to_thread=True, summary="Roles and what they allow")
def roles(db: Db) -> list[RoleView]:
    return _roles(db)


@get("/permissions", opt=needs(ANYBODY), summary="Everything that can be allowed")
async def permissions() -> list[Module]:
    return [Module(name, list(actions)) for name, actions in MODULES.items()]


@put("/roles/{name:str}", opt=needs("users.edit", everywhere=True), sync_to_thread=True,
     summary="Make or change a role")
def set_role(db: Db, who: By, name: Annotated[str, PathParameter(pattern=r"^[a-z][a-z0-9-]{0,39}$")],
             data: JSONBody[RoleWish]) -> RoleView:
    if wrong := unknown(data.permissions):
        raise Problem(422, "no such permission", f"expected permissions of GET /v1/permissions, got {wrong[0]!r}")
    role = db.get(Role, name)
    before = role_permissions(db, name) if role else frozenset()
    if name == "admin" and set(data.permissions) != PERMISSIONS:
        raise Problem(409, "admin", "expected another role: admin may do everything, or nobody could mend the rest")
    # of everywhere: a role may be given anywhere
    may_give(who, before | set(data.permissions), "", "")
    if role is None:
        role = Role(name=name)
        db.add(role)
    role.about, role.patrol_radius = data.about, data.patrol_radius
    db.flush()
    db.execute(sql_delete(RolePermission).where(RolePermission.role == name))
    db.add_all(RolePermission(role=name, permission=p) for p in sorted(set(data.permissions)))
    db.flush()
    audit.write(db, who.id, "role.edit", name, address=who.address, added=sorted(set(data.permissions) - before),
                taken=sorted(before - set(data.permissions)))
    live.tell(db, live.Event("grants.changed", {}))
    return next(r for r in _roles(db) if r.name == name)


@delete("/roles/{name:str}", opt=needs("users.remove", everywhere=True), sync_to_thread=True,
        summary="Remove a role nobody has")
def remove_role(db: Db, who: By, name: FromPath[str]) -> None:
    role = db.get(Role, name)
    if role is None:
        raise missing("role", name)
    held = db.scalar(select(func.count()).select_from(Grant).where(Grant.role == name))
    if role.built_in or held:
        raise Problem(409, "role in use", f"expected a role that is not built in and that nobody has, {name} is "
                                          f"{'built in' if role.built_in else f'held {held} times'}")
    may_give(who, role_permissions(db, name), "", "")
    db.delete(role)
    audit.write(db, who.id, "role.remove", name, address=who.address)


router = Router("/v1", route_handlers=[users, make, one, change, remove, give, take_away, roles, permissions, set_role,
                                       remove_role], tags=["users"])
