"""One line on the terminal that says what takes long: "cpgen: deriving diagonal of encoder ... 4 s"."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

AFTER = 2.0  # seconds of work before anything is said
EVERY = 0.5  # seconds between two looks


class Line:
    """What is being done, innermost last, and the line that shows it, rewritten in place and wiped at the end."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._doing: dict[object, tuple[str, float]] = {}  # what, since when
        self._begun = 0.0
        self._shown = 0  # characters on the terminal
        self._lock = threading.Lock()
        self._stop = threading.Event()

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Says ``what`` while the block runs: on a terminal, or with CPGEN_PROGRESS=1; never with CPGEN_PROGRESS=0."""
        stream = sys.stderr
        if not _wanted(stream):
            yield
            return
        mine = object()
        with self._lock:
            if not self._doing:
                self._begun, self._stop = self._clock(), threading.Event()
                threading.Thread(target=self._watch, args=(stream, self._stop), daemon=True).start()
            self._doing[mine] = what, self._clock()
        try:
            yield
        finally:
            with self._lock:
                del self._doing[mine]
                if self._doing:  # what was interrupted counts from here
                    last = next(reversed(self._doing))
                    self._doing[last] = self._doing[last][0], self._clock()
                else:
                    self._stop.set()
                    self._write(stream, "")

    def look(self, stream: TextIO) -> None:
        """Write the line if it is time to."""
        with self._lock:
            now = self._clock()
            if self._doing and now - self._begun >= AFTER:
                what, since = list(self._doing.values())[-1]
                # shorter than a terminal is wide: a line that wraps is not rewritten in place
                self._write(stream, f"cpgen: {what[:60]} ... {now - since:.0f} s")

    def _watch(self, stream: TextIO, stop: threading.Event) -> None:
        while not stop.wait(EVERY):
            self.look(stream)

    def _write(self, stream: TextIO, text: str) -> None:
        if text or self._shown:
            with suppress(OSError, ValueError):  # a stream that is gone
                stream.write(f"\r{text:{self._shown}}" + ("" if text else "\r"))
                stream.flush()
            self._shown = len(text)


def _wanted(stream: TextIO | None) -> bool:
    said = os.environ.get("CPGEN_PROGRESS", "")
    return stream is not None and not stream.closed and said != "0" and (said == "1" or stream.isatty())


working = Line().working
