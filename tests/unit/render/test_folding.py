"""Tables of more nodes than anybody reads one by one."""

from __future__ import annotations

from gridops.model import Cpu, Gpu, Jobs, Node, NodeHealth, Space, SyncReport
from gridops.render import folding


def healthy(number: int, **changed: object) -> NodeHealth:
    known = {
        "score": float(number),
        "cpu": Cpu(8, 1.0, 1.0, 1.0, 5.0),
        "memory": Space(100, 50, 50.0),
        "jobs": Jobs(1, 2),
    }
    return NodeHealth(Node(f"n{number}", f"n{number}"), "healthy", **{**known, **changed})  # type: ignore[arg-type]


def ill(number: int, reason: str) -> NodeHealth:
    return NodeHealth(Node(f"n{number}", "x"), "degraded", score=99.0, reasons=(reason,))


def dead(number: int, error: str) -> NodeHealth:
    return NodeHealth(Node(f"n{number}", "x"), "unreachable", error=error)


def test_a_thousand_nodes_are_a_row_for_each_state_and_reason() -> None:
    found = [healthy(number) for number in range(1, 901)]
    found += [dead(number, "no answer within 5 s") for number in range(901, 951)]
    found += [ill(number, f"memory {number % 5 + 95} % used") for number in range(951, 1001)]
    assert folding.health_rows(found) == [
        ("healthy", "900", "1.0 … 450.5 … 900.0", "-", "900/1800", "-", "n[1-900]"),
        ("degraded", "50", "99.0", "-", "-", "such as: memory 96 % used", "n[951-1000]"),
        ("unreachable", "50", "-", "-", "-", "no answer within 5 s", "n[901-950]"),
    ]


def test_gpus_are_counted_over_all_nodes() -> None:
    free = Gpu(0, "a", "H200", 100, 0, None, None)
    taken = Gpu(1, "b", "H200", 100, 0, None, None, processes=1)
    (row,) = folding.health_rows([healthy(1, gpus=(free, taken)), healthy(2, gpus=(free,))])
    assert row[3] == "1/3"


def test_rare_reasons_share_a_row() -> None:
    words = [chr(ord("a") + number) * 3 for number in range(folding.MAX_KINDS + 3)]
    rows = folding.health_rows([dead(number, word) for number, word in enumerate(words)])
    assert len(rows) == folding.MAX_KINDS + 1
    assert rows[-1][1:6] == ("3", "-", "-", "-", "3 other reasons")


def test_what_a_node_says_cannot_steer_the_terminal_and_long_notes_are_cut() -> None:
    (row,) = folding.health_rows([dead(1, "\x1b[2J" + "x" * 500)])
    assert "\x1b" not in row[5]
    assert len(row[5]) == folding.MAX_NOTE


def test_nodes_to_which_the_same_came_are_a_row() -> None:
    def report(number: int, files: int, size: int) -> SyncReport:
        return SyncReport(Node(f"n{number}", "x"), "/s", "/t", files, size, 0.1 * number, 10)

    rows = folding.sync_rows([report(1, 10, 500), report(2, 10, 700), report(3, 1, 70)])
    assert rows == [
        ("2", "10 of 10", "700 B", "0", "0.20", "/t", "n[1-2]"),
        ("1", "1 of 10", "70 B", "0", "0.30", "/t", "n3"),
    ]
