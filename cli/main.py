"""`maskwatch`: puts the groups of commands together, one file a group."""

from __future__ import annotations

import typer

from cli import (
    alerts,
    analyse,
    api,
    cameras,
    dead_letters,
    demo,
    models,
    people,
    replay,
    replays,
    tables,
    topics,
    up,
    worker,
)

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False,
                  help="Mask-compliance analytics on camera streams.")

app.add_typer(cameras.app, name="cameras")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(demo.app, name="demo")
app.add_typer(models.app, name="models")
app.add_typer(topics.app, name="topics")
app.command()(analyse.analyse)
app.command()(replay.replay)
app.command()(up.up)
app.command()(up.down)
app.command()(up.status)
app.command()(up.doctor)
app.command()(api.api)
app.command()(alerts.alerts)
app.command()(replays.replays)
app.command()(worker.worker)
app.command()(tables.materialise)
app.command()(tables.migrate)
app.command()(tables.rebuild)
app.command()(people.retention)
app.command()(people.erase)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
