"""Ray's Jobs API: its jobs, and its requests.

Source: ray/dashboard/modules/job/{sdk,job_head,pydantic_models}.py and dashboard_sdk.py; the same
since Ray 2.8.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from gridops.errors import (
    NoRayJob,
    RayJobError,
    RayUnavailable,
    UnreadableAnswer,
    UsageError,
)
from gridops.ray.package import MAX_PACKAGE, Package
from gridops.ray.rest import Answer, Api
from gridops.reach.answers import MAX_TIME, Fields

LAST = "@last"
SHOWN = 5  # jobs that a message names
ENDED_STATES = ("stopped", "succeeded", "failed")
MAX_MESSAGE = 1024 * 1024  # characters of a traceback, say
MAX_JOBS = 50_000
LITERAL = "0"  # a variable that holds a dollar sign; sorts before every name that a user may choose

JobState = Literal["pending", "running", "stopped", "succeeded", "failed", "unreadable"]


@dataclass(frozen=True, slots=True)
class RayJob:
    """A job as the cluster tells of it. Times are seconds since the epoch, by the head's clock."""

    id: str  # what it was submitted as; a driver that nobody submitted has Ray's own number
    state: JobState
    command: str = ""
    submitted: bool = True  # by the Jobs API; else it is a program that connected to the cluster
    message: str = ""  # Ray's words on how it is; what is wrong with an unreadable record
    started: float | None = None
    ended: float | None = None
    exit_code: int | None = None  # of the command; -n after signal n
    agent: tuple[str, int] | None = None  # of the machine that runs the command and has its log
    user: str = ""  # who submitted it with gridops: user@machine
    commit: str = ""

    @property
    def active(self) -> bool:
        return self.state not in (*ENDED_STATES, "unreadable")


@dataclass(frozen=True, slots=True)
class Submission:
    """A job to submit.

    Resources are the command's own, not those of what it starts on the cluster.
    """

    id: str
    command: str  # shell text, run by sh
    working_dir: str | None = None  # a URI
    env: Mapping[str, str] = field(default_factory=dict)
    num_cpus: float | None = None
    num_gpus: float | None = None
    memory: int | None = None  # bytes
    metadata: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        runtime_env: dict[str, Any] = {}
        if self.working_dir:
            runtime_env["working_dir"] = self.working_dir
        if self.env:
            runtime_env["env_vars"] = literal(self.env)
        fields = {
            "submission_id": self.id,
            "entrypoint": self.command,
            "runtime_env": runtime_env,
            "metadata": dict(self.metadata),
            "entrypoint_num_cpus": self.num_cpus,
            "entrypoint_num_gpus": self.num_gpus,
            "entrypoint_memory": self.memory,
        }
        return {name: value for name, value in fields.items() if value is not None}


def literal(env: Mapping[str, str]) -> dict[str, str]:
    """Escape the values of `env` such that each arrives as it is.

    Ray expands $NAME and ${NAME} in values and then drops what still looks like ${NAME}
    (`update_envs` in ray/_private/utils.py), variable by variable in the order of their names.
    """
    if not any("$" in value for value in env.values()):
        return dict(env)
    dollar = f"${{{LITERAL}}}"

    def keep(match: re.Match[str]) -> str:
        # ${NAME}: what is dropped is a ${_} that stands between the dollar sign and the brace
        return f"{dollar}{dollar}{{_}}{{" if match[0] == "${" else dollar

    return {LITERAL: "$", **{k: re.sub(r"\$\{?", keep, v) for k, v in env.items()}}


