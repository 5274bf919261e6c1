"""`cluster.submit`, `cluster.jobs`, `cluster.logs`, `cluster.stop-job`, `cluster.dashboard`."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gridops.errors import UsageError
from gridops.observe import events
from gridops.tasks import _parse
from gridops.tasks._task import INVENTORY, Call, format_flag, grid_task
from gridops.tasks._terminal import say, show, show_table, write_bytes

if TYPE_CHECKING:
    from gridops.ray.client import RayClient
    from gridops.ray.follow import Following
    from gridops.ray.jobsapi import RayJob

COMMAND_HELP = "the command, as shell text (or its words after --); `python` is the cluster's own"
JOB_ID_HELP = "the job's id, the beginning of one, or @last for the newest"
JOB_STOP_TIMEOUT = 15.0  # seconds that Ray may take to end a job
OWN_HELP = (
    "that the command itself needs, wherever in the cluster those are (default: run on the head)"
)


@grid_task(
    flags=INVENTORY,
    iterable=["env"],
    help={
        "cmd": COMMAND_HELP,
        "src": "the tree to send and run in (default: this directory)",
        "shared": "run in the tree that `inv sync` brought to every node; send nothing",
        "env": "NAME=VALUE to set for the command and all its workers; may be repeated",
        "num_cpus": f"CPUs {OWN_HELP}",
        "num_gpus": f"GPUs {OWN_HELP}",
        "memory": f"bytes of memory, such as 500M or 8G, {OWN_HELP}",
        "detach": "start the job, print its id and exit; `cluster.logs ID --follow` follows it",
    },
)
def submit(
    call: Call,
    cmd: str | None = None,
    src: str | None = None,
    shared: bool = False,
    env: Sequence[str] | None = None,
    num_cpus: str | None = None,
    num_gpus: str | None = None,
    memory: str | None = None,
    detach: bool = False,
) -> int:
    """Run a command on the Ray cluster, with the tree; exit with its status."""
    from gridops.ray.submit import ClusterSpec

    spec = ClusterSpec(
        command=_parse.command(cmd, "cluster.submit"),
        src=_parse.tree(src, "name it by --src"),
        shared=shared,
        env=_parse.environment(env or ()),
        num_cpus=_parse.amount(num_cpus, "num-cpus"),
        num_gpus=_parse.amount(num_gpus, "num-gpus"),
        memory=_parse.size(memory, "memory"),
    )
    with call.narrate(), call.grid.ray_jobs() as client:
        job = call.grid.submit(spec, client)
        if detach:
            show(job.id)
            return 0
        return _attend(client, job)


def _attend(client: RayClient, job: RayJob) -> int:
    """Follow the job; the first Ctrl-C stops it, a second one leaves it."""
    from gridops.ray.follow import Following
    from gridops.system.signals import cancel_on_signals

    following = Following(client, job, write_bytes(1))
    node = client.node

    def tell(name: str) -> None:
        say(f"{node}: asking the cluster to stop the job; Ctrl-C again leaves it")

    with cancel_on_signals(following.cancel, tell, (signal.SIGINT,)):
        return _follow(following)


def _follow(following: Following) -> int:
    from gridops.ray.outcome import describe_outcome, exit_status

    node, name = following.client.node, following.job.id
    try:
        job = following.to_the_end()
    except (KeyboardInterrupt, SystemExit, BrokenPipeError) as exc:  # a signal; a reader that left
        goes = "was told to stop" if following.cancel.reason else "goes on"
        say(f"{node}: left; the job {name} {goes} (`inv cluster.logs {name} --follow`)")
        if isinstance(exc, KeyboardInterrupt):
            return 130
        raise
    if said := describe_outcome(job):
        say(f"{node}: the job {name}: {said}")
    return exit_status(job, interrupted=following.cancel.reason is not None)


@grid_task(name="jobs", flags=(*INVENTORY, *format_flag("table", "json")))
def jobs_(call: Call) -> None:
    """List the cluster's jobs, oldest first: submitted ones and connected programs."""
    from gridops.render import cluster, documents, tables

    with call.grid.ray_jobs() as client:
        jobs, head, now = client.jobs.jobs(), client.node, time.time()
    if call.format == "json":
        show(documents.to_json(cluster.jobs_document(call.source, head, jobs, now)))
        return
    header, rows = cluster.CLUSTER_JOBS_HEADER, [cluster.job_row(job, now) for job in jobs]
    show_table(lambda: tables.align(header, rows), lambda: tables.table(header, rows))


@grid_task(
    flags=INVENTORY,
    short={"follow": "f"},
    help={"id": JOB_ID_HELP, "follow": "follow the job to its end and exit with its status"},
)
def logs(call: Call, id: str, follow: bool = False) -> int:
    """Print a job's output, stdout and stderr as one, byte for byte."""
    from gridops.ray.follow import Following

    with call.narrate(), call.grid.ray_jobs() as client:
        job = _find(client, id)
        if not job.submitted:
            raise UsageError(f"{job.id} was not submitted: Ray keeps no log of such programs")
        following = Following(client, job, write_bytes(1))
        if follow:
            return _follow(following)
        following.once()
        return 0


def _find(client: RayClient, text: str) -> RayJob:
    from gridops.ray.jobsapi import resolve_id

    return resolve_id(client.jobs.jobs(), text)


@grid_task(name="stop-job", flags=INVENTORY, help={"id": JOB_ID_HELP})
def stop_job(call: Call, id: str) -> int:
    """End a job's command with all its processes: TERM, and KILL after 3 seconds."""
    from gridops.ray.follow import ended
    from gridops.ray.outcome import describe_outcome

    with call.narrate(only=(events.WARNING,)), call.grid.ray_jobs() as client:
        job, node = _find(client, id), client.node
        if not job.submitted:
            raise UsageError(
                f"{job.id} was not submitted: end that program where it runs", hint=job.command
            )
        if not job.active or not client.jobs.stop(job.id):
            say(f"{node}: the job {job.id} had ended already")
            return 0
        job = ended(client, job, JOB_STOP_TIMEOUT)
    if job.active:
        say(f"{node}: the job {job.id} was told to end and has not yet")
        return 125
    say(f"{node}: the job {job.id}: {describe_outcome(job) or f'it ended as it {job.state}'}")
    return 0


@grid_task(
    flags=INVENTORY,
    help={"port": "the port of this machine (default: the dashboard's own, or a free one)"},
)
def dashboard(call: Call, port: str | None = None) -> int:
    """Forward a local port to Ray's dashboard and print its URL; until Ctrl-C."""
    from gridops.reach.tunnel import tunnel

    wanted = _parse.count(port, "port")
    with call.grid.ray_jobs() as client:
        client.jobs.version()  # whether it answers at all
        local = wanted or _free(client.facts.dashboard_port)
        try:
            with tunnel("127.0.0.1", local, lambda peer: client.stream()) as taken:
                _invite(client, taken)
                while True:
                    time.sleep(3600)
        except OSError as exc:
            raise UsageError(f"--port {local} cannot be opened here: {exc.strerror}") from exc
        except KeyboardInterrupt:
            return 0


def _invite(client: RayClient, port: int) -> None:
    show(f"http://127.0.0.1:{port}")
    say(
        f"forwarding to the dashboard on {client.node} until Ctrl-C; the page asks for"
        f" the cluster's token, which is in {client.facts.token_file} on this machine"
    )


def _free(port: int) -> int:
    """`port` if it is free here, else 0: any."""
    import socket

    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return 0
    return port
