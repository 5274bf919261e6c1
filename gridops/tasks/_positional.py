"""Positional arguments as invoke should have them: no flags among them, and several of a kind."""

from __future__ import annotations

import sys
from typing import Any

from invoke import Argument, Exit


class Word(Argument):
    """A positional argument; a word with a leading dash is an unknown flag, and refused.

    Invoke takes any unknown flag for the value, also --help, which it heeds in front of the task.
    """

    task = ""

    @classmethod
    def of(cls, plain: Argument, task: str) -> Word:
        word = cls(names=plain.names, kind=plain.kind, help=plain.help, positional=True)
        word.task = task
        return word

    def set_value(self, value: Any, cast: bool = True) -> None:
        refuse_flag(value, self.task)
        super().set_value(value, cast)


def refuse_flag(value: str, task: str) -> None:
    """Refuse a flag in a value's place.

    Raises invoke's Exit: before the task begins, and with our exit status for a mistake.
    """
    if value.startswith("-"):
        name = next((word for word in sys.argv[1:] if f".{word}".endswith(f".{task}")), task)
        wrong = "" if value in ("-h", "--help") else f"{value} is not a flag of {name}: "
        raise Exit(f"gridops: {wrong}`inv --help {name}` shows the flags", code=2)


class Words(Argument):
    """A positional argument with further values as flags: `a --name b --name c`.

    Invoke's own lists are never missing, so it gives them no positional value, and of any other
    kind the last value wins without a word.
    """

    task = ""

    @classmethod
    def of(cls, plain: Argument, task: str) -> Words:
        words = cls(names=plain.names, kind=list, help=plain.help, positional=True)
        words.task = task
        words.raw_value = words._value = None
        return words

    def set_value(self, value: Any, cast: bool = True) -> None:
        refuse_flag(value, self.task)
        self.raw_value = value
        self._value = [*(self._value or ()), value]