class JobsApi:
    """Requests of the Jobs API. Every method raises RayJobError, and what `Api` raises."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def version(self) -> str:
        """The version of Ray on the cluster."""
        return Fields(_check(self._api.get("/api/version")).document).text("ray_version", 100)

    def jobs(self) -> tuple[RayJob, ...]:
        """All jobs that the cluster remembers, oldest first; bad records are unreadable jobs."""
        records = Fields({"jobs": _check(self._api.get("/api/jobs/")).document})
        found = [_job_or_not(one) for one in records.items("jobs", MAX_JOBS)]
        return tuple(sorted(found, key=lambda job: (job.started or 0.0, job.id)))

    def job(self, job_id: str) -> RayJob:
        """The job of that id. Raises NoRayJob."""
        answer = self._api.get(f"/api/jobs/{quote(job_id, safe='')}")
        if answer.status == 404:
            raise NoRayJob(f"the cluster has no job {job_id!r}", hint="`inv cluster.jobs`")
        return _job(_check(answer).document)

    def submit(self, submission: Submission) -> None:
        """Submit a job; safe to repeat, since the cluster takes an id once.

        Raises UsageError for what it refuses.
        """
        answer = self._api.post("/api/jobs/", submission.document())
        if answer.status == 400:
            raise UsageError(f"Ray refuses the job: {answer.reason}")
        if not answer.ok and "already exists" not in answer.reason:
            _check(answer)

    def stop(self, job_id: str) -> bool:
        """Ask the job to end (TERM, and KILL after 3 seconds).

        True if it had not ended yet. Raises NoRayJob.
        """
        answer = self._api.post(f"/api/jobs/{quote(job_id, safe='')}/stop")
        if answer.status == 404:
            raise NoRayJob(f"the cluster has no job {job_id!r}", hint="`inv cluster.jobs`")
        return Fields(_check(answer).document).flag("stopped")

    def has(self, package: Package) -> bool:
        """True if the cluster has the package; it then keeps it for some minutes at least."""
        answer = self._api.get(f"/api/packages/gcs/{package.name}")
        return answer.status != 404 and _check(answer).ok

    def upload(self, package: Package) -> None:
        length = {"Content-Length": str(package.bytes)}
        path = f"/api/packages/gcs/{package.name}"
        answer = self._api.request("PUT", path, package.file, length)
        if answer.status == 413:
            raise UsageError(
                f"Ray's dashboard refuses a package of {package.bytes / 1e6:.1f} MB"
                f" ({answer.reason})",
                hint=f"its limit is {MAX_PACKAGE >> 20} MiB; `inv sync`, then submit with --shared",
            )
        _check(answer)


def resolve_id(jobs: Sequence[RayJob], text: str) -> RayJob:
    """Resolve a job id, a unique prefix of one, or `@last`.

    `@last` is the newest submitted. Raises NoRayJob, and UsageError when several ids begin so.
    """
    if text == LAST:
        found = [job for job in jobs if job.submitted][-1:]
    else:
        exact = [job for job in jobs if job.id == text]
        found = exact or [job for job in jobs if job.id.startswith(text)]
    if not found:
        newest = ", ".join(job.id for job in jobs[: -SHOWN - 1 : -1])
        hint = f"the newest: {newest}" if newest else "it has had no job since it was started"
        raise NoRayJob(f"the cluster has no job {text!r}", hint=hint)
    if len(found) > 1:
        named = ", ".join(job.id for job in found[:SHOWN])
        raise UsageError(f"{text!r} matches {len(found)} jobs", hint=f"valid: {named}")
    return found[0]


def _check(answer: Answer) -> Answer:
    if not answer.ok:
        kind = RayUnavailable if answer.status >= 500 else RayJobError
        raise kind(f"Ray answers {answer.status}: {answer.reason}")
    return answer


def _job_or_not(record: object) -> RayJob:
    try:
        return _job(record)
    except UnreadableAnswer as exc:
        named = record if isinstance(record, dict) else {}
        ids = (str(named.get(key) or "") for key in ("submission_id", "job_id"))
        job_id = next((one for one in ids if one.isascii() and 0 < len(one) <= 200), "?")
        return RayJob(job_id, "unreadable", message=f"unreadable record: {exc.message}")


def _job(record: object) -> RayJob:
    """Read one record of a job. Raises UnreadableAnswer."""
    fields = Fields(record, "the job")
    state, metadata = fields.text("status", 64).lower(), fields.inner("metadata")
    submitted = (fields.text("type", 64) or "SUBMISSION") == "SUBMISSION"
    own_id = fields.text("submission_id", 1024) if submitted else ""
    return RayJob(
        id=own_id or fields.text("job_id", 1024),
        state=state if state in (*ENDED_STATES, "running") else "pending",  # type: ignore[arg-type]
        command=fields.text("entrypoint", MAX_MESSAGE),
        submitted=submitted,
        message=fields.text("message", MAX_MESSAGE),
        started=_seconds(fields, "start_time"),
        ended=_seconds(fields, "end_time"),
        exit_code=fields.whole("driver_exit_code", 255, least=-255),
        agent=_agent(fields.text("driver_agent_http_address", 1024)),
        user=metadata.text("gridops_user", 1024),
        commit=metadata.text("gridops_commit", 1024),
    )


def _agent(address: str) -> tuple[str, int] | None:
    try:
        agent = urlsplit(address)
        return (agent.hostname, agent.port) if agent.hostname and agent.port else None
    except ValueError:
        raise UnreadableAnswer(f"the job's agent is at {address[:64]!r}") from None


def _seconds(fields: Fields, key: str) -> float | None:
    milliseconds = fields.real(key, 1000 * MAX_TIME)
    return milliseconds / 1000 if milliseconds else None
