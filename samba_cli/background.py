"""Running an iterator ahead of its consumer, in a thread, with a bounded queue between them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
_POLL = 0.1  # seconds between looks at a closed or interrupted queue


class Ahead(Generic[T]):
    """Iterates `source` in a thread, at most `size` items ahead.

    An exception of the source is raised where the consumer meets it. Close it, so that the
    thread ends (`with`).
    """

    def __init__(self, source: Iterator[T], size: int) -> None:
        self._source = source
        self._queue: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(size)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="samba-parse", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for item in self._source:
                if not self._put((item, None)):
                    return
            self._put((None, StopIteration()))
        except BaseException as error:
            self._put((None, error))

    def _put(self, entry: tuple[T | None, BaseException | None]) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(entry, timeout=_POLL)
                return True
            except queue.Full:
                continue
        return False

    def next(self) -> T | None:
        """The next item, or None when none came within a moment: ask again.

        Raises StopIteration at the end, and whatever the source raised.
        """
        try:
            item, error = self._queue.get(timeout=_POLL)
        except queue.Empty:
            return None
        if error is not None:
            raise error
        return item

    def __enter__(self) -> Ahead[T]:
        return self

    def __exit__(self, *_: object) -> None:
        # Not joined: the source may hang in a read of standard input. The thread is a daemon.
        self._closed.set()
