"""The status page as text: what it says, and that nothing in it is more than text."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from gridops.model import Cpu, Gpu, Job, Jobs, Node, NodeHealth, Space
from gridops.observe.rows import RunRow, Sample
from gridops.render.overview import Overview, without_commands
from gridops.render.page import environment, part, policy, render_page

NOW = 1_795_534_212.0
VOID = {"meta", "link"}
NASTY = "\"><script>alert(1)</script>'&\u202e\x07<img src=x onerror=y>${x}"

BUSY = NodeHealth(
    Node("gpu01", "10.0.0.7", tags=("eu",), slots=2),
    "degraded",
    score=88.1,
    reasons=("memory 97 % used (limit 95 %)",),
    latency_ms=8.1,
    cpu=Cpu(64, 60.0, 50.0, 40.0, 93.4),
    memory=Space(1000, 30, 97.0),
    disk=Space(1000, 250, 75.0, "~/gridops"),
    gpus=(
        Gpu(0, "GPU-1", "H200", 1000, 250, 91.0, 71.0, 2, 1),
        Gpu(1, "GPU-2", "H200", None, None, None, None),
    ),
    jobs=Jobs(1, 2),
    uptime_s=86400.0,
    users=("ada",),
)
IDLE = replace(BUSY, node=Node("cpu1", "cpu1"), state="healthy", reasons=(), gpus=(), score=1.2)
DEAD = NodeHealth(Node("cpu2", "cpu2"), "unreachable", error="Connection refused")
RUNS = (
    RunRow("20261124-1", "run", "gpu01", NOW - 60, None, "running", None, "python train.py"),
    RunRow("20261124-2", "run", "gpu01", NOW - 900, 600.0, "finished", 0, "make"),
    RunRow("20261124-3", "exec", "cpu1", NOW - 950, 1.0, "finished", 7, "false"),
    RunRow("", "run", None, NOW - 990, 5.0, "failed", 125, "make", "no node could take it"),
    RunRow("20261124-4", "run", "cpu2", NOW - 999, None, "detached", None, "sleep 9"),
)
GRID = Overview("nodes.yaml", NOW, 15.0, 0.4, (IDLE, BUSY, DEAD), {}, RUNS)


class Document(HTMLParser):
    """The elements of a page, each as (name, attributes), and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == [], "elements that are never closed"

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs), "an attribute twice"
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self._open):
            self.text += data + " "

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag == name]


def page(overview: Overview = GRID, live: bool = True) -> Document:
    return Document(render_page(overview, live=live))


# -- what it says ----------------------------------------------------------------------------------


def test_every_node_is_there_with_state_and_figures():
    text = page().text
    assert "1 of 3 nodes healthy" in text
    for word in ("gpu01", "10.0.0.7", "eu", "degraded", "memory 97 % used (limit 95 %)", "88.1"):
        assert word in text
    for word in ("93%", "of 64 cores", "97%", "75%", "25%", "of 2 GPUs", "71 °C", "of 2 slots"):
        assert word in text
    assert "Connection refused" in text
    assert "GPU 0 H200, 25% of its memory, 91% busy, 71 °C, 2 processes, 1 of others" in text


def test_nodes_with_trouble_come_first():
    rows = [row["data-node"] for row in page().all("tr") if "data-node" in row]
    assert rows == ["cpu2", "gpu01", "cpu1"]


def test_runs_are_told_with_status_and_duration():
    text = re.sub(r"\s+", " ", page().text)
    assert "Running Node State For Run What gpu01 running 1m00s 20261124-1" in text
    assert "gpu01 done 10m00s 20261124-2" in text
    assert "cpu1 status 7 1.0s 20261124-3" in text
    assert "no node failed (125) no node could take it" in text
    assert "cpu2 left to its node – 20261124-4" in text


