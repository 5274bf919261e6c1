"""Outcome of a run: the exit status that stands for it, and what there is to say."""

from __future__ import annotations

import signal
from dataclasses import asdict

from gridops.errors import NotStarted, RunLost, RunTimeout, UnreadableRecord
from gridops.jobs.paths import JobPaths
from gridops.model import Job
from gridops.observe.messages import describe_leftovers

FAILED = 125  # nobody knows how the command ended, or it never began
TIMED_OUT = 124
SETUP = "setup"  # the reason of a run whose node's env_setup failed
TERMINATED = 128 + signal.SIGTERM

CUT_OUTPUT = {  # why not all of its output was kept
    "full": "its disk is full: some of the run's output was not kept",
    "cap": "the run printed more than --log-cap: the rest was not kept",
}
REASONS = {
    "supervisor": "its supervisor was killed",
    "rebooted": "the node rebooted",
    "shutdown": "the node ended its processes, as at a shutdown",
    "busy": "all slots were taken",
    "gpus": "the node has too few GPUs",
    "snapshot": "the tree could not be copied",
    "unconfirmed": "the client did not confirm it",
    "cancelled": "it was cancelled",
    "error": "its supervisor failed",
    SETUP: "the node's env_setup failed",
}


def exit_status(job: Job) -> int:
    """Exit status that stands for a run, as a shell says it.

    The command's own where it ended by itself or by a signal. 124 when its time ran out; 125 when
    it never began or nobody saw how it ended. One that was killed never counts as a success.
    """
    if job.state == "timed out":
        return TIMED_OUT
    if job.state == "killed" and job.began:
        return job.status or TERMINATED
    if job.state == "finished" and job.status is not None:
        return job.status
    return FAILED


def describe_outcome(job: Job) -> str:
    """Outcome in words, when there is more than an exit status; else ""."""
    said = _end(job)
    if not job.left:
        return said
    return f"{said or ('it still runs' if job.active else 'it has ended')}; {remains(job)}"


def raise_unless_ended(job: Job) -> None:
    """Check that the command ended by itself. Raises RunTimeout, RunLost."""
    if job.state == "timed out":
        rest = f"; {remains(job)}" if job.left else ""
        raise RunTimeout(
            f"the command was ended after {job.timeout:g} s{rest}", node=job.node, hint="--timeout"
        )
    if job.state == "lost":
        raise RunLost(
            f"the run {job.id}: {describe_outcome(job)}",
            id=job.id,
            node=job.node,
            hint=f"--restart-lost runs it again; its output: `inv jobs.logs {job.id}`",
        )


def describe_resources(gpus: int) -> str:
    """A run's needs before it can begin, in words: `slot`, `slot with 2 GPUs`."""
    return "slot" + (f" with {gpus} GPU{'s' * (gpus > 1)}" if gpus else "")


def refused_error(job: Job, wait: float | None) -> NotStarted:
    """The error for a run that its node refused.

    `wait`: seconds that it stood in the queue at most; None if it might not wait.
    """
    message, hint = describe_outcome(job), f"`inv jobs.show {job.id}`"
    if job.reason == "busy" and wait is not None:
        message = f"no {describe_resources(job.gpus_wanted)} came free within {wait:g} s"
        hint = "`inv jobs` shows who has them"
    return NotStarted(message, reason=job.reason, node=job.node, hint=hint)


def forgotten_error(job_id: str, node: str) -> RunLost:
    """The error for a run whose records are gone from its node."""
    return RunLost(
        f"the files of the run {job_id} under ~/.gridops are gone, so its outcome is not known",
        id=job_id,
        node=node,
        hint="its command may still run there",
    )


def readable(job: Job) -> Job:
    """`job`, if its record makes sense. Raises UnreadableRecord."""
    if job.state == "unreadable":
        raise UnreadableRecord(
            f"the record of the run {job.id} cannot be read: {job.error}",
            node=job.node,
            hint=f"see {JobPaths(job.id).directory} there",
        )
    return job


def remains(job: Job) -> str:
    """Processes of it that could not be ended, and the remedy; "" when nothing is left."""
    return describe_leftovers([asdict(one) for one in job.left]) if job.left else ""


def _end(job: Job) -> str:
    reason = REASONS.get(job.reason, job.reason)
    began = "" if job.began else ", before it began"
    if job.state == "timed out":
        limit = f" after {job.timeout:g} s" if job.timeout else ""
        return f"it timed out{limit} and was ended"
    if job.state == "killed":
        return f"it was killed{f' by {job.by}' if job.by else ''}{began}"
    if job.state == "lost":
        rest = "; processes of it still run there" if job.orphan and not job.left else ""
        end = f" (it ended with status {job.status})" if job.status is not None else ""
        return f"it is lost: {reason}{began or end or ', and its exit status is not known'}{rest}"
    if job.state == "refused":
        return f"it never began: {reason}"
    if job.state == "finished" and job.signal:
        return f"the command was ended by {_signal_name(job.signal)}"
    if job.state == "unreadable":
        return f"its record there cannot be read: {job.error}"
    if job.state == "unknown":
        return "its state is not known"
    return ""


def _signal_name(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    return f"{name} (was there not enough memory?)" if number == signal.SIGKILL else name
