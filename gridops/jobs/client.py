"""Durable runs on one node: start, look, end, forget.

Every call is one short session of the link. A start may be repeated however often: the id is the
client's, and the node runs an id at most once.
"""

from gridops.jobs.ending import (
    confirm,
    directory_users,
    kill,
    kill_with_retry,
    prune,
    seed_tree,
    stay,
    tree_users,
)
from gridops.jobs.looking import diff, list_jobs, readable, show, status
from gridops.jobs.spec import JobSpec, new_id, whoami
from gridops.jobs.start import ELSEWHERE, Acknowledgement, start

__all__ = [
    "ELSEWHERE",
    "Acknowledgement",
    "JobSpec",
    "confirm",
    "diff",
    "directory_users",
    "kill",
    "kill_with_retry",
    "list_jobs",
    "new_id",
    "prune",
    "readable",
    "seed_tree",
    "show",
    "start",
    "status",
    "stay",
    "tree_users",
    "whoami",
]
