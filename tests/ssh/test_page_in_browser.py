"""The status page in a browser: a grid that is served while a node dies and comes back, and the
page as a file."""

from __future__ import annotations

import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.browser import Browser, Page, browsing
from support.cli import BIN, Inventory, run
from support.nodes import wait_until

STATES = (
    "[...document.querySelectorAll('tr[data-node]')].map(r => [r.dataset.node, r.dataset.state])"
)


# What sticks out of its card.
OUTSIDE = """[...document.querySelectorAll('.card *')].filter(one =>
    one.getBoundingClientRect().right > one.closest('.card').getBoundingClientRect().right + 1
).map(one => one.outerHTML)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as made:
        yield made


@pytest.fixture
def page(browser: Browser) -> Page:
    """A tab of the test's own"""
    return browser.page()


@contextmanager
def served(inventory: Path) -> Iterator[str]:
    """The URL of an exporter, once it has looked at the nodes."""
    command = [str(BIN / "gridops"), "metrics.serve", "--port", "0", "--every", "1"]
    child = subprocess.Popen(
        [*command, "--inventory", str(inventory)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert child.stderr
        said = child.stderr.readline().decode()
        found = re.search(r"http://\S+/", said)
        assert found, said
        wait_until(lambda: b"node1" in urllib.request.urlopen(f"{found[0]}api/nodes").read())
        yield found[0]
        child.terminate()
        assert child.wait(20) == 0
    finally:
        child.kill()
        child.communicate()


def states(page: Page) -> dict[str, str]:
    return dict(page.evaluate(STATES))


def png_size(data: bytes) -> tuple[int, int]:
    assert data.startswith(b"\x89PNG")
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def test_the_page_shows_the_nodes_and_changes_when_one_dies_and_returns(
    page, make_sandbox, tmp_path
):
    made = make_sandbox(3)
    with served(Inventory(made, tmp_path / "nodes.yaml")()) as url:
        page.emulate()
        page.open(url)
        assert states(page) == dict.fromkeys(("node1", "node2", "node3"), "healthy")
        assert page.evaluate("document.querySelector('h1').textContent") == "3 of 3 nodes healthy"
        page.evaluate("document.querySelector('#node-node1 details').open = true")

        made.stop("node2")
        page.wait_for("document.querySelector('#node-node2').dataset.state == 'unreachable'")
        assert states(page) == {"node2": "unreachable", "node1": "healthy", "node3": "healthy"}
        assert list(states(page)) == ["node2", "node1", "node3"]
        row = "document.querySelector('#node-node2')"
        assert "Connection refused" in page.evaluate(f"{row}.textContent")
        assert page.evaluate(f"{row}.classList.contains('changed')")
        assert page.evaluate("document.title").startswith("2 of 3 nodes healthy")
        assert page.evaluate("document.querySelector('#news').textContent") == (
            "node2 is unreachable"
        )
        assert page.evaluate("document.querySelector('#node-node1 details').open")

        made.start("node2")
        page.wait_for("document.querySelector('#node-node2').dataset.state == 'healthy'")

        assert page.complaints == []
        ours = [one for one in page.requests if not one.startswith("data:")]
        assert set(ours) == {url}, "a request that leaves the page"
    page.wait_for("document.querySelector('#age').textContent.includes('no answer')")


def test_the_page_looks_right_everywhere(page, make_sandbox, tmp_path):
    """Nothing sticks out at any width, dark differs from light, and no script is needed."""
    made = make_sandbox(2)
    file = tmp_path / "grid.html"
    done = run(
        "gridops",
        "report",
        "--html",
        str(file),
        "--inventory",
        str(Inventory(made, tmp_path / "nodes.yaml")()),
    )
    assert done.status == 0, done.err
    address = file.as_uri()
    seen = len(page.requests)
    grounds = set()
    for dark in (False, True):
        for width in (320, 390, 820, 1280, 1920):
            page.emulate(width=width, height=900, dark=dark)
            page.open(address)
            assert page.evaluate("document.documentElement.scrollWidth") == width
            assert page.evaluate(OUTSIDE) == []
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2
    page.emulate(scripts=False)
    page.open(address)
    plain = page.screenshot(tmp_path / "plain.png")
    assert png_size(plain)[0] == 1280
    assert len(plain) > 20_000
    assert "2 of 2 nodes healthy" in file.read_text()
    assert page.complaints == []
    assert set(page.requests[seen:]) == {address}


def test_a_page_that_is_served_asks_for_a_refresh_where_no_script_runs(
    page, make_sandbox, tmp_path
):
    made = make_sandbox(1)
    with served(Inventory(made, tmp_path / "nodes.yaml")()) as url:
        page.emulate(scripts=False)
        page.open(url)
        before = len(page.requests)
        limit = time.monotonic() + 20
        while len(page.requests) == before:
            assert time.monotonic() < limit, "it did not come back by itself"
            time.sleep(0.2)
        assert page.requests[-1] == url
    page.emulate()
    assert page.complaints == []


def test_many_nodes_can_be_searched(page, tmp_path):
    from gridops.model import Node, NodeHealth
    from gridops.render.overview import Overview
    from gridops.render.page import render_page

    nodes = tuple(
        NodeHealth(Node(f"n{number:03}", "h"), "unreachable" if number == 7 else "healthy", 1.0)
        for number in range(300)
    )
    file = tmp_path / "many.html"
    file.write_text(render_page(Overview("x", time.time(), 0.0, 0.1, nodes), live=False))
    page.emulate()
    page.open(file.as_uri())
    visible = "[...document.querySelectorAll('tr[data-node]')].filter(r => !r.hidden).length"
    assert page.evaluate(visible) == 300
    for word, count in (("n01", 10), ("unreach", 1), ("N299", 1), ("nothing", 0), ("", 300)):
        page.evaluate(
            f"(f => {{ f.value = '{word}'; f.dispatchEvent(new Event('input')) }})"
            "(document.getElementById('find'))"
        )
        assert page.evaluate(visible) == count, word
    assert page.complaints == []


def test_nothing_that_a_node_or_a_command_says_runs_in_the_browser(page, tmp_path):
    from gridops.model import Node, NodeHealth
    from gridops.observe.rows import RunRow
    from gridops.render.overview import Overview
    from gridops.render.page import render_page

    evil = "\"'><img src=x onerror=document.title='owned'><script>document.title='owned'</script>"
    run_row = RunRow(evil, evil, evil, 1.0, 1.0, "finished", 1, f"</code>{evil}", evil)
    health = NodeHealth(Node(evil, evil, tags=(evil,)), "degraded", 1.0, reasons=(evil,))
    file = tmp_path / "evil.html"
    overview = Overview(evil, time.time(), 0.0, 0.1, (health,), {}, (run_row,), warning=evil)
    file.write_text(render_page(overview, live=False))
    page.open(file.as_uri())
    assert page.evaluate("document.title") == f"0 of 1 node healthy · {evil}"
    assert page.evaluate("document.images.length + document.scripts.length") == 1
    assert evil in page.evaluate("document.querySelector('.reasons, td ul').textContent")
    assert page.complaints == []
