"""Errors: one class a cause; each says where and what next, and survives pickling."""

from __future__ import annotations

import copy
import pickle

import pytest

from gridops import errors
from gridops.errors import GridError, InventoryError, PartialTransfer, UnknownNameError, UsageError


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
    return cls("it broke", node="gpu1", hint="do this")


# Those of the foundations; a room's own errors are tested there.
CLASSES = sorted(
    (one for one in below(GridError) if one.__module__ == errors.__name__),
    key=lambda one: one.__name__,
)
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
    assert cls.transient in (True, False)


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


@pytest.mark.parametrize(
    "cls",
    [
        errors.AuthenticationFailed,
        errors.HostKeyChanged,
        errors.HostKeyUnknown,
        errors.HostUnknown,
        errors.NodeError,
        errors.SyncError,
        UsageError,
    ],
)
def test_what_trying_again_cannot_help_is_not_transient(cls):
    assert not cls.transient
