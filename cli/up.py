"""`maskwatch up`, `down`, `status`, `doctor`: everything on one machine, from one command."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from infra.local.supervisor import Supervisor
    from pipeline.settings import Settings

# -P: our own packages are found where they are installed, never in the folder that happens to be the current one
US = (sys.executable, "-P", "-m", "cli.main")


def up(
    demo: Annotated[bool, typer.Option("--demo", help="Add three rendered cameras, for a first look.")] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Come back when all runs; `maskwatch down` stops it.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes; each runs every stage.")] = 1,
) -> None:
    """Start everything here: broker, database, topics, tables, weights, workers, dashboard. Ctrl-C stops all of it.

    With MASKWATCH_KAFKA, MASKWATCH_DATABASE or MASKWATCH_VECTORS set, that one is used and none is started.

    Example: maskwatch up --demo
    """
    from rich.console import Console
    from rich.markup import escape

    from pipeline.settings import Settings

    settings, console = Settings(), Console(stderr=True, highlight=False)
    if detach:
        _detached(settings, console, demo, workers)
        return
    from kafka.errors import KafkaError

    from agents.topics import Refused as TopicsRefused
    from infra.local.jars import JarError
    from infra.local.kafka import BrokerError
    from infra.local.postgres import PostgresError
    from infra.local.supervisor import Refused, Supervisor, Told

    try:
        with Supervisor(settings.data, lambda text: console.print(text, markup=False, soft_wrap=True)) as all_:
            try:
                _start(all_, settings, console, demo, workers)
                all_.watch()
            except (Told, KeyboardInterrupt):
                console.print("stopping")
    except (Told, KeyboardInterrupt):  # before there was anything to stop
        pass
    except (Refused, BrokerError, PostgresError, JarError, TopicsRefused, KafkaError, OSError) as error:
        console.print(f"[red]failed:[/red] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from None
    console.print("all stopped")


def _start(all_: Supervisor, settings: Settings, console: Console, demo: bool, workers: int) -> None:
    import os

    from agents import broker, topics
    from infra.local import jars, milvus, process
    from infra.local.kafka import Kafka
    from infra.local.postgres import Postgres
    from infra.local.supervisor import Refused

    if fault := process.port_fault(settings.host, settings.port, "the dashboard", "MASKWATCH_PORT chooses another."):
        raise Refused(fault)
    # the children must find the same things wherever `up` was called
    env = os.environ | {"MASKWATCH_DATA": str(settings.data.resolve())}
    if settings.kafka:
        with _step(console, "reaching the broker") as done:
            done.append(broker.about(settings))
    else:
        if jars.faults(jars.folder()):
            with _step(console, "fetching the broker's jars, about 43 MB") as done:
                done.append(str(jars.fetch()))
        with _step(console, "starting the broker") as done:
            all_.start_broker(Kafka(settings.data, settings.kafka_port))
            done.append(f"Apache Kafka {jars.version()} on {settings.bootstrap}")
    with _step(console, "topics") as done:
        plan = topics.apply(settings)
        done.append(f"{len(plan.changes)} changes" if plan.changes else "as topics.yaml says")
        for note in plan.notes:
            console.print(f"  {note}", markup=False)
    if not settings.database.get_secret_value():
        with _step(console, "starting the database") as done:
            all_.start_database(Postgres(settings.data, settings.postgres_port))
            done.append(f"PostgreSQL on 127.0.0.1:{settings.postgres_port}")
    _task(all_, [*US, "migrate"], env, console, "tables")
    if not settings.vectors:
        with _step(console, "starting the vectors") as done:
            fault = process.port_fault("127.0.0.1", settings.vectors_port, "the embedded Milvus Lite",
                                       "MASKWATCH_VECTORS_PORT chooses another.")
            if fault:
                raise Refused(fault)
            all_.start("vectors", milvus.command(settings.data, settings.vectors_port), env)
            milvus.ready(settings.vectors_port)
            done.append(f"Milvus Lite on 127.0.0.1:{settings.vectors_port}")
    _task(all_, [*US, "models", "fetch"], env, console, "weights")
    if demo:
        _task(all_, [*US, "demo", "render"], env, console, "demo clips")
        with _step(console, "demo cameras") as done:
            done.append(", ".join(_demo_cameras(settings)))
    for number in range(1, workers + 1):
        all_.start(f"worker-{number}", [*US, "worker"], env)
    all_.start("materialiser", [*US, "materialise"], env)
    all_.start("alerts", [*US, "alerts"], env)
    all_.start("replays", [*US, "replays"], env)
    with _step(console, "starting the dashboard") as done:
        page = all_.start("api", [*US, "api"], env)
        _answering(settings, page)
        done.append(f"http://{settings.host}:{settings.port}")
    from rich.markup import escape

    several = f"{workers} workers" if workers > 1 else "1 worker"
    told = f"http://{settings.host}:{settings.port} · {several} · {_first_login(settings)}logs in " \
           f"{settings.data / 'logs'} · Ctrl-C stops all"
    console.print(f"[bold]ready:[/bold] {escape(told)}")
    all_.write(state="ready", url=f"http://{settings.host}:{settings.port}")


def _first_login(settings: Settings) -> str:
    """How to log in, as long as nobody has changed the first password."""
    from api.auth import FIRST_LOGIN

    file = settings.data / FIRST_LOGIN
    return f"log in as {' / '.join(file.read_text().split())} · " if file.exists() else ""


@contextmanager
def _step(console: Console, what: str) -> Iterator[list[str]]:
    """A line per step: what it is while it runs, then what came of it and how long it took."""
    from rich.markup import escape

    begun, done = time.monotonic(), list[str]()
    with console.status(what):
        yield done
    console.print(f"[green]✓[/green] {what}: {escape(' '.join(done))} ({time.monotonic() - begun:.1f} s)",
                  soft_wrap=True)


def _task(all_: Supervisor, command: list[str], env: dict[str, str], console: Console, what: str) -> None:
    """A step that is a command of ours, in a process of its own, with its own progress on the terminal."""
    import subprocess

    from infra.local import process
    from infra.local.supervisor import Refused

    begun = time.monotonic()
    with process.spawn(command, None, env=env) as running:
        try:
            while running.poll() is None:
                if all_.broker and all_.broker.process and all_.broker.process.poll() is not None:
                    raise Refused(f"the embedded broker ended: {all_.broker.complaint()}")
                try:
                    running.wait(0.5)
                except subprocess.TimeoutExpired:
                    continue
        except BaseException:
            process.stop(running, 5)
            raise
    if running.returncode:
        raise Refused(f"`maskwatch {' '.join(command[len(US) :])}` ended with code {running.returncode}")
    console.print(f"[green]✓[/green] {what} ({time.monotonic() - begun:.1f} s)")


def _demo_cameras(settings: Settings) -> list[str]:
    """The demo's site with its plan, and its cameras; what people changed on the dashboard stays."""
    from msgspec.structs import replace

    from agents import cameras as topic
    from api import db, demo
    from infra.demo import plan

    engine = db.connect(settings, pool=1)
    with db.sessions(engine)() as session, session.begin():
        demo.furnish(session)
    engine.dispose()
    cameras = plan.cameras(settings.data.resolve() / "demo")
    there = topic.wishes(settings)
    wanted = []
    for camera in cameras:
        held = there.get(camera.camera)
        if held is not None and held.changed:  # the clips' folder may be another one now, the rest stays
            camera = replace(held, sources=camera.sources, prefer=None) if held.sources != camera.sources else held
        if camera != held:
            wanted.append(camera)
    topic.want(settings, wanted)
    return [camera.camera for camera in cameras]


