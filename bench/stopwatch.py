"""Processor time by name, per thread, without what is nested in it: put around functions from outside."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from typing import Any


class Stopwatch:
    """`wrap` functions, then read `seconds` and `calls`. Time under a wrapped function counts for the inner one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self._mine = threading.local()
        self._lock = threading.Lock()

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        self.seconds.setdefault(name, 0.0)
        self.calls.setdefault(name, 0)

        @functools.wraps(function, updated=())
        def timed(*args: Any, **more: Any) -> Any:
            stack = self._mine.__dict__.setdefault("stack", [])
            stack.append(0.0)
            began = time.thread_time()
            try:
                return function(*args, **more)
            finally:
                took = time.thread_time() - began
                nested = stack.pop()
                if stack:
                    stack[-1] += took
                with self._lock:
                    self.seconds[name] += took - nested
                    self.calls[name] += 1

        return timed

    def patch(self, owner: Any, attribute: str, name: str) -> None:
        """Replaces a module's or an object's function by the timed one."""
        setattr(owner, attribute, self.wrap(name, getattr(owner, attribute)))

    def read(self) -> dict[str, tuple[int, float]]:
        with self._lock:
            return {name: (self.calls[name], self.seconds[name]) for name in self.seconds}


class Decoder:
    """A codec context whose `decode` is timed; everything else goes straight through."""

    def __init__(self, decoder: Any, watch: Stopwatch, name: str) -> None:
        self.__dict__["_decoder"] = decoder
        self.__dict__["decode"] = watch.wrap(name, decoder.decode)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._decoder, name, value)


# What is measured, in the order a frame travels.
DECODE, SCALE, JPEG, DIGEST = "video decoding", "scaling", "JPEG writing", "digest"
DEDUP, UNJPEG, DETECT, CLASSIFY = "dedup", "JPEG reading", "detector", "mask state of faces"
MASK, ALIGN, EMBED, TRAJECTORY = "tracks, quality, chips", "align faces", "embedding", "routes and episodes"
WRITE, READ = "messages to bytes", "bytes to messages"
INFERENCE = (DETECT, CLASSIFY, EMBED)
PICTURES = (DECODE, SCALE, JPEG, DIGEST, UNJPEG, ALIGN)
STEPS = (DECODE, SCALE, JPEG, DIGEST, DEDUP, UNJPEG, DETECT, CLASSIFY, MASK, ALIGN, EMBED, TRAJECTORY, WRITE, READ)


def install(settings: Any) -> Stopwatch:
    """Times every step of this process from now on. The product knows nothing of it."""
    import cv2

    from agents import delivery, video
    from models import registry
    from models.face import Embedder, Finder
    from models.mask import Classifier
    from pipeline import capture, dedup, embed, mask, messages, pictures, topics, trajectory

    cv2.setNumThreads(1)
    watch = Stopwatch()
    ready = video.Video._ready

    def timed_ready(self: video.Video) -> None:
        ready(self)
        self._decoder = Decoder(self._decoder, watch, DECODE)

    video.Video._ready = timed_ready  # type: ignore[method-assign]
    watch.patch(capture, "shrink", SCALE)
    watch.patch(capture, "digest", DIGEST)
    watch.patch(cv2, "imencode", JPEG)
    watch.patch(pictures, "decode", UNJPEG)
    watch.patch(embed, "decode", UNJPEG)
    watch.patch(dedup, "step", DEDUP)
    watch.patch(mask, "step", MASK)
    watch.patch(embed, "align", ALIGN)
    watch.patch(trajectory, "release", TRAJECTORY)
    watch.patch(trajectory, "step", TRAJECTORY)
    for owner in (delivery, messages):
        watch.patch(owner, "encode", WRITE)
        watch.patch(owner, "decode", READ)
    watch.patch(topics, "decode", READ)
    for owner_, name in ((Finder, DETECT), (Classifier, CLASSIFY), (Embedder, EMBED)):
        watch.patch(owner_, "__call__", name)
    registry.load(settings)
    return watch
