"""One noun a file, each with a `router`; `ROUTERS` is all of them."""

from litestar import Router

from api.routes import live, session, stream

ROUTERS: list[Router] = [session.router, live.router, stream.router]
