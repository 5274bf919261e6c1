"""HTTP content negotiation: RFC 9110, section 12.5, read by werkzeug.

prometheus-client has the encoders, but heeds no `q`: of two formats it takes the one named first,
also one that is named to be refused (`q=0`).
"""

from __future__ import annotations

OPENMETRICS = ("application/openmetrics-text", "1.0.0")
TEXT = ("text/plain", "0.0.4")


def prefers_openmetrics(accept: str) -> bool:
    """True if the Accept header prefers OpenMetrics to text."""
    wanted = _quality(accept, *OPENMETRICS)
    return wanted > 0 and wanted > _quality(accept, *TEXT)


def accepts_gzip(accept_encoding: str) -> bool:
    """True if the Accept-Encoding header takes gzip, and not rather plain text."""
    from werkzeug.http import parse_accept_header

    accepted = parse_accept_header(accept_encoding)
    gzip = accepted.quality("gzip")
    return gzip > 0 and ("identity" not in accepted.values() or gzip >= accepted["identity"])


def _quality(accept: str, kind: str, version: str) -> float:
    """Quality, 0 to 1: that of the most specific range in the header which fits."""
    from werkzeug.http import parse_accept_header, parse_options_header

    family = kind.partition("/")[0]
    fitting: list[tuple[tuple[int, bool], float]] = []
    for media_range, quality in parse_accept_header(accept):
        name, parameters = parse_options_header(media_range)
        names = ("*/*", f"{family}/*", kind)
        if name.lower() in names and parameters.get("version", version) == version:
            fitting.append(((names.index(name.lower()), "version" in parameters), quality))
    return max(fitting, default=((0, False), 0.0))[1]
