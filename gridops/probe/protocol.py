"""The form of a node's answer to probe.sh: lines of a tag and a value, between "gridops-probe 1"
and "end".

A node may be broken or hostile: sizes are bounded, and no control character gets into anything that
is shown later. Unknown tags are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gridops.errors import ProbeError

GREETING = "gridops-probe 1"
END_WORD = "end"
MAX_ANSWER = 1024 * 1024  # bytes of an answer; eight GPUs take about ten thousand

Told = Mapping[str, Sequence[str]]


def read(answer: bytes) -> Told:
    """The values of each tag, in order. Raises ProbeError when the answer is not whole."""
    if len(answer) > MAX_ANSWER:
        raise ProbeError(f"its answer to the probe is longer than {MAX_ANSWER} bytes")
    greeting, *lines = answer.decode("utf-8", "replace").split("\n")
    if greeting != GREETING:
        if not answer.strip():
            raise ProbeError("it sent no answer to the probe")
        raise ProbeError(f"its answer to the probe makes no sense: {clean(greeting, 60)!r}")
    if END_WORD not in lines:
        raise ProbeError("its answer to the probe broke off")
    told: dict[str, list[str]] = {}
    for line in lines[: lines.index(END_WORD)]:
        tag, _, value = line.partition(" ")
        told.setdefault(tag, []).append(value)
    return told


def clean(text: str, limit: int = 200) -> str:
    """`text` fit for a terminal: printable, and at most `limit` characters."""
    return "".join(char for char in text[: 2 * limit] if char.isprintable()).strip()[:limit]
