"""`maskwatch retention`, `erase`: what is too old goes, and who asks for it is erased everywhere."""

from __future__ import annotations

from typing import Annotated

import typer


def retention(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Remove what is older than its time: rows, pictures and vectors, by site and kind.

    The materialiser does it every hour; PUT /v1/retention says how long each kind is kept.

    Example: maskwatch retention --dry-run
    """
    from datetime import UTC, datetime

    from api import db
    from api import retention as job
    from pipeline.settings import Settings

    settings = Settings()
    engine = db.connect(settings, pool=2)
    sessions, gone = db.sessions(engine), "would go" if dry_run else "gone"
    done = job.sweep(settings, sessions, dry=dry_run)
    failed = {} if dry_run else job.tidy(settings, sessions)
    lost = job.orphans(settings, sessions, dry=dry_run)
    engine.dispose()
    for each in done:
        before = datetime.fromtimestamp(each.before / 1e6, UTC)
        typer.echo(f"{each.kind:<13} {each.site or 'every other site':<17} {each.rows:>8,} {gone}, older than "
                   f"{before:%Y-%m-%d %H:%M} UTC")
    if lost:
        typer.echo(f"{'no row names':<13} {'every site':<17} {lost:>8,} pictures {gone}")
    if not done and not lost:
        typer.echo("nothing is older than its time")
    failed |= {f"{each.kind} {each.site}".strip(): each.fault for each in done if each.fault}
    for kind, fault in failed.items():
        typer.echo(f"{kind}: {fault}", err=True)
    if failed:
        raise typer.Exit(1)


def erase(
    reason: Annotated[str, typer.Option(help="Why; kept with the report, so name nobody in it.")],
    person: Annotated[str, typer.Option(help="Id of an enrolled person.")] = "",
    visitor: Annotated[str, typer.Option(help="Id of a visitor: of a route, or of a track that is on none.")] = "",
    track: Annotated[list[str] | None, typer.Option(help="Id of a track; may be given several times.")] = None,
    face: Annotated[list[str] | None, typer.Option(help="Id of a face, as of one in a photo; several times.")] = None,
    topics: Annotated[bool, typer.Option("--topics", help="Also delete the stretches of the topics that hold them, "
                                         "with everybody else in them.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Erase somebody from tables, vectors and pictures, so that no rebuild brings them back; print the report.

    The report says which topics may still hold records about them, and until when.

    Example: maskwatch erase --visitor 'gate@1795466162525597#0' --reason 'request 2026-17' --dry-run
    """
    import json
    from datetime import UTC, datetime

    from api import db, erasure, photo_faces
    from api.sight import Sight
    from api.tables import audit
    from api.tables.people import PersonRow
    from pipeline.settings import Settings

    wish = erasure.Wish(person, visitor, tuple(track or ()), tuple(face or ()))
    if not wish:
        raise typer.BadParameter("expected one of --person, --visitor, --track, --face")
    settings = Settings()
    engine = db.connect(settings, pool=1)
    with db.sessions(engine)() as session, session.begin():
        if person and session.get(PersonRow, person) is None:
            raise typer.BadParameter(f"expected the id of an enrolled person, got {person!r}", param_hint="--person")
        subject = erasure.gather(session, wish)
        typer.echo(f"{len(subject.tracks)} tracks, {len(subject.faces)} faces, {len(subject.episodes)} episodes, "
                   f"sites {', '.join(sorted({site for site, _ in subject.places})) or 'none'}")
        if dry_run:
            return
        photos = photo_faces.find(session, settings, Sight(settings), subject)
        row, subject = erasure.erase(session, settings, wish, "", reason, topics, photos=photos)
        audit.write(session, "", "person.erase", row.id, site=row.site, topics=topics, tracks=len(subject.tracks))
        report = row.report
    engine.dispose()
    for topic in report["topics"]:
        if topic["until"]:
            topic["until"] = datetime.fromtimestamp(topic["until"] / 1e6, UTC).isoformat(timespec="minutes")
    typer.echo(json.dumps(report, indent=1, ensure_ascii=False))
