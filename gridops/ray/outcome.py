"""Outcome of a Ray job: the exit status that stands for it, and a verdict in words."""

from __future__ import annotations

import signal

from gridops.ray.jobsapi import RayJob

RAY_FAILED = 1
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM


def exit_status(job: RayJob, interrupted: bool = False) -> int:
    """The command's exit status, as a shell gives it.

    That is 128 + n after signal n. Without one: 130 when we stopped it by Ctrl-C and 143 when
    somebody else did, 0 for a success, 1 for all else.
    """
    if job.state == "stopped":
        return INTERRUPTED if interrupted else TERMINATED
    if job.exit_code is not None:
        return job.exit_code if job.exit_code >= 0 else 128 - job.exit_code
    return 0 if job.state == "succeeded" else RAY_FAILED


def describe_outcome(job: RayJob) -> str:
    """The job's end in words; empty when the exit status says it all."""
    if job.state == "stopped":
        return "it was stopped"
    if job.state == "failed" and job.exit_code is None:
        return f"it failed: {_brief(job.message)}"
    if job.state == "failed" and job.exit_code is not None and job.exit_code < 0:
        return f"its command was ended by signal {-job.exit_code}"
    return ""


def _brief(message: str) -> str:
    """Ray's message on one line; of a traceback also its last line, which names the error."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    text = lines[0] if lines else "Ray gives no reason"
    if len(lines) > 1 and "raceback" in message:
        text = f"{text} … {lines[-1]}"
    return text[:600]
