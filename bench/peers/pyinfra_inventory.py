"""The bench's nodes for pyinfra; what they are comes from the environment."""

import os

nodes = [
    (
        host,
        {
            "ssh_port": int(os.environ["BENCH_PORT"]),
            "ssh_key": os.environ["BENCH_KEY"],
            "ssh_known_hosts_file": os.environ["BENCH_KNOWN_HOSTS"],
            "ssh_strict_host_key_checking": "yes",
        },
    )
    for host in os.environ["BENCH_HOSTS"].split(",")
]
