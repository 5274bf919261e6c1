"""How a job of the cluster went: the exit status that stands for it, and what there is to say."""

from __future__ import annotations

import signal

from gridops.ray.jobsapi import RayJob

FAILED = 1
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM


def exit_status(job: RayJob, interrupted: bool = False) -> int:
    """The command's own, as a shell says it (128 + n after signal n).

    Without one: 130 when we stopped it by Ctrl-C and 143 when somebody else did, 0 for a success,
    1 for all else.
    """
    if job.state == "stopped":
        return INTERRUPTED if interrupted else TERMINATED
    if job.exit_code is not None:
        return job.exit_code if job.exit_code >= 0 else 128 - job.exit_code
    return 0 if job.state == "succeeded" else FAILED


def verdict(job: RayJob) -> str:
    """What became of it, when there is more to say than an exit status; else ""."""
    if job.state == "stopped":
        return "it was stopped"
    if job.state == "failed" and job.exit_code is None:
        return f"it failed: {_brief(job.message)}"
    if job.state == "failed" and job.exit_code is not None and job.exit_code < 0:
        return f"its command was ended by signal {-job.exit_code}"
    return ""


def _brief(message: str) -> str:
    """Ray's words on one line; of a traceback its end, which tells what went wrong."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    text = lines[0] if lines else "Ray does not say why"
    if len(lines) > 1 and "raceback" in message:
        text = f"{text} … {lines[-1]}"
    return text[:600]
