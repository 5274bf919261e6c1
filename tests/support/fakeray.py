"""A server that speaks as much of Ray's HTTP as we use, and misbehaves on request."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from gridops.inventory.settings import SshSettings
from gridops.model import Node
from gridops.ray.client import RayClient
from gridops.ray.model import ClusterFacts
from gridops.reach import link_to

TOKEN = "c0ffee-and-nothing-else"


@dataclass
class FakeRay:
    """Dashboard and agent in one; `jobs` are records as Ray gives them, `logs` their bytes."""

    port: int = 0
    token: str = TOKEN
    version: str = "2.60.0"
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    logs: dict[str, bytes] = field(default_factory=dict)
    packages: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)  # "GET /path"
    cut_after: list[int] = field(default_factory=list)  # each log answer ends after so many bytes
    drop: int = 0  # so many requests get no answer at all
    lose_answers: int = 0  # so many POSTs are heeded, and their answer is lost
    fail: int = 0  # so many requests are answered 500
    fail_puts: int = 0
    slow_stop: int = 0  # so many more looks until a job that was told to stop has
    close_each: bool = False  # the connection ends after every answer

    def add(self, name: str, state: str = "SUCCEEDED", **fields: Any) -> None:
        self.jobs[name] = {
            "type": "SUBMISSION",
            "submission_id": name,
            "job_id": None,
            "status": state,
            "entrypoint": "true",
            "message": "",
            "start_time": 1_795_537_460_696 + len(self.jobs),
            "end_time": None,
            "metadata": None,
            "driver_agent_http_address": f"http://127.0.0.1:{self.port}",
            "driver_exit_code": None,
            **fields,
        }

    def facts(self) -> ClusterFacts:
        node = Node("here", "localhost", connection="local")
        return ClusterFacts(
            head=node,
            address="127.0.0.1",
            port=1,
            dashboard_port=self.port,
            token=TOKEN,
            token_file="~/token",
            python="/usr/bin/python3",
            ray=self.version,
            id="1",
            members={"127.0.0.1": node},
        )

    def client(self) -> RayClient:
        facts = self.facts()
        return RayClient(facts, link_to(facts.head, SshSettings()))


@contextmanager
def fake_ray() -> Iterator[FakeRay]:
    ray = FakeRay()
    handler = type("Handler", (_Handler,), {"ray": ray})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        ray.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield ray
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    ray: FakeRay
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def _serve(self) -> None:
        ray = self.ray
        ray.requests.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if ray.drop:
            ray.drop -= 1
            self._hang_up()
        elif self.headers.get("Authorization") != f"Bearer {ray.token}":
            self._answer(403, b"Forbidden: Invalid authentication token")
        elif ray.fail or (ray.fail_puts and self.command == "PUT"):
            ray.fail, ray.fail_puts = max(0, ray.fail - 1), max(0, ray.fail_puts - 1)
            self._answer(500, b"Traceback (most recent call last):\n  ...\nRpcError: no GCS\n")
        elif self.path.startswith("/logs/"):
            self._log()
        else:
            status, answer = self._api(body)
            if self.command == "POST" and ray.lose_answers:
                ray.lose_answers -= 1
                self._hang_up()
            else:
                self._answer(status, answer)

    do_GET = do_POST = do_PUT = _serve

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if self.ray.close_each:
            self.send_header("Connection", "close")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _api(self, body: bytes) -> tuple[int, bytes]:
        ray, path = self.ray, self.path
        if path == "/api/version":
            return 200, json.dumps({"ray_version": ray.version}).encode()
        if package := re.fullmatch(r"/api/packages/gcs/(\w+\.zip)", path):
            if self.command == "PUT":
                ray.packages[package[1]] = body
            return (200, b"") if package[1] in ray.packages else (404, b"does not exist")
        if path == "/api/jobs/":
            if self.command == "GET":
                return 200, json.dumps(list(ray.jobs.values())).encode()
            return self._submit(json.loads(body))
        found = re.fullmatch(r"/api/jobs/([^/]+)(/stop)?", path)
        job = ray.jobs.get(found[1]) if found else None
        if found is None or job is None:
            return 404, b"Job does not exist"
        if found[2]:
            job["stopping"] = ray.slow_stop
            return 200, b'{"stopped": true}'
        if "stopping" in job:
            job["stopping"] -= 1
            job["status"] = "STOPPED" if job["stopping"] < 0 else "RUNNING"
        return 200, json.dumps(job).encode()

    def _submit(self, wanted: dict[str, Any]) -> tuple[int, bytes]:
        job_id = wanted["submission_id"]
        if job_id in self.ray.jobs:
            said = f"ValueError: Job with submission_id {job_id} already exists. Please use a ..."
            # As the head hands on what the agent answers it.
            return 500, f"RuntimeError: Request failed: Traceback (...):\n{said}\n.".encode()
        self.ray.add(job_id, "PENDING", **{k: v for k, v in wanted.items() if k != "type"})
        return 200, json.dumps({"submission_id": job_id, "job_id": job_id}).encode()

    def _log(self) -> None:
        name = self.path.removeprefix("/logs/job-driver-").removesuffix(".log")
        data = self.ray.logs.get(name)
        start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1])  # type: ignore[index]
        if data is None:
            self._answer(404, b"404: Not Found")
        elif start >= len(data):
            self._answer(416, b"", Content_Range=f"bytes */{len(data)}")
        elif self.ray.cut_after:
            self.send_response(206)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            self.wfile.write(data[start : start + self.ray.cut_after.pop(0)])
            self._hang_up()
        else:
            self._answer(206, data[start:])
