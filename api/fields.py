"""What may stand in the fields of a request: text, times and places that the tables can take."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from pipeline.cameras import SITE

CLEAN = r"^[^\x00]*$"  # PostgreSQL has no NUL in text
END = r"$(?!\n)"  # `$` alone would let a line feed through before the end
# A name stands in the subject of a mail, in a file's name, in a line of a log: whatever begins another line is none.
ONE_LINE = rf"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*{END}"
Line = Annotated[str, Meta(max_length=200, pattern=ONE_LINE)]
Name = Annotated[str, Meta(min_length=1, max_length=120, pattern=ONE_LINE)]
Words = Annotated[str, Meta(max_length=2000, pattern=CLEAN)]
SiteId = Annotated[str, Meta(max_length=63, pattern=f"^{SITE.pattern}{END}")]
AnySite = Annotated[str, Meta(max_length=63, pattern=f"^({SITE.pattern})?{END}")]  # empty: every site, or not said
AnyCamera = Annotated[str, Meta(max_length=63, pattern=rf"^([a-z0-9][a-z0-9-]{{0,62}})?{END}")]
Micros = Annotated[int, Meta(ge=0, le=2**53 - 1, description="µs since 1970, UTC")]  # exact in JavaScript too
Lat = Annotated[float, Meta(ge=-90, le=90, description="degrees WGS 84")]
Lon = Annotated[float, Meta(ge=-180, le=180, description="degrees WGS 84")]
Metres = Annotated[float, Meta(ge=-1e6, le=1e6)]
Distance = Annotated[float, Meta(ge=0, le=1e6, description="metres")]
