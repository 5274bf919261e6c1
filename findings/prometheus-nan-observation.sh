#!/bin/sh
# Tool: prometheus-client 0.26.0
# Expected: observe(nan) is refused, or counts as an observation in the +Inf bucket, so that the
#   count, the buckets and the sum speak of the same observations.
# Seen: it is in no bucket and not in the count, but in the sum, which is NaN from then on: every
#   mean and rate over that histogram is NaN until the process ends. A summary counts it.
# Output: after observe(nan) and observe(1)
#   histogram: count 1, +Inf bucket 1, sum nan
#   summary: count 2, sum nan

set -u
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 2' HUP INT TERM
cd "$work" || exit 2
{ python3 -m venv venv &&
    venv/bin/pip install -q --disable-pip-version-check prometheus-client==0.26.0; } || exit 2

cat >try.py <<'END'
import math
from prometheus_client import CollectorRegistry, Histogram, Summary

registry = CollectorRegistry()
for kind, name in ((Histogram, "h"), (Summary, "s")):
    metric = kind(name, "x", registry=registry)
    metric.observe(math.nan)
    metric.observe(1)
value = registry.get_sample_value
inf = value("h_bucket", {"le": "+Inf"})
print(f"histogram: count {value('h_count'):g}, +Inf bucket {inf:g}, sum {value('h_sum'):g}")
print(f"summary: count {value('s_count'):g}, sum {value('s_sum'):g}")
END
venv/bin/python try.py | tee seen
[ "$(cat seen)" = "histogram: count 1, +Inf bucket 1, sum nan
summary: count 2, sum nan" ]
