"""Errors: one class a cause; each says where, what next and what may be done, and pickles."""

from __future__ import annotations

import copy
import importlib
import pickle
import pkgutil

import pytest

import gridops
from gridops import errors
from gridops.dispatch.candidates import NoneAble
from gridops.errors import GridError, InventoryError, PartialTransfer, UnknownNameError, UsageError
from gridops.reach import fabric_compat
from gridops.sandbox.server import PortTaken


def below(cls: type[GridError]) -> set[type[GridError]]:
    return {cls}.union(*(below(one) for one in cls.__subclasses__()))


def made(cls: type[GridError]) -> GridError:
    """One of each, with everything set that it can have."""
    if cls is UnknownNameError:
        return UnknownNameError("node", "gpu9", [f"gpu{n}" for n in range(3)])
    if cls is InventoryError:
        return InventoryError("bad", file="i.yaml", line=3, key="nodes.a", hint="do")
    if cls is PartialTransfer:
        return PartialTransfer("lost", files=["a", "b"], node="gpu1", hint="do")
    if cls is errors.ClusterFailures:
        return errors.ClusterFailures("two failed", hint="do")
    return cls("it broke", node="gpu1", hint="do this")


# Those of the foundations; a room's own errors are tested there.
CLASSES = sorted(
    (one for one in below(GridError) if one.__module__ == errors.__name__),
    key=lambda one: one.__name__,
)
TRANSIENT, A_PERSON, NEXT_NODE = "transient", "needs_a_person", "try_next_node"
# What may be done about an error; each class has a line, so that a new one has to decide.
POLICY: dict[type[GridError], set[str]] = {
    GridError: set(),
    UsageError: set(),
    UnknownNameError: set(),
    InventoryError: set(),
    errors.ReachError: {NEXT_NODE},
    errors.ConnectTimeout: {TRANSIENT, NEXT_NODE},
    errors.ConnectRefused: {TRANSIENT, NEXT_NODE},
    errors.ConnectDropped: {TRANSIENT, NEXT_NODE},
    errors.ConnectionLost: {TRANSIENT, NEXT_NODE},
    errors.SessionRefused: {TRANSIENT, NEXT_NODE},
    errors.HostUnknown: {NEXT_NODE},
    errors.HostKeyUnknown: {A_PERSON, NEXT_NODE},
    errors.HostKeyChanged: {A_PERSON, NEXT_NODE},
    errors.AuthenticationFailed: {A_PERSON, NEXT_NODE},
    fabric_compat.FabricTimeout: {TRANSIENT, NEXT_NODE},
    fabric_compat.FabricRefused: {TRANSIENT, NEXT_NODE},
    fabric_compat.FabricHostUnknown: {NEXT_NODE},
    fabric_compat.FabricHostKeyUnknown: {A_PERSON, NEXT_NODE},
    fabric_compat.FabricHostKeyChanged: {A_PERSON, NEXT_NODE},
    fabric_compat.FabricAuthenticationFailed: {A_PERSON, NEXT_NODE},
    errors.NodeError: {NEXT_NODE},
    errors.NodeTimeout: {NEXT_NODE},
    errors.ProcessKilled: {NEXT_NODE},
    errors.PortClosed: {NEXT_NODE},
    errors.ForwardingForbidden: {NEXT_NODE},
    errors.UnreadableAnswer: {NEXT_NODE},
    errors.ProbeError: {NEXT_NODE},
    errors.SyncError: {NEXT_NODE},
    errors.TransferLost: {TRANSIENT, NEXT_NODE},
    PartialTransfer: {NEXT_NODE},
    errors.SourceUnreadable: set(),
    errors.NoRsync: {NEXT_NODE},
    errors.DiskFull: {NEXT_NODE},
    errors.NotWritable: {NEXT_NODE},
    errors.UnmarkedTarget: {NEXT_NODE},
    errors.UnsafeTarget: {NEXT_NODE},
    errors.NoNode: set(),
    NoneAble: set(),
    errors.RunTimeout: set(),
    errors.OutputError: set(),
    errors.SandboxError: set(),
    PortTaken: set(),
    errors.StoreError: set(),
    errors.ServeError: set(),
    errors.JobError: set(),
    errors.NotStarted: {NEXT_NODE},
    errors.StartUnknown: set(),
    errors.JobUnreachable: set(),
    errors.RunLost: set(),
    errors.UnreadableRecord: set(),
    errors.NoJob: set(),
    errors.RayJobError: set(),
    errors.RayUnavailable: {TRANSIENT},
    errors.NoRayJob: set(),
    errors.ClusterError: set(),
    errors.ClusterDown: set(),
    errors.ClusterFailures: set(),
}
every = pytest.mark.parametrize("cls", CLASSES)


@every
@pytest.mark.parametrize("again", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy])
def test_it_survives_pickling_with_all_it_knows(cls, again):
    error = made(cls)
    back = again(error)
    assert type(back) is cls
    assert str(back) == str(error)
    assert vars(back) == vars(error)


@every
def test_it_is_one_line_with_an_exit_status(cls):
    error = made(cls)
    assert "\n" not in str(error)
    assert error.exit_status in (1, 2, 124, 125)
    assert cls.__doc__
    own = {"exit_status", TRANSIENT, A_PERSON, NEXT_NODE}
    assert {name for name in vars(cls) if not name.startswith("_")} <= own
    assert isinstance(error, GridError)


@pytest.mark.parametrize("cls", POLICY, ids=lambda cls: cls.__name__)
def test_its_class_says_what_may_be_done_about_it(cls):
    told = {name: getattr(cls, name) for name in (TRANSIENT, A_PERSON, NEXT_NODE)}
    assert told == {name: name in POLICY[cls] for name in told}


def test_every_error_of_the_package_has_decided():
    for module in pkgutil.walk_packages(gridops.__path__, "gridops."):
        importlib.import_module(module.name)
    package = {cls for cls in below(GridError) if cls.__module__.startswith("gridops.")}
    assert package == set(POLICY)


def test_it_says_where_what_and_what_next():
    assert str(GridError("it broke", node="gpu1", hint="fix it")) == "gpu1: it broke (fix it)"
    assert str(GridError("it broke")) == "it broke"


def test_what_the_user_typed_wrong_ends_with_2_and_the_rest_with_125():
    typed = below(UsageError)
    assert {cls.exit_status for cls in typed} == {2}
    own = {errors.RunTimeout, errors.NoJob, errors.NoRayJob}
    assert {cls.exit_status for cls in set(CLASSES) - typed - own} == {125}
    assert errors.RunTimeout.exit_status == 124


def test_an_unknown_name_lists_the_valid_ones_but_not_hundreds():
    few = UnknownNameError("tag", "gpx", ["cpu", "gpu"])
    assert str(few) == "unknown tag 'gpx' (did you mean gpu? valid: cpu, gpu)"
    many = str(UnknownNameError("node", "x", [f"n{number}" for number in range(1000)]))
    assert many.endswith("n11, …)")
    assert str(UnknownNameError("node", "x", [])).endswith("(valid: none)")


def test_an_inventory_error_points_at_file_line_and_key():
    assert str(InventoryError("not a number", file="i.yaml", line=4, key="ssh.persist")) == (
        "i.yaml:4:ssh.persist: not a number"
    )