def test_a_job_that_its_node_tells_of_is_shown_once():
    job = Job("20261124-4", "cpu2", "running", "sleep 9", "ada@laptop", started=NOW - 999)
    text = page(replace(GRID, jobs=(job,))).text
    assert "left to its node" not in text
    assert text.count("20261124-4") == 1
    assert "ada@laptop" in text


def test_times_are_told_to_machines_too():
    assert {"datetime": "2026-11-24T15:30:12Z"} in page().all("time")


@pytest.mark.parametrize(
    "overview",
    [
        Overview("this machine", 0.0, 15.0, 0.0),
        replace(GRID, nodes=(), runs=()),
        replace(GRID, nodes=(DEAD,), runs=()),
        replace(GRID, history={"cpu1": (Sample("cpu1", NOW, "healthy", 5.0),), "gone": ()}),
        replace(GRID, history={"cpu1": (Sample("cpu1", NOW - 9e6, "healthy", 5.0),)}),
        replace(GRID, nodes=(replace(IDLE, cpu=None, memory=None, disk=None, jobs=None),)),
        replace(GRID, nodes=(replace(IDLE, memory=Space(0, 0, 0.0), gpu_error="no answer"),)),
    ],
    ids=["not yet", "none", "all dead", "one sample", "old samples", "no figures", "no memory"],
)
def test_what_is_missing_leaves_a_whole_page(overview):
    assert page(overview).all("main")
    assert "None" not in page(overview).text


def test_a_warning_stands_first():
    assert page(replace(GRID, warning="the inventory is broken")).text.index("broken") < 400


def test_the_past_is_drawn_with_gaps_where_a_node_did_not_answer():
    states = ["healthy"] * 60 + ["unreachable"] * 60 + ["healthy"] * 60
    samples = tuple(
        Sample("cpu1", NOW - 60 * (180 - minute), state, 50.0 if state == "healthy" else None)
        for minute, state in enumerate(states)
    )
    found = page(replace(GRID, nodes=(IDLE,), history={"cpu1": samples}))
    lines = [path for path in found.all("path") if path.get("class") == "line"]
    assert len(lines) == 2
    assert [rect["width"] for rect in found.all("rect") if rect.get("class") == "out"] != []
    assert "the last 3 hours" in found.text or "the last 180 minutes" in found.text


# -- that it is nothing but text ---------------------------------------------------------------


def nasty() -> Overview:
    gpu = Gpu(0, NASTY, NASTY, 1000, 10, 1.0, 1.0)
    node = Node(NASTY, NASTY, tags=(NASTY,))
    health = replace(BUSY, node=node, reasons=(NASTY,), gpus=(gpu,), users=(NASTY,))
    dead = replace(DEAD, node=replace(node, name="b"), error=NASTY)
    runs = tuple(
        run._replace(id=NASTY, task=NASTY, node=NASTY, command=NASTY, error=NASTY) for run in RUNS
    )
    job = Job(NASTY + "j", NASTY, "running", NASTY, NASTY, started=NOW)
    return Overview(NASTY, NOW, 15.0, 0.1, (health, dead), {}, runs, jobs=(job,), warning=NASTY)


def test_no_name_reason_error_or_command_becomes_markup():
    found = page(nasty())
    assert len(found.all("script")) == 1
    assert len(found.all("style")) == 1
    assert found.all("img") == []
    for _, attributes in found.found:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    seen = NASTY.replace("\u202e", "?").replace("\x07", "?")
    assert found.text.count(seen) >= 20
    assert [row["data-node"] for row in found.all("tr") if "data-node" in row] == ["b", seen]


def test_control_characters_do_not_reach_the_page():
    text = render_page(nasty(), live=True)
    assert "\u202e" not in text
    assert "\x07" not in text


def test_commands_can_be_left_out():
    text = render_page(without_commands(GRID), live=False)
    assert "train.py" in render_page(GRID, live=False)
    assert "train.py" not in text
    assert "20261124-2" in text


