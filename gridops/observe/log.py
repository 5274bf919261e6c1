"""The log: lines on stderr, for people or as JSON.

Records go through the standard library's logger `gridops`, so any other handler sees them too.
structlog, which takes a while to import, is loaded by the first JSON line or the first use of a
logger, never by a call that logs nothing.

A JSON line has `timestamp` (ISO 8601, UTC), `level`, `event`, `service`, and where they are known
`node`, `task`, `run_id` and the event's own fields; `message` is the event in words. What a line
says at INFO and above never includes command lines or the values of an environment.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TextIO

from gridops.errors import UnknownNameError
from gridops.observe import events, messages
from gridops.system.text import escape_json, printable, printable_lines

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
FORMATS = ("auto", "human", "json")
LOGGER_NAME = "gridops"
SECRET_FIELDS = frozenset({"env", "environ", "environment", "password", "token"})
COMMAND_FIELDS = frozenset({"command", "cmd", "argv", "args"})  # may hold secrets: DEBUG only
COLOURS = {"DEBUG": "2", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}

_listening = False


def setup_logging(
    level: str | int = "INFO",
    service_name: str = "grid",
    *,
    format: str = "auto",
    stream: TextIO | None = None,
) -> None:
    """Log from `level` on to `stream` (default: whatever sys.stderr is at the time of a line).

    `format` is "json", or "human": coloured on a terminal, plain lines elsewhere; "auto" is human.
    Calling it again replaces the earlier set-up. Raises UnknownNameError for a level or a format
    that does not exist; logging itself never raises, not even on a closed stream.
    """
    global _listening
    if format not in FORMATS:
        raise UnknownNameError("log format", format, FORMATS)
    number = _level(level)
    shutdown_logging()
    logger = logging.getLogger(LOGGER_NAME)
    logger.addHandler(_Handler(stream, service_name, as_json=format == "json"))
    logger.setLevel(number)
    if not _listening:
        events.subscribe(_on_event)
        _listening = True


def shutdown_logging() -> None:
    """Undo `setup_logging`: no more lines on stderr."""
    logger = logging.getLogger(LOGGER_NAME)
    for handler in [one for one in logger.handlers if isinstance(one, _Handler)]:
        logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


class Logger:
    """A structlog logger, made when it first has something to say.

    `info("text", node="gpu01", …)`; `bind(**fields)` gives one that adds the fields to every line.
    """

    def __init__(self, name: str, bound: Mapping[str, Any] | None = None) -> None:
        self._logger = logging.getLogger(name)
        self._bound = dict(bound or {})

    def bind(self, **fields: Any) -> Logger:
        return Logger(self._logger.name, {**self._bound, **fields})

    def debug(self, event: str, **fields: Any) -> None:
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._log(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """Log an error, with the exception that is being handled."""
        self._log(logging.ERROR, event, {"exc_info": True, **fields})

    def _log(self, level: int, event: str, fields: dict[str, Any]) -> None:
        if self._logger.isEnabledFor(level):
            import structlog

            chain: list[Processor] = [structlog.contextvars.merge_contextvars, _to_record]
            bound = structlog.wrap_logger(
                self._logger,
                processors=chain,
                wrapper_class=structlog.stdlib.BoundLogger,
                **{**events.context(), **self._bound},
            )
            bound.log(level, event, **fields)


def get_logger(name: str = "") -> Logger:
    """The logger for a part of gridops, or of a user's tasks: a child of the logger `gridops`."""
    below = name.removeprefix(LOGGER_NAME).lstrip(".")
    return Logger(f"{LOGGER_NAME}.{below}" if below else LOGGER_NAME)


def _level(level: str | int) -> int:
    if isinstance(level, int):
        return level
    if level.upper() not in LEVELS:
        raise UnknownNameError("log level", level, LEVELS)
    return int(getattr(logging, level.upper()))


def _to_record(
    logger: WrappedLogger, method: str, found: EventDict
) -> tuple[tuple[str], dict[str, Any]]:
    """structlog's last processor: the arguments for the standard library's logger."""
    text = str(found.pop("event"))
    exc_info = found.pop("exc_info", None)
    return (text,), {"exc_info": exc_info, "extra": {"grid": dict(found)}}


def _on_event(event: events.Event) -> None:
    message = messages.find(event) or messages.Message(logging.DEBUG, event.name)
    logger = logging.getLogger(LOGGER_NAME)
    if message.log is None or not logger.isEnabledFor(message.level):
        return
    fields = {"event": event.name, **event.context, **event.fields}
    logger.log(message.level, "%s", messages.fill(message.log, event), extra={"grid": fields})


class _Handler(logging.Handler):
    """Handler that writes a record as one line. It survives whatever is wrong with the stream."""

    def __init__(self, stream: TextIO | None, service: str, *, as_json: bool) -> None:
        super().__init__()
        self._stream = stream
        self._service = service
        self._as_json = as_json

    def emit(self, record: logging.LogRecord) -> None:
        stream = self._stream or sys.stderr
        try:
            line = self._json(record) if self._as_json else _human(record, stream)
            _write(stream, line + "\n")
        except Exception:  # noqa: BLE001 - a log line is never worth the work that it tells about
            return

    def _json(self, record: logging.LogRecord) -> str:
        from structlog.processors import JSONRenderer, format_exc_info

        text = record.getMessage()
        fields = _visible_fields(record)
        found: EventDict = {
            "timestamp": _timestamp(record),
            "level": record.levelname.lower(),
            "event": fields.pop("event", text),
            "service": self._service,
            **fields,
        }
        if found["event"] != text:
            found["message"] = text
        if record.exc_info:
            found["exc_info"] = record.exc_info
            found = dict(format_exc_info(None, record.levelname.lower(), found))
        return escape_json(str(JSONRenderer(default=str)(None, record.levelname.lower(), found)))


def _human(record: logging.LogRecord, stream: TextIO) -> str:
    fields = _visible_fields(record)
    if fields.pop("event", None) is not None:
        fields = {}  # the sentence has them
    node = fields.pop("node", None)
    words = [f"{node}: {record.getMessage()}" if node else record.getMessage()]
    words += [f"{name}={value}" for name, value in fields.items()]
    text = printable(" ".join(words))
    if record.exc_info:
        text += "\n" + printable_lines(logging.Formatter().formatException(record.exc_info))
    if not _terminal(stream):
        return f"{_timestamp(record)} {record.levelname} {text}"
    time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
    colour = "" if os.environ.get("NO_COLOR") else COLOURS.get(record.levelname, "")
    level = record.levelname.lower()
    return f"{time} \x1b[{colour}m{level}\x1b[0m {text}" if colour else f"{time} {level} {text}"


def _visible_fields(record: logging.LogRecord) -> dict[str, Any]:
    """The record's own fields, less those that must not be seen."""
    hidden = SECRET_FIELDS if record.levelno < logging.INFO else SECRET_FIELDS | COMMAND_FIELDS
    fields = getattr(record, "grid", {})
    return {
        name: value
        for name, value in fields.items()
        if name.lower() not in hidden and value is not None
    }


def _timestamp(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _write(stream: TextIO, text: str) -> None:
    """One write, so that lines of several processes do not mix; what cannot be encoded is spelt."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()