def _answering(settings: Settings, page: object, timeout: float = 30.0) -> None:
    import urllib.request

    from infra.local.supervisor import Child, Refused

    assert isinstance(page, Child)  # noqa: S101 -- for the type checker
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104
    until = time.monotonic() + timeout
    while True:
        try:
            with urllib.request.urlopen(f"http://{host}:{settings.port}/health", timeout=2):
                return
        except OSError as error:
            if page.process is None or page.process.poll() is not None or time.monotonic() > until:
                said = " / ".join(page.tail) or str(error)
                raise Refused(f"the dashboard does not answer on {host}:{settings.port}: {said}") from None
        time.sleep(0.1)


def _detached(settings: Settings, console: Console, demo: bool, workers: int) -> None:
    import signal

    from infra.local import process

    log = settings.data / "logs" / "up.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    pid_file = settings.data / "up.json"
    if found := process.recall(pid_file):
        console.print(
            f"[red]failed:[/red] `maskwatch up` already runs on {settings.data.resolve()} "
            f"(pid {found[0].pid}); `maskwatch down` stops it",
            soft_wrap=True,
        )
        raise typer.Exit(1)
    command = [*US, "up", "--workers", str(workers), *(["--demo"] if demo else [])]
    # who is told to stop while it waits takes back what it has begun
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with log.open("wb") as output:
        running = process.spawn(command, output, detach=True)
    shown = 0
    try:
        while True:
            text = log.read_bytes()[shown:]
            shown += len(text)
            sys.stderr.write(text.decode(errors="replace"))
            sys.stderr.flush()
            if running.poll() is not None:
                raise typer.Exit(running.returncode or 1)
            # what one that was killed has left there says nothing of this one
            found = process.recall(pid_file)
            if found and found[0].pid == running.pid and found[1].get("state") == "ready":
                break
            time.sleep(0.3)
    except KeyboardInterrupt:
        process.stop(running, 40)
        raise typer.Exit(130) from None
    console.print(f"runs on as pid {running.pid}; `maskwatch status` looks at it, `maskwatch down` stops it")


