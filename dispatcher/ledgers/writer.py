"""One thread that owns the one writing connection, and commits in groups.

Jobs are functions of the connection. All that wait when the thread is free share one transaction and so one fsync, in
the order in which they were submitted; a job that fails is undone alone. If a commit fails, or the ledger itself does
(disk, lock, damage), the writer stops for good: after a failed fsync nobody knows what is on the disk, so nothing is
tried again on the same connection, and every later job raises LedgerUnavailable.

No job ever waits for ever: whatever happens to the thread, every future gets its result or its error.
"""

import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final, TypeVar

from dispatcher.core.errors import DispatcherError, LedgerUnavailable

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], Any]
Queued = tuple[Job, Future[Any]]
_GROUP: Final = 256
_JOBS_OWN: Final = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError, sqlite3.InterfaceError)


class Writer:
    """Runs jobs in order on its own thread.

    `open_connection` is called there and makes the connection; `complete` is called there at the end of each
    transaction, for what every commit must hold; `tidy` between transactions, when everybody has been told of the last.
    """

    def __init__(
        self,
        open_connection: Callable[[], sqlite3.Connection],
        tidy: Callable[[sqlite3.Connection], None],
        complete: Callable[[sqlite3.Connection], None] = lambda _: None,
    ) -> None:
        self._open = open_connection
        self._tidy = tidy
        self._complete = complete
        self._jobs: queue.SimpleQueue[Queued | None] = queue.SimpleQueue()
        self._door = threading.Lock()
        self._closed = False
        self._broken = ""
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)
        self._thread.start()
        self._ready.result()

    def submit(self, job: Callable[[sqlite3.Connection], T]) -> "Future[T]":
        """Queue a job; its future is done when what it wrote is durable. Raises LedgerUnavailable after `close`."""
        future: Future[T] = Future()
        with self._door:
            if self._closed or not self._thread.is_alive():  # a forked child has no such thread
                raise LedgerUnavailable("the ledger is closed")
            self._jobs.put((job, future))
        return future

    def close(self) -> None:
        """Finish what is queued and close. May be called twice."""
        with self._door:
            if not self._closed:
                self._closed = True
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

    def _next_group(self) -> list[Queued]:
        """Everything that waits, at least one job; nothing when the writer is closed."""
        group = []
        item = self._jobs.get()
        while item is not None:
            group.append(item)
            if len(group) == _GROUP or self._jobs.empty():
                return group
            item = self._jobs.get()
        if group:
            self._jobs.put(None)  # nothing is queued after the end, so it is still the last
        return group

    def _run(self, connection: sqlite3.Connection, group: list[Queued]) -> None:
        group = [(job, future) for job, future in group if future.set_running_or_notify_cancel()]
        try:
            outcomes = self._commit(connection, [job for job, _ in group])
        except BaseException as error:  # noqa: BLE001 (told to everybody who waits)
            self._break(connection, error)
            for _, future in group:
                future.set_exception(LedgerUnavailable(self._broken))
            return
        for (_, future), (result, failure) in zip(group, outcomes, strict=True):
            if failure is None:
                future.set_result(result)
            else:
                future.set_exception(failure)
        try:
            self._tidy(connection)
        except BaseException as error:  # noqa: BLE001 (told to whoever comes next)
            self._break(connection, error)

    def _commit(self, connection: sqlite3.Connection, jobs: list[Job]) -> list[tuple[Any, BaseException | None]]:
        if self._broken:
            raise LedgerUnavailable(self._broken)
        connection.execute("BEGIN IMMEDIATE")
        if len(jobs) == 1:
            return [self._commit_alone(connection, jobs[0])]
        outcomes = [undone_alone(connection, job) for job in jobs]
        self._complete(connection)
        connection.execute("COMMIT")
        return outcomes

    def _commit_alone(self, connection: sqlite3.Connection, job: Job) -> tuple[Any, BaseException | None]:
        """As `undone_alone`, for a job that has the whole transaction to itself."""
        try:
            result = job(connection)
        except BaseException as error:  # noqa: BLE001 (told to whoever asked, or raised)
            failure = _of_the_job(error)
            connection.execute("ROLLBACK")
            return None, failure
        self._complete(connection)
        connection.execute("COMMIT")
        return result, None

    def _break(self, connection: sqlite3.Connection, error: BaseException) -> None:
        """Write nothing any more; the first reason counts."""
        if not self._broken:
            self._broken = f"the ledger cannot be written: {error}. Free the disk or the file, then go on"
        with suppress(sqlite3.Error):
            connection.rollback()


def undone_alone(
    connection: sqlite3.Connection, job: Callable[[sqlite3.Connection], T]
) -> tuple[T | None, BaseException | None]:
    """A job's result, or its own failure, undone. Raises what is wrong with the ledger itself. May be nested."""
    connection.execute("SAVEPOINT job")
    result, failure = None, None
    try:
        result = job(connection)
    except BaseException as error:  # noqa: BLE001 (told to whoever asked, or raised)
        failure = _of_the_job(error)
        connection.execute("ROLLBACK TO job")
    connection.execute("RELEASE job")
    return result, failure


def _of_the_job(error: BaseException) -> BaseException:
    """A job's own failure, as it is told. Raises it if it is what is wrong with the ledger itself."""
    if isinstance(error, (sqlite3.Error, UnicodeDecodeError)) and not isinstance(error, _JOBS_OWN):
        raise error
    return _refusal(error) if isinstance(error, sqlite3.IntegrityError) else error


def _refusal(error: sqlite3.IntegrityError) -> DispatcherError:
    return DispatcherError(f"the ledger refused a change that breaks its rules: {error}. Nothing of it was written")
