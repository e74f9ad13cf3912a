"""A small hub on 127.0.0.1 with what the Hugging Face client and doitune's ModelScope reader ask for, and
with faults on request; it takes what the client sends."""

from __future__ import annotations

import json
import threading
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "5eda7be" + "0" * 33
LFS_BYTES = 4_000


@dataclass
class SmallHub:
    """What is served: `files` by path; `cut`, `flip`, `lost` hold paths and how often each fault still
    happens. What was sent: repositories that were `made`, files `sent` to them by path, and the last `login`;
    `refusals`: the status of a path's answer, by a part of it."""

    files: dict[str, bytes]
    repository: str = "ChiyuSONG/dynamics-of-instruction-tuning"
    kind: str = "datasets"
    commit: str = COMMIT
    cut: Counter[str] = field(default_factory=Counter)
    flip: Counter[str] = field(default_factory=Counter)
    lost: set[str] = field(default_factory=set)
    ranges: bool = True
    tell_sha256: bool = True
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    address: str = ""
    private: bool | None = None
    made: list[dict[str, object]] = field(default_factory=list)
    sent: dict[str, bytes] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)
    login: str = ""

    @property
    def cdn(self) -> str:
        """Another host's name for the store of large files, as the real hub has one."""
        return f"{self.address.replace('127.0.0.1', 'localhost')}/cdn"

    def got(self, path: str) -> list[str]:
        """The Range headers of the GETs for a file's bytes."""
        return [span for method, asked, span in self.asked if method == "GET" and asked.endswith(path)]


@contextmanager
def serving(hub: SmallHub) -> Iterator[SmallHub]:
    """Serve until the block ends."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: SmallHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        """Take a repository, and a commit of files that are told in its body."""
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.hub.login = self.headers.get("Authorization", "")
        self.hub.asked.append(("POST", self.path, ""))
        status = next((code for part, code in self.hub.refusals.items() if part in self.path), 0)
        if status:
            self._json({"error": "the hub says why"}, status)
        elif self.path.endswith("/repos/create"):
            asked = json.loads(body)
            self.hub.made.append(asked)
            self.hub.repository, self.hub.kind = (
                f"{asked.get('organization') or 'me'}/{asked['name']}",
                "models",
            )
            self._json({"url": f"{self.hub.address}/{self.hub.repository}"})
        elif "/preupload/" in self.path:
            files = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]
            self._json({"files": files})
        elif "/commit/" in self.path:
            for line in body.splitlines():
                said = json.loads(line)
                if said["key"] == "file":
                    self.hub.sent[said["value"]["path"]] = b64decode(said["value"]["content"])
            url = f"{self.hub.address}/{self.hub.repository}/commit/{self.hub.commit}"
            self._json({"success": True, "commitOid": self.hub.commit, "commitUrl": url})
        else:
            self._json({"errors": [], "warnings": []})

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), {key: values[0] for key, values in parse_qs(parts.query).items()}
        repository = self.hub.repository
        self.hub.asked.append((self.command, query.get("FilePath") or path, self.headers.get("Range", "")))
        api, files = (
            f"/api/{self.hub.kind}",
            f"/{repository}" if self.hub.kind == "models" else f"/datasets/{repository}",
        )
        if path in (
            f"{api}/{repository}",
            *(f"{api}/{repository}/revision/{name}" for name in ("main", self.hub.commit)),
        ):
            self._json(
                {
                    "id": repository,
                    "sha": self.hub.commit,
                    **({} if self.hub.private is None else {"private": self.hub.private}),
                    "siblings": [self._sibling(name) for name in self.hub.files],
                }
            )
        elif path == f"{api}/{repository}/tree/{self.hub.commit}":
            self._json([self._leaf(name) for name in self.hub.files])
        elif path.startswith(f"{api}/{repository}/revision/"):
            self._json({"error": "no such revision"}, 404, {"X-Error-Code": "RevisionNotFound"})
        elif path.startswith(f"{api}/"):
            self._json({"error": "no such repository"}, 401, {"X-Error-Code": "RepoNotFound"})
        elif path.startswith(f"{files}/resolve/{self.hub.commit}/"):
            self._resolve(path.split(f"/resolve/{self.hub.commit}/")[1])
        elif path.startswith("/cdn/"):
            self._bytes(path.removeprefix("/cdn/"))
        elif path == f"/api/v1/datasets/{repository}/repo/tree":
            self._json(
                {
                    "Code": 200,
                    "Data": {
                        "Files": [self._entry(name) for name in self.hub.files]
                        + [{"Path": "curated", "Type": "tree"}]
                    },
                }
            )
        elif path == f"/api/v1/datasets/{repository}/repo":
            self._bytes(query["FilePath"])
        else:
            self._json({"error": "not found"}, 404)

    def _sibling(self, name: str) -> dict[str, object]:
        data = self.hub.files[name]
        entry: dict[str, object] = {
            "rfilename": name,
            "size": len(data),
            "blobId": sha1(b"blob %d\0" % len(data) + data).hexdigest(),
        }
        return (
            {**entry, "lfs": {"sha256": sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}}
            if len(data) > LFS_BYTES
            else entry
        )

    def _leaf(self, name: str) -> dict[str, object]:
        sibling = self._sibling(name)
        lfs = (
            {"lfs": {"oid": sibling["lfs"]["sha256"], "size": sibling["size"], "pointerSize": 130}}
            if "lfs" in sibling
            else {}
        )  # type: ignore[index]
        return {"type": "file", "path": name, "size": sibling["size"], "oid": sibling["blobId"], **lfs}

    def _entry(self, name: str) -> dict[str, object]:
        data = self.hub.files[name]
        digest = {"Sha256": sha256(data).hexdigest()} if self.hub.tell_sha256 else {}
        return {"Path": name, "Type": "blob", "Size": len(data), **digest}

    def _resolve(self, name: str) -> None:
        if name not in self.hub.files or name in self.hub.lost:
            self._json(
                {"error": "no such entry"},
                404,
                {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": self.hub.commit},
            )
            return
        data = self.hub.files[name]
        headers = {"X-Repo-Commit": self.hub.commit}
        if len(data) <= LFS_BYTES:
            self._bytes(name, {**headers, "ETag": f'"{sha1(b"blob %d" % len(data) + data).hexdigest()}"'})
            return
        linked = {
            "X-Linked-ETag": f'"{sha256(data).hexdigest()}"',
            "X-Linked-Size": str(len(data)),
            "Location": f"{self.hub.cdn}/{name}",
        }
        self._send(302, b"", {**headers, **linked})

    def _bytes(self, name: str, headers: dict[str, str] | None = None) -> None:
        if name not in self.hub.files or name in self.hub.lost:
            self._json({"error": "no such file"}, 404)
            return
        data = bytearray(self.hub.files[name])
        if self.command == "GET" and self.hub.flip[name]:
            self.hub.flip[name] -= 1
            data[len(data) // 2] ^= 1
        span = self.headers.get("Range", "")
        start = int(span.removeprefix("bytes=").partition("-")[0]) if span and self.hub.ranges else 0
        more = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        cut = self.command == "GET" and self.hub.cut[name] > 0
        self.hub.cut[name] -= cut
        self._send(206 if start else 200, bytes(data[start:]), {**(headers or {}), **more}, cut)

    def _json(self, document: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(
            status, json.dumps(document).encode(), {"Content-Type": "application/json", **(headers or {})}
        )

    def _send(self, status: int, body: bytes, headers: dict[str, str], cut: bool = False) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.close_connection = True