def down() -> None:
    """Stop what `maskwatch up` started on this data folder, also when it runs detached or was killed.

    Example: maskwatch down
    """
    from infra.local.supervisor import stop_running
    from pipeline.settings import Settings

    settings = Settings()
    begun = time.monotonic()
    pid, left = stop_running(settings.data.resolve())
    if pid is None and not left:
        typer.echo(f"nothing runs on {settings.data.resolve()}")
        return
    what = f"pid {pid} and all it had started" if pid else f"what was left: {', '.join(left)}"
    typer.echo(f"stopped {what} ({time.monotonic() - begun:.1f} s)")


def status(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show broker, topics, waiting records, cameras, savings and dead letters as they are now.

    Ends with 1 when the broker cannot be reached.

    Example: maskwatch status --json | jq .cameras
    """
    from rich.console import Console

    from infra.local import process
    from pipeline.settings import Settings

    settings, console = Settings(), Console(highlight=False)
    here = process.recall(settings.data / "up.json")
    entry = here[1] if here else {}
    processes = {name: pid for name, (pid, _) in entry.get("children", {}).items()}
    report: dict[str, object] = {
        "up": {"pid": here[0].pid, "state": entry.get("state"), "processes": processes} if here else None
    }
    try:
        from api.watch import look

        report |= look(settings)
    except Exception as error:
        # kafka-python, ssl and the network each have their own; to the person asking they are one answer
        report["broker"] = None
        report["error"] = f"no broker at {settings.bootstrap}: {type(error).__name__}: {error}"
    if as_json:
        import json

        typer.echo(json.dumps(report, indent=1, ensure_ascii=False))
    else:
        _print_status(report, console)
    if report.get("error"):
        raise typer.Exit(1)


def _print_status(report: dict[str, object], console: Console) -> None:
    from typing import Any, cast

    from rich.markup import escape
    from rich.table import Table

    def table(*columns: str) -> Table:
        return Table(*columns, box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")

    here = cast("dict[str, Any] | None", report["up"])
    if here:
        names = ", ".join(f"{name} {pid}" for name, pid in here["processes"].items())
        console.print(f"up: pid {here['pid']}, {here['state']}: {names}", soft_wrap=True, markup=False)
    else:
        console.print("up: not running on this data folder")
    if report.get("error"):
        console.print(f"broker: {report['error']}", soft_wrap=True, markup=False)
        return
    found = cast("dict[str, Any]", report)
    console.print(f"broker: {found['broker']}\n", soft_wrap=True, markup=False)
    topics = table("topic", "partitions", "records")
    for each in found["topics"]:
        topics.add_row(each["topic"], str(each["partitions"]), f"{each['records']:,}")
    stages = table("stage", "workers", "waiting")
    for each in found["stages"]:
        stages.add_row(each["stage"], str(each["members"]), f"{each['waiting']:,}")
    cameras = table("camera", "state", "fps in", "analysed", "dropped", "age", "error")
    for each in found["cameras"]:
        cameras.add_row(
            each["camera"],
            each["state"],
            f"{each['fps_in']:.1f}",
            f"{each['fps_analysed']:.1f}",
            str(each["dropped"]),
            f"{each['age']:.0f} s",
            escape(each["error"]),
        )
    console.print(topics)
    console.print()
    console.print(stages if found["stages"] else "stages: no worker has ever run here")
    console.print()
    console.print(cameras if found["cameras"] else "cameras: none")
    ledger = found["ledger"]
    if ledger["seen"]:
        console.print(
            f"\nsavings: {ledger['seen']:,} frames seen, {ledger['saved']:.0%} not analysed again; "
            f"of {ledger['audited']} checked all the same, {ledger['missed']} had a face that was not known"
        )
    console.print(f"dead letters: {found['dead_letters']}")


MARKS = {"ok": "[green]✓[/green]", "warning": "[yellow]![/yellow]", "missing": "[red]✗[/red]"}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Look at everything Maskwatch needs here and say what mends what is missing; ends with 1 if something is.

    Example: maskwatch doctor
    """
    import msgspec
    from rich.console import Console

    from infra.local.doctor import examine
    from pipeline.settings import Settings

    console, checks = Console(highlight=False), []
    for check in examine(Settings()):
        checks.append(check)
        if not as_json:
            console.print(f"{MARKS[check.state]} {check.name}: ", end="")
            console.print(check.found, markup=False, soft_wrap=True)
            if check.mend:
                console.print(f"    → {check.mend}", markup=False, soft_wrap=True)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(checks), indent=1).decode())
    if any(check.state == "missing" for check in checks):
        raise typer.Exit(1)
