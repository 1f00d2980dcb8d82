"""Messages -> figures for people: who was seen, in which state, for how long, and what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from pipeline.flow import Record
from pipeline.messages import DeadLetter, Episode, Faces, Ledger, Trajectory


class Summary:
    """Counts records as they come; `report()` at any time."""

    def __init__(self) -> None:
        self.ledgers: dict[str, Ledger] = {}
        self.routes: dict[str, Trajectory] = {}
        self.episodes: dict[str, Episode] = {}
        self.tracks: dict[str, str] = {}  # track -> its newest state
        self.looks: Counter[str] = Counter()
        self.models: dict[str, str] = {}
        self.refused: list[str] = []
        self.first = self.last = 0  # µs

    def add(self, records: Iterable[Record]) -> None:
        for record in records:
            message = record.message
            if isinstance(message, Faces) and record.topic.endswith("faces"):
                self.first = min(self.first or message.at, message.at)
                self.last = max(self.last, message.at)
                self.models |= message.models
                if message.ledger:
                    self.ledgers[message.camera] = message.ledger
                for face in message.faces:
                    self.looks[face.look] += 1
                    if face.track:
                        self.tracks[face.track] = face.state
            elif isinstance(message, Faces):
                self.models |= message.models
            elif isinstance(message, Trajectory):
                self.routes[message.id] = message
            elif isinstance(message, Episode):
                self.episodes[message.id] = message
            elif isinstance(message, DeadLetter):
                self.refused.append(f"{message.id}: {message.reason}")

    def report(self) -> dict[str, Any]:
        """Plain values, ready for JSON. Times are seconds from the first frame that was analysed."""
        def since(at: int) -> float:
            return round((at - self.first) / 1e6, 2)

        seconds: Counter[str] = Counter()
        for route in self.routes.values():
            for leg in route.legs:
                seconds.update(leg.seconds)
        totals = Counter[str]()
        for ledger in self.ledgers.values():
            for name in ledger.__struct_fields__:
                totals[name] += getattr(ledger, name)
        judged = seconds["worn"] + seconds["incorrect"] + seconds["none"]
        return {
            "seconds": since(self.last) if self.first else 0.0,
            "cameras": len(self.ledgers),
            "frames": dict(totals),
            "frames_saved": round((totals["still"] + totals["same_faces"]) / max(1, totals["seen"]), 4),
            "looks": dict(self.looks),
            "tracks": dict(Counter(self.tracks.values())),
            "people": len(self.routes),
            "people_over_several_cameras": sum(len({leg.camera for leg in r.legs}) > 1 for r in self.routes.values()),
            "person_seconds": {state: round(seconds[state], 1) for state in sorted(seconds)},
            "compliance": round(seconds["worn"] / judged, 4) if judged else None,
            "routes": [
                {"person": r.id, "legs": [
                    {"camera": leg.camera, "from": since(leg.start), "to": since(leg.end), "state": leg.state}
                    for leg in r.legs], "gaps": [gap.probability for gap in r.gaps]}
                for r in self.routes.values()
            ],
            "episodes": [
                {"id": e.id, "person": e.person, "state": e.state, "from": since(e.start), "to": since(e.end),
                 "cameras": list(e.cameras), "closed": e.reason or None, "score": e.score}
                for e in self.episodes.values()
            ],
            "refused": self.refused,
            "models": self.models,
        }
