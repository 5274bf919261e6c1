"""Grid's part for durable runs: find them, come back to them, end them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gridops.errors import JobError
from gridops.grid.base import GridBase, report_end
from gridops.model import Job, Node, Outcome
from gridops.observe import events

if TYPE_CHECKING:
    from gridops.reach.link import Link
    from gridops.reach.pump import Sinks
    from gridops.transfers.fetch import FetchReport

KILL_RETRY_TIMEOUT = (
    30.0  # seconds in which a node that cannot be reached is tried again to end a run
)
PRUNE_TIMEOUT = 600.0  # seconds that deleting much output may take


class JobsMixin(GridBase):
    """Operations on the runs of an inventory's nodes.

    They work from any machine that has the inventory.
    """

    def jobs(self, nodes: Sequence[Node] | None = None) -> Iterator[Outcome[tuple[Job, ...]]]:
        """Each node's runs, as it tells of them, oldest first."""
        from gridops.jobs import client, lookup

        for told in lookup.ask_all(self._all(nodes), self.settings.ssh, client.list_jobs):
            for job in told.value or ():
                report_end(job)
            yield told

    def find_job(
        self, name: str, nodes: Sequence[Node] | None = None, *, certain: bool = False
    ) -> Job:
        """Find a run by an id, or an id's beginning or end.

        `@last` is the newest. Raises NoJob, UsageError when several are, JobUnreachable when a node
        that may know it cannot be asked; with `certain` also when that node may have another that
        is meant.
        """
        from gridops.jobs import lookup

        return lookup.find(self._all(nodes), self.settings.ssh, name, certain=certain)

    def find_job_in_time(
        self, name: str, nodes: Sequence[Node] | None = None, *, timeout: float | None = None
    ) -> Job:
        """Find a run as `find_job` does, with retries.

        While only nodes out of reach may know an id in full, it asks again.

        Raises RunTimeout after `timeout` seconds.
        """
        from gridops.jobs import lookup

        return lookup.find_with_retry(self._all(nodes), self.settings.ssh, name, timeout=timeout)

    def show_job(self, job: Job) -> Job:
        """The run as it is now, with its whole command."""
        from gridops.jobs import client, outcome

        return report_end(client.show(self._link(outcome.readable(job)), job.id))

    def job_diff(self, job: Job) -> bytes:
        """The uncommitted changes of its tree, as `git apply` takes them; b"" when none are kept.

        Raises a ReachError.
        """
        from gridops.jobs import client, outcome

        return client.diff(self._link(outcome.readable(job)), job.id)

    def logs(
        self,
        job: Job,
        output: Sinks,
        *,
        follow: bool = False,
        tail: int | None = None,
        only_stderr: bool = False,
    ) -> Job:
        """Hand on the run's output, with `follow` until it ends; the run as it is then.

        `only_stderr`: its stderr alone, to `output.stdout`. Raises JobUnreachable, NoJob.
        """
        from gridops.jobs import logs, outcome

        out, err = (None, output.stdout) if only_stderr else (output.stdout, output.stderr)
        link = self._link(outcome.readable(job))
        end = logs.logs(link, job.id, on_stdout=out, on_stderr=err, live=follow, tail=tail)
        return report_end(end.job)

    def wait(self, job: Job, timeout: float | None = None, *, since: float | None = None) -> Job:
        """The run, once it has ended. Raises JobUnreachable, RunTimeout after `timeout` seconds.

        They count from `since` (as `time.monotonic` tells it; default: now).
        """
        from gridops.jobs import logs, outcome

        link = self._link(outcome.readable(job))
        return report_end(logs.wait(link, job.id, timeout=timeout, since=since))

    def kill(self, job: Job) -> Job:
        """End the run and its process tree; the run as it is then. Raises JobUnreachable."""
        from gridops.jobs import client

        return report_end(
            client.kill_with_retry(self._link(job), job.id, give_up_after=KILL_RETRY_TIMEOUT)
        )

    def fetch(
        self,
        job: Job,
        patterns: Sequence[str],
        into: str | Path = ".",
        *,
        overwrite: bool = False,
    ) -> FetchReport:
        """Bring the run's files that match the patterns to `into`.

        Each file of the run's directory comes to the same place. A file here that is newer and
        differs is kept, unless `overwrite`. Raises JobError for a run that never began, and what
        `gridops.transfers.fetch.fetch_results` raises.
        """
        from gridops.dispatch import results
        from gridops.jobs import outcome

        if not outcome.readable(job).began:
            raise JobError(f"the run {job.id} has not begun: it has no results", node=job.node)
        with events.bound(run_id=job.id):
            return results.collect(
                self._link(job), job, tuple(patterns), Path(into), self.settings,
                overwrite=overwrite,
            )  # fmt: skip

    def bring_home(
        self,
        job: Job,
        status: int,
        patterns: Sequence[str],
        into: str | Path = ".",
        *,
        overwrite: bool = False,
    ) -> int:
        """`fetch` the results of a run that ended with `status`; the exit status for both.

        That is the run's own, but 125 for a success whose results did not come home.
        """
        from gridops.dispatch import results

        return results.exit_status_with_results(
            status, job, lambda: self.fetch(job, patterns, into, overwrite=overwrite)
        )

    def prune(
        self, older_than: float, nodes: Sequence[Node] | None = None
    ) -> Iterator[Outcome[tuple[str, ...]]]:
        """Forget the runs that ended over `older_than` seconds ago; the ids that went, by node."""
        from gridops.jobs import client, lookup

        ssh = self.settings.ssh
        return lookup.ask_all(
            self._all(nodes), ssh, lambda link: client.prune(link, older_than), limit=PRUNE_TIMEOUT
        )

    def _link(self, job: Job) -> Link:
        from gridops.reach import link_to

        return link_to(self.inventory.node(job.node), self.settings.ssh)
