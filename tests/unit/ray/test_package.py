"""A project tree as the package of a Ray job."""

from __future__ import annotations

import os
import random
import stat
import subprocess
import zipfile
from pathlib import Path

import pytest

from gridops.errors import SourceUnreadable, UsageError
from gridops.inventory.settings import SyncSettings
from gridops.ray import package
from gridops.ray.package import make_package
from gridops.transfers.sync import list_tree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "project"
    (path / "src").mkdir(parents=True)
    (path / "train.py").write_text("print(1)\n")
    (path / "src/run.sh").write_text("#!/bin/sh\n")
    (path / "src/run.sh").chmod(0o755)
    return path


def contents(root: Path) -> dict[str, bytes]:
    with make_package(list_tree(root, SyncSettings())) as one, zipfile.ZipFile(one.file) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def name_of(root: Path) -> str:
    with make_package(list_tree(root, SyncSettings())) as one:
        return one.name


def test_it_holds_gits_files_and_nothing_else(root: Path) -> None:
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    (root / ".gitignore").write_text("*.bin\n")
    (root / "big.bin").write_bytes(b"x" * 1000)
    assert set(contents(root)) == {".gitignore", "src/run.sh", "train.py"}


def test_contents_and_modes_arrive(root: Path) -> None:
    with make_package(list_tree(root, SyncSettings())) as one, zipfile.ZipFile(one.file) as archive:
        assert archive.read("train.py") == b"print(1)\n"
        assert stat.S_IMODE(archive.getinfo("src/run.sh").external_attr >> 16) == 0o755
        assert stat.S_ISREG(archive.getinfo("src/run.sh").external_attr >> 16)
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert (one.files, one.bytes) == (2, one.file.seek(0, os.SEEK_END))


def test_it_is_open_at_its_beginning(root: Path) -> None:
    with make_package(list_tree(root, SyncSettings())) as one:
        assert len(one.file.read()) == one.bytes


def test_the_same_tree_has_the_same_name_whatever_its_times(root: Path) -> None:
    before = name_of(root)
    os.utime(root / "train.py", (1, 1))
    assert name_of(root) == before
    assert before.startswith("_ray_pkg_")
    assert before.endswith(".zip")


@pytest.mark.parametrize("change", ["content", "name", "mode"])
def test_another_tree_has_another_name(root: Path, change: str) -> None:
    before = name_of(root)
    if change == "content":
        (root / "train.py").write_text("print(2)\n")
    elif change == "name":
        (root / "train.py").rename(root / "train2.py")
    else:
        (root / "train.py").chmod(0o755)
    assert name_of(root) != before


def test_an_empty_directory_arrives(root: Path) -> None:
    (root / "outputs").mkdir()
    assert "outputs/" in contents(root)


def test_symlinks_arrive_as_what_they_lead_to(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("far\n")
    (root / "link").symlink_to("train.py")
    (root / "far").symlink_to(tmp_path / "outside")
    (root / "also").symlink_to("src")
    found = contents(root)
    assert found["link"] == b"print(1)\n"
    assert found["far"] == b"far\n"
    assert found["also/run.sh"] == b"#!/bin/sh\n"


def test_what_cannot_travel_is_said(root: Path, tmp_path: Path, warnings: list[str]) -> None:
    (root / "dangling").symlink_to("nowhere")
    (root / "data").symlink_to(tmp_path)
    (root / "back\\slash").touch()
    (root / "C:name").touch()
    bad = os.fsencode(root) + b"/bad\xff"
    Path(os.fsdecode(bad)).touch()
    assert set(contents(root)) == {"src/run.sh", "train.py"}
    (said,) = [one for one in warnings if "Ray" in one]
    assert "and 2 more" in said


def test_a_loop_of_symlinks_ends(root: Path) -> None:
    (root / "src/up").symlink_to("..")
    (root / "self").symlink_to("self")
    assert set(contents(root)) == {"src/run.sh", "train.py"}


def test_too_much_is_refused_with_the_biggest_files(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package, "MAX_PACKAGE", 1024 * 1024)
    noise = random.Random(1).randbytes(1024 * 1024)
    (root / "small.bin").write_bytes(noise[:300_000])
    (root / "zz-huge.bin").write_bytes(noise + noise)
    with pytest.raises(UsageError) as caught, make_package(list_tree(root, SyncSettings())):
        pass
    assert "over 1 MiB" in caught.value.message
    assert "zz-huge.bin 2.1 MB, small.bin 0.3 MB" in caught.value.message
    assert "--shared" in caught.value.hint


def test_what_compresses_well_may_be_more_than_the_limit(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package, "MAX_PACKAGE", 1024 * 1024)
    (root / "zeros").write_bytes(bytes(4 * 1024 * 1024))
    assert len(contents(root)["zeros"]) == 4 * 1024 * 1024


def test_a_file_that_cannot_be_read_is_named(root: Path) -> None:
    tree = list_tree(root, SyncSettings())
    (root / "train.py").unlink()
    (root / "train.py").mkdir()  # which root cannot read either
    with pytest.raises(SourceUnreadable, match=r"train\.py"), make_package(tree):
        pass


def test_a_file_that_is_deleted_meanwhile_is_left_out(root: Path) -> None:
    tree = list_tree(root, SyncSettings())
    (root / "train.py").unlink()
    with make_package(tree) as one:
        assert zipfile.ZipFile(one.file).namelist() == ["src/run.sh"]
