"""Fabric in a pool of threads asks every host the same: fabric_probe.py HOSTS PORT KEY COMMAND."""

import sys
from concurrent.futures import ThreadPoolExecutor

from fabric import Connection

hosts, port, key, command = sys.argv[1:]


def ask(host: str) -> str:
    with Connection(host, port=int(port), connect_kwargs={"key_filename": key}) as node:
        return str(node.run(command, hide=True, in_stream=False).stdout)


with ThreadPoolExecutor(100) as pool:
    for host, answer in zip(hosts.split(","), pool.map(ask, hosts.split(",")), strict=True):
        if not answer.rstrip().endswith("end"):
            sys.exit(f"{host}: no answer: {answer[:200]}")
