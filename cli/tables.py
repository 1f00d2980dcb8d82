"""`maskwatch materialise`, `rebuild`, `migrate`, `admin`: the tables behind the API."""

from __future__ import annotations

from typing import Annotated

import typer


def migrate() -> None:
    """Bring the tables to what this version wants, make the roles, and the first user when there is none.

    The first user is `admin`; the password is MASKWATCH_ADMIN_PASSWORD, else a random one that is written to
    first-login.txt in the data folder. Again: at once.

    Example: maskwatch migrate
    """
    from sqlalchemy.exc import DatabaseError, OperationalError

    from api import auth, db, migrations
    from pipeline.settings import Settings

    settings = Settings()
    engine = db.connect(settings)
    if (has := migrations.revision(engine)) and has not in migrations.known():
        typer.echo(f"failed: the tables are at {has}, which this version does not know: a newer Maskwatch made them, "
                   "install that one", err=True)
        raise typer.Exit(1)
    try:
        migrations.upgrade(engine)
        lacking = migrations.lacking(engine)
    except OperationalError:
        raise  # it does not answer
    except DatabaseError as error:  # a step finds other tables than the one before has left
        lacking = [str(error.orig).strip().splitlines()[0]]
    if lacking:
        for each in lacking:
            typer.echo(f"  {each}", err=True)
        typer.echo(f"failed: the tables are at {migrations.revision(engine)} and yet not as this version wants them "
                   f"(above). {migrations.MEND}.", err=True)
        raise typer.Exit(1)
    with db.sessions(engine)() as session, session.begin():
        auth.prepare(session)
        told = auth.first_login(session, settings)
    engine.dispose()
    typer.echo(f"tables: as this version wants them{f'; {told}' if told else ''}")


def materialise() -> None:
    """Fold the topics into the tables until told to stop, and remove what is older than its time every hour.

    Part of `maskwatch up`. Several share the work.

    Example: maskwatch materialise
    """
    import signal
    import threading

    import structlog

    from api import db
    from api.folds import Context
    from api.materialiser import Materialiser
    from api.retention import Job
    from cli import log
    from pipeline.settings import Settings

    settings = Settings()
    log.configure(settings, process="materialiser")
    engine = db.connect(settings, pool=4)
    stop = threading.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda *_: stop.set())
    worker = Materialiser(settings, db.sessions(engine), Context(settings))
    Job(settings, db.sessions(engine)).start(stop)  # what is older than its time goes, every hour
    worker.run(stop)
    structlog.get_logger().info("stopped", records=worker.counted.records, refused=worker.counted.refused)


def rebuild(
    table: Annotated[str, typer.Argument(help="Which; without: list them.")] = "",
) -> None:
    """Make what a table holds anew from its topic. Rows older than what the topic still holds stay.

    While it runs everybody sees the table as it was; broken off, nothing is missing. New records of its topic wait
    until it is through, other topics go on.

    Example: maskwatch rebuild cameras
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from api import db, materialiser
    from api.folds import Context
    from api.tables import FOLDS
    from pipeline.settings import Settings

    by_name = {fold.name: fold for fold in FOLDS}
    if not table:
        for fold in FOLDS:
            typer.echo(f"{fold.name:<16} from {fold.topic}")
        return
    if table not in by_name:
        raise typer.BadParameter(f"expected one of {', '.join(by_name)}, got {table}")
    settings, console = Settings(), Console(stderr=True)
    engine = db.connect(settings, pool=2)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(table, total=None)
        try:
            for progress in materialiser.rebuild(settings, db.sessions(engine), Context(settings), by_name[table]):
                bar.update(task, completed=progress.done, total=progress.all)
        except materialiser.OtherTopic as error:
            console.print(f"failed: {error}", markup=False, soft_wrap=True)
            raise typer.Exit(1) from None
    typer.echo(f"{table}: made anew from {by_name[table].topic}, {progress.done} records")
