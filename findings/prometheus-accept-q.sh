#!/bin/sh
# Tool: prometheus-client 0.26.0
# Expected: its negotiation heeds the q values of `Accept` and `Accept-Encoding`: q=0 refuses a type or
#   an encoding, and the highest q is preferred.
# Seen: a q is not looked at. What is named at all is taken as wanted, OpenMetrics before the rest.
# Output:
#   openmetrics q=0.1, text q=0.9: application/openmetrics-text
#   openmetrics q=0, text: application/openmetrics-text
#   gzip q=0: packed

set -u
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 2' HUP INT TERM
cd "$work" || exit 2
{ python3 -m venv venv &&
    venv/bin/pip install -q --disable-pip-version-check prometheus-client==0.26.0; } || exit 2

cat >try.py <<'END'
import gzip
from prometheus_client import CollectorRegistry, Gauge, make_wsgi_app

registry = CollectorRegistry()
Gauge("g", "x", registry=registry)
app = make_wsgi_app(registry)

def ask(accept, encoding=""):
    answer = {}
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics", "QUERY_STRING": "",
               "HTTP_ACCEPT": accept, "HTTP_ACCEPT_ENCODING": encoding}
    app(environ, lambda status, headers: answer.update(headers))
    return answer

def kind(accept):
    return ask(accept)["Content-Type"].partition(";")[0]

om = "application/openmetrics-text;version=1.0.0"
print("openmetrics q=0.1, text q=0.9:", kind(f"{om};q=0.1,text/plain;q=0.9"))
print("openmetrics q=0, text:", kind(f"{om};q=0,text/plain"))
packed = ask("text/plain", "gzip;q=0").get("Content-Encoding") == "gzip"
print("gzip q=0:", "packed" if packed else "not packed")
END
venv/bin/python try.py | tee seen
[ "$(cat seen)" = "openmetrics q=0.1, text q=0.9: application/openmetrics-text
openmetrics q=0, text: application/openmetrics-text
gzip q=0: packed" ]
