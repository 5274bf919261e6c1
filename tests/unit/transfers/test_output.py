"""What rsync prints is understood."""

from __future__ import annotations

from gridops.transfers.names import printable, unescape
from gridops.transfers.output import Output, Transfer
from gridops.transfers.program import in_batches


def read(*chunks: bytes) -> Transfer:
    output = Output()
    for chunk in chunks:
        output(chunk)
    return output.result()


def test_new_and_changed_files_are_told_apart():
    seen = read(
        b"=<f+++++++++ new\n=cd+++++++++ dir/\n=<f.st...... changed\n=.f...p..... mode\n"
        b"=cL+++++++++ link\n=cLc.t...... link2\n"
    )
    assert seen.added == (b"new", b"dir/", b"link")
    assert seen.changed == (b"changed", b"mode", b"link2")
    assert seen.files == (b"new", b"changed")


def test_a_receiving_side_prints_the_other_arrow():
    assert read(b"=>f+++++++++ new\n").files == (b"new",)


def test_names_keep_their_bytes_spaces_and_look_alikes():
    seen = read(
        b"=<f+++++++++  lead sp \n=<f+++++++++ bad\\#377\\#012x\n=<f+++++++++ esc\\#134#012x\n"
        b"=<f+++++++++ back\\slash\n=<f+++++++++ 1,234 45% x\n=<f+++++++++ Total bytes sent: 9\n"
    )
    assert seen.added == (
        b" lead sp ",
        b"bad\xff\nx",
        b"esc\\#012x",
        b"back\\slash",
        b"1,234 45% x",
        b"Total bytes sent: 9",
    )
    assert seen.bytes == 0


def test_progress_and_totals_are_read_in_the_midst_of_it():
    steps: list[tuple[int, int]] = []
    output = Output(lambda percent, count: steps.append((percent, count)))
    output(b"=<f+++++++++ a\n\r         32,768   1%    0.00kB/s    0:00:00 (xfr#1, to-ch")
    output(b"k=0/1)\r      3,000,000 100%  286.10MB/s    0:00:00\n\nTotal bytes sent: 1,001,234\n")
    output(b"Total bytes received: 31\n\nsent 5 bytes  received 31 bytes  72.00 bytes/sec\n")
    assert steps == [(1, 32768), (100, 3000000)]
    assert output.result() == Transfer(added=(b"a",), files=(b"a",), bytes=1001265)


def test_special_files_and_deletions_are_no_transfers():
    seen = read(b'skipping non-regular file "pipe"\n=*deleting   gone\n')
    assert seen == Transfer(skipped=(b"pipe",))


def test_a_name_for_people_is_one_harmless_line():
    assert printable("ünï cöde".encode()) == "ünï cöde"
    assert printable(b"new\nline\x1b[31m\xff") == "new\\nline\\x1b[31m\\xff"
    assert unescape(b"\\#012") == b"\n"


def test_sources_go_in_as_few_command_lines_as_hold_them():
    names = [b"x" * 11] * 10  # 20 bytes each with their end and pointer
    assert [len(batch) for batch in in_batches(names, 60)] == [3, 3, 3, 1]
    assert [len(batch) for batch in in_batches(names, 1)] == [1] * 10
    assert [name for batch in in_batches(names, 60) for name in batch] == names
