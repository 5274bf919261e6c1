"""Markup in which nothing from outside can be anything but text."""

from __future__ import annotations

import html
from collections.abc import Iterable

from gridops.system.text import plain


class Html(str):
    """Markup: text that goes into an element as it is. Any other text is escaped."""

    __slots__ = ()


def markup(child: str) -> Html:
    """`child` as it is if markup, else escaped and without control characters."""
    return child if isinstance(child, Html) else Html(html.escape(plain(child)))


def joined(children: Iterable[str]) -> Html:
    return Html("".join(map(markup, children)))


def element(name: str, *children: str, **attributes: object) -> Html:
    """`<name attribute="value">children</name>`.

    In names of attributes `_` stands for `-`, and a last one is dropped (class_). An attribute that
    is None or False is left out, one that is True has no value.
    """
    words = [name]
    for key, value in attributes.items():
        spelt = key.removesuffix("_").replace("_", "-")
        if value is True:
            words.append(spelt)
        elif value is not None and value is not False:
            words.append(f'{spelt}="{markup(str(value))}"')
    return Html(f"<{' '.join(words)}>{joined(children)}</{name}>")
