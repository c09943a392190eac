"""One thread that owns the one writing connection, and commits in groups.

Jobs are functions of the connection. All that wait when the thread is free share one transaction and so one fsync; a
job that fails is rolled back alone. If a commit fails, the writer stops for good: after a failed fsync nobody knows
what is on the disk (RELIABILITY: no retry on the same handle), and every later job raises LedgerUnavailable.
"""

import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from dispatcher.core.errors import LedgerUnavailable

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], Any]
_GROUP: Final = 256


class Writer:
    """Runs jobs in order on its own thread. `open` is called there and makes the connection."""

    def __init__(self, open_connection: Callable[[], sqlite3.Connection]) -> None:
        self._open = open_connection
        self._jobs: queue.SimpleQueue[tuple[Job, Future[Any]] | None] = queue.SimpleQueue()
        self._broken: LedgerUnavailable | None = None
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)
        self._thread.start()
        self._ready.result()

    def submit(self, job: Callable[[sqlite3.Connection], T]) -> "Future[T]":
        """Queue a job; its future is done when what it wrote is durable."""
        future: Future[T] = Future()
        self._jobs.put((job, future))
        return future

    def close(self) -> None:
        """Finish what is queued and close. May be called twice."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        try:
            connection = self._open()
        except BaseException as error:  # noqa: BLE001 (handed to whoever opened the ledger)
            self._ready.set_exception(error)
            return
        self._ready.set_result(None)
        try:
            while group := self._next_group():
                self._run(connection, group)
        finally:
            connection.close()

    def _next_group(self) -> list[tuple[Job, Future[Any]]]:
        group = []
        item = self._jobs.get()
        while item is not None:
            group.append(item)
            if len(group) == _GROUP or self._jobs.empty():
                return group
            item = self._jobs.get()
        if group:
            self._jobs.put(None)  # the end comes after this group
        return group

    def _run(self, connection: sqlite3.Connection, group: list[tuple[Job, Future[Any]]]) -> None:
        if self._broken:
            for _, future in group:
                future.set_exception(self._broken)
            return
        done: list[tuple[Future[Any], Any]] = []
        failed: list[tuple[Future[Any], BaseException]] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job, future in group:
                self._one(connection, job, future, done, failed)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._broken = LedgerUnavailable(
                f"the ledger cannot be written: {error}. Free the disk or the file, then go on"
            )
            for _, future in group:
                future.set_exception(self._broken)
            if connection.in_transaction:
                connection.rollback()
            return
        for future, result in done:
            future.set_result(result)
        for future, cause in failed:
            future.set_exception(cause)

    def _one(
        self,
        connection: sqlite3.Connection,
        job: Job,
        future: "Future[Any]",
        done: list[tuple["Future[Any]", Any]],
        failed: list[tuple["Future[Any]", BaseException]],
    ) -> None:
        connection.execute("SAVEPOINT job")
        try:
            done.append((future, job(connection)))
        except sqlite3.OperationalError:
            raise  # disk, lock, I/O: the ledger itself, not the job
        except BaseException as error:  # noqa: BLE001 (handed to whoever asked)
            connection.execute("ROLLBACK TO job")
            failed.append((future, error))
        connection.execute("RELEASE job")
