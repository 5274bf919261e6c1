"""Log of a Ray job, byte for byte from any offset.

Ray's own `/api/jobs/ID/logs` decodes the file as text: it answers 500 for what is not UTF-8, turns
carriage returns into newlines and always sends everything. So the file is read where it is, from
the agent of the machine that runs the command, which serves its log directory as plain files
(`/logs`, ray/dashboard/modules/log/log_agent.py) and so knows ranges.
"""

from __future__ import annotations

import re
import time
from urllib.parse import quote

from gridops.errors import RayUnavailable
from gridops.ray.jobsapi import RayJob
from gridops.ray.rest import Api, Sink

LINE_TIMEOUT = 2.0  # seconds that output waits for the line that Ray may write after it
MAX_WAITING = 1024 * 1024  # bytes that wait at most
_FIRST = re.compile(rb"[^\n]* Runtime env is setting up\.\n")


class JobLog:
    """Reader of a job's log that remembers its offset, over any connection."""

    def __init__(self, job_id: str, sink: Sink) -> None:
        self._path = f"/logs/{quote(f'job-driver-{job_id}.log', safe='')}"
        self._sink = sink
        self.offset = 0  # bytes of the file that have been handed on

    def read(self, agent: Api) -> None:
        """Hand on all that the log has now. Raises what `Api.request` raises."""
        answer = agent.get(self._path, {"Range": f"bytes={self.offset}-"}, self._take)
        if answer.status not in (206, 404, 416):  # 404: not there yet; 416: nothing new
            raise RayUnavailable(
                f"Ray's agent does not return the log: {answer.status} {answer.reason[:100]}"
            )

    def _take(self, data: bytes) -> None:
        self._sink(data)
        self.offset += len(data)


class WithoutRays:
    """Sink that drops the two lines Ray writes into every job's log.

    The first is at its beginning. The other tells the command; Ray writes it from a buffer of its
    own while the command runs already, so it may be anywhere in what comes first.
    """

    def __init__(self, job: RayJob, sink: Sink) -> None:
        line = f"Running entrypoint for job {job.id}: {job.command}\n"
        self._line = line.encode(errors="surrogateescape")
        self._sink = sink
        self._held: bytearray | None = bytearray()
        self._since: float | None = None

    def __call__(self, data: bytes) -> None:
        if self._held is None:
            self._sink(data)
            return
        self._since = self._since or time.monotonic()
        self._held += data
        if self._line in self._held or len(self._held) > MAX_WAITING:
            self.flush()

    def tick(self) -> None:
        """Pass on output that has waited LINE_TIMEOUT; to be called now and then."""
        if self._since is not None and time.monotonic() - self._since > LINE_TIMEOUT:
            self.flush()

    def flush(self) -> None:
        """Pass on all that waits, and let later output pass at once."""
        if self._held is None:
            return
        held = bytes(self._held)
        self._held = None
        first = _FIRST.match(held)
        text = held[first.end() :] if first else held
        text = text.replace(self._line, b"", 1)
        if text:
            self._sink(text)