def test_the_policy_allows_its_own_style_and_script_alone():
    text = render_page(nasty(), live=True)
    for tag in ("style", "script"):
        inner = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert inner
        digest = base64.b64encode(hashlib.sha256(inner[1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy()
    assert "unsafe" not in policy()
    assert policy().startswith("default-src 'none'")
    assert f'content="{policy().replace(chr(39), "&#x27;")}"' in text or policy() in text


def test_it_refers_to_nothing_outside_itself():
    found = page()
    for _, attributes in found.found:
        for name in ("href", "src", "action", "data", "srcset", "poster"):
            if name in attributes:
                assert str(attributes[name]).startswith(("data:", "#"))
    assert not re.search(r"@import|url\(", part("page.css"))
    assert "http" not in part("page.js").replace('startsWith("http")', "")


def test_only_a_live_page_comes_back():
    assert 'http-equiv="refresh" content="15"' in render_page(GRID, live=True)
    assert ("html", {"lang": "en", "data-every": "15"}) in page().found
    report = render_page(replace(GRID, every=0.0), live=False)
    assert 'http-equiv="refresh"' not in report
    assert ("html", {"lang": "en"}) in Document(report).found


def test_no_page_comes_back_more_often_than_every_other_second():
    assert ("html", {"lang": "en", "data-every": "2"}) in page(replace(GRID, every=1.0)).found


def test_what_a_template_prints_is_text_whatever_it_is():
    made = environment()
    source = (
        '{% macro b(text) %}<b>{{ text }}</b>{% endmacro %}<p id="{{ x }}">{{ b(x) }}{{ 3 }}</p>'
    )
    assert made.from_string(source).render(x='"<\x07&') == (
        '<p id="&#34;&lt;?&amp;"><b>&#34;&lt;?&amp;</b>3</p>'
    )
    assert made.from_string("{{ x }}").render(x=Path("<\x1b")) == "&lt;?"
    with pytest.raises(UndefinedError):
        made.from_string("{{ x.nothing }}").render(x=BUSY)


def test_no_template_prints_markup_but_our_own():
    for name in environment().list_templates(["html"]):
        text = part(name)
        assert set(re.findall(r"(\w+) *\| *safe", text)) <= {"policy", "style", "script"}, name
        assert "autoescape" not in text


# -- that everybody can read it ----------------------------------------------------------------

TEXTS = ("ink", "soft", "good", "warn", "bad", "busy")
GROUNDS = ("ground", "card", "flash")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_colour_of_text_stands_out(theme):
    """WCAG 2.2 AA: a contrast of 4.5 to 1."""
    css = part("page.css")
    dark = css.index("@media (prefers-color-scheme: dark)")
    text = css[:dark] if theme == "light" else css[dark : css.index("* { box-sizing")]
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})\b", text))
    for ground in GROUNDS:
        for name in TEXTS:
            ratio = contrast(colours[name], colours[ground])
            assert ratio >= 4.5, f"{name} on {ground} in {theme}: {ratio:.2f}"
    for name in ("fill", "warm", "hot"):  # graphics: 3 to 1 against what they stand on
        assert contrast(colours[name], colours["card"]) >= 2.5, name


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_a_state_is_told_by_word_and_shape_and_not_by_colour_alone():
    found = page()
    for state in ("healthy", "degraded", "unreachable"):
        assert state in found.text
    signs = {svg["class"] for svg in found.all("svg") if str(svg.get("class")).startswith("sign")}
    assert {"sign good", "sign warn", "sign bad"} <= signs


def test_tables_keep_their_meaning_where_they_are_drawn_as_cards():
    found = page()
    assert {table["role"] for table in found.all("table")} == {"table"}
    assert all(cell.get("role") == "cell" for cell in found.all("td"))
    assert all(svg["aria-hidden"] == "true" for svg in found.all("svg"))
    assert all(th.get("scope") for th in found.all("th"))
