"""parallel-ssh asks every host the same: pssh_probe.py HOSTS PORT KEY COMMAND."""

import sys

from pssh.clients import ParallelSSHClient

hosts, port, key, command = sys.argv[1:]
client = ParallelSSHClient(
    hosts.split(","), port=int(port), pkey=key, pool_size=100, allow_agent=False
)
answers = client.run_command(command)
for answer in answers:
    text = "\n".join(answer.stdout)
    if not text.endswith("end"):
        sys.exit(f"{answer.host}: no answer: {text[:200]}")
client.join()
