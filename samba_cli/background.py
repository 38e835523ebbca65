"""Work beside the model: an iterator that runs ahead of it, and tasks that may lag behind it.

Each has a thread and a bounded queue, so what waits takes bounded memory.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
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
        finally:
            if isinstance(self._source, Generator):
                self._source.close()

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

    def __iter__(self) -> Iterator[T]:
        """All items, for a consumer that has nothing else to do. Raises what the source raised."""
        while True:
            try:
                item = self.next()
            except StopIteration:
                return
            if item is not None:
                yield item

    def __enter__(self) -> Ahead[T]:
        return self

    def __exit__(self, *_: object) -> None:
        # Not joined: the source may hang in a read of standard input. The thread is a daemon.
        self._closed.set()


class Behind:
    """Runs tasks in a thread, in the order they come; at most `size` of them wait.

    What a task raises is raised by the next `put` or `wait`; the tasks after it are dropped.
    Leaving it (`with`) waits for the task at hand and drops the others.
    """

    def __init__(self, size: int) -> None:
        self._queue: queue.Queue[Callable[[], object] | None] = queue.Queue(size)
        self._dropping = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="samba-record", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            task = self._queue.get()
            try:
                if task is None:
                    return
                if not self._dropping.is_set():
                    task()
            except BaseException as error:
                self._error = error
                self._dropping.set()
            finally:
                self._queue.task_done()

    def put(self, task: Callable[[], object]) -> None:
        """Run it after those before it; waits while too many are waiting."""
        self._raise()
        self._queue.put(task)

    def wait(self) -> None:
        """Until every task is done."""
        self._queue.join()
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Behind:
        return self

    def __exit__(self, *_: object) -> None:
        self._dropping.set()
        self._queue.put(None)
        self._thread.join()
