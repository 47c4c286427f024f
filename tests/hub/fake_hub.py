"""A Hugging Face Hub in this process: as much of its API as the real client needs to publish, list and download models.

Endpoints and answers follow huggingface_hub 2.4 (``hf_api.py``, ``_commit_api.py``, ``lfs.py``, ``file_download.py``).
Large files go the LFS way and are served from another host name than the API, as the real Hub's are.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_publisher"  # may write to "org"
READER = "hf_reader"  # may write nowhere
LICENSES = {"apache-2.0", "mit", "cc-by-sa-3.0", "unknown", "other"}

Files = dict[str, bytes]
Sent = tuple[int, bytes, dict[str, str]]  # status, body, headers


@dataclass
class FakeRepo:
    """``commits``: by id, the files of each; ``branches``: name -> the id of its last commit."""

    private: bool = False
    gated: bool = False
    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: Files, message: str) -> str:
        oid = hashlib.sha1(f"{len(self.commits)} {branch}".encode()).hexdigest()
        self.commits[oid], self.branches[branch] = files, oid
        self.messages.append(message)
        return oid

    def resolve(self, revision: str) -> str | None:
        return self.branches.get(revision) or (revision if revision in self.commits else None)


class Refused(Exception):
    """An answer other than success."""

    def __init__(self, status: int, code: str = "", message: str = "", body: Any = None) -> None:
        self.status, self.headers, self.body = status, {"X-Error-Code": code, "X-Error-Message": message}, body


class FakeHub:
    """``url`` is its HF_ENDPOINT while it runs; ``requests``: method and path of each; ``broken``: answers 503."""

    def __init__(self) -> None:
        self.repos: dict[str, FakeRepo] = {}
        self.stored: dict[str, bytes] = {}  # large files by sha256
        self.requests: list[str] = []
        self.storage_headers: list[dict[str, str]] = []  # of the requests that reached the other host
        self.broken = False
        self.upload_fails = False
        self.spoof: Callable[[str, str, Sent], Sent] | None = None  # of every answer: given method and path

    def __enter__(self) -> "FakeHub":
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        port: int = self._server.server_address[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def storage(self) -> str:
        return f"http://localhost:{self.port}"

    def is_large(self, name: str) -> bool:
        return name.endswith(".safetensors")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, hub: FakeHub, *args: Any) -> None:
        self.hub = hub
        super().__init__(*args)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve(ROUTES["GET"])

    def do_HEAD(self) -> None:
        self._serve(ROUTES["GET"])

    def do_POST(self) -> None:
        self._serve(ROUTES["POST"])

    def do_PUT(self) -> None:
        self._serve(ROUTES["PUT"])

    def _serve(self, routes: "dict[str, Callable[..., None]]") -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        self.hub.requests.append(f"{self.command} {path}")
        try:
            if self.hub.broken:
                raise Refused(503)
            for pattern, answer in routes.items():
                if found := re.fullmatch(pattern, path):
                    answer(self, *map(unquote, found.groups()))
                    return
            raise Refused(404, message=f"no such endpoint: {path}")
        except Refused as refused:
            text = json.dumps(refused.body or {"error": refused.headers["X-Error-Message"]}).encode()
            self._send(refused.status, text, **refused.headers)

    def _send(self, status: int, content: bytes, **headers: str) -> None:
        if self.hub.spoof:
            status, content, headers = self.hub.spoof(
                self.command, urlsplit(self.path).path, (status, content, headers)
            )
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def json(self, data: Any) -> None:
        self._send(200, json.dumps(data).encode(), **{"Content-Type": "application/json"})

    @property
    def token(self) -> str | None:
        given = self.headers.get("Authorization")
        return given.removeprefix("Bearer ") if given else None

    def writer(self, organisation: str) -> None:
        """Refuse whoever may not write there."""
        if self.token not in (TOKEN, READER):
            raise Refused(401, message="Invalid credentials in Authorization header")
        if self.token == READER or organisation != "org":
            raise Refused(403, message="You don't have the rights to write to this namespace")

    def repo(self, name: str) -> FakeRepo:
        found = self.hub.repos.get(name)
        if found is None or (found.private and self.token != TOKEN):
            raise Refused(404, "RepoNotFound") if self.token else Refused(401, "RepoNotFound")
        return found

    def revision(self, name: str, revision: str) -> tuple[FakeRepo, str]:
        repo = self.repo(name)
        if (oid := repo.resolve(revision)) is None:
            raise Refused(404, "RevisionNotFound")
        return repo, oid

    # publishing

    def create(self) -> None:
        asked = json.loads(self.body)
        self.writer(asked["organization"])
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repos:
            raise Refused(409, message="You already created this model repo")
        self.hub.repos[name] = FakeRepo(private=asked.get("visibility") == "private")
        self.hub.repos[name].commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit")
        self.json({"url": f"{self.hub.url}/{name}"})

    def validate_yaml(self) -> None:
        front = yaml.safe_load(json.loads(self.body)["content"].split("---\n")[1])
        if front.get("license") not in LICENSES:
            raise Refused(400, body={"errors": [{"message": f'"license" must be one of {sorted(LICENSES)}'}]})
        self.json({"warnings": []})

    def branch(self, name: str, branch: str) -> None:
        repo = self.repo(name)
        self.writer(name.split("/")[0])
        if branch in repo.branches:
            raise Refused(409, message="Reference already exists")
        repo.branches[branch] = repo.branches["main"]
        self.json({})

    def preupload(self, name: str, revision: str) -> None:
        repo, oid = self.revision(name, revision)
        self.writer(name.split("/")[0])
        there = repo.commits[oid]
        self.json(
            {
                "files": [
                    {
                        "path": (path := file["path"]),
                        "uploadMode": "lfs" if self.hub.is_large(path) else "regular",
                        "shouldIgnore": False,
                        **({"oid": self.oid(path, there[path])} if path in there else {}),
                    }
                    for file in json.loads(self.body)["files"]
                ]
            }
        )

    def oid(self, path: str, content: bytes) -> str:
        if self.hub.is_large(path):
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def lfs_batch(self, name: str) -> None:
        self.writer(name.split("/")[0])
        objects = [dict(each) for each in json.loads(self.body)["objects"]]
        for each in objects:
            if each["oid"] not in self.hub.stored:
                each["actions"] = {
                    "upload": {"href": f"{self.hub.storage}/lfs/{each['oid']}"},
                    "verify": {"href": f"{self.hub.url}/verify"},
                }
        self.json({"transfer": "basic", "objects": objects})

    def store(self, oid: str) -> None:
        if self.hub.upload_fails:
            raise Refused(400, message="the storage is closed")
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Refused(400, message="not the bytes of this oid")
        self.hub.stored[oid] = self.body
        self._send(200, b"")

    def verify(self) -> None:
        asked = json.loads(self.body)
        if len(self.hub.stored[asked["oid"]]) != asked["size"]:
            raise Refused(400)
        self.json({})

    def commit(self, name: str, revision: str) -> None:
        repo, oid = self.revision(name, revision)
        self.writer(name.split("/")[0])
        files, summary = dict(repo.commits[oid]), ""
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            match line["key"]:
                case "header":
                    summary = value["summary"]
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.hub.stored[value["oid"]]
        new = repo.commit(revision, files, summary)
        self.json({"success": True, "commitOid": new, "commitUrl": f"{self.hub.url}/{name}/commit/{new}"})

    # reading

    def info(self, name: str, revision: str = "main") -> None:
        repo, oid = self.revision(name, revision)
        files = [{"rfilename": path} for path in repo.commits[oid]]
        self.json({"id": name, "sha": oid, "private": repo.private, "gated": repo.gated, "siblings": files})

    def tree(self, name: str, revision: str) -> None:
        repo, oid = self.revision(name, revision)
        self.json([self.leaf(path, content) for path, content in repo.commits[oid].items()])

    def leaf(self, path: str, content: bytes) -> dict[str, Any]:
        blob = {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
        if not self.hub.is_large(path):
            return blob
        return {**blob, "lfs": {"oid": self.oid(path, content), "size": len(content), "pointerSize": 130}}

    def resolve(self, name: str, revision: str, path: str) -> None:
        repo, oid = self.revision(name, revision)
        if repo.gated and self.token != TOKEN:
            raise Refused(403, "GatedRepo", "Access to this model is restricted")
        if path not in repo.commits[oid]:
            raise Refused(404, "EntryNotFound")
        content = repo.commits[oid][path]
        etag = self.oid(path, content)
        if self.hub.is_large(path):
            linked = {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content))}
            where = f"{self.hub.storage}/stored/{etag}"
            self._send(302, b"", Location=where, **{"X-Repo-Commit": oid}, **linked)
        else:
            self._send(200, content, ETag=f'"{etag}"', **{"X-Repo-Commit": oid})

    def stored(self, oid: str) -> None:
        self.hub.storage_headers.append(dict(self.headers))
        self._send(200, self.hub.stored[oid])


_NAME, _REST = r"([\w.-]+/[\w.-]+)", r"([^/]+)"
ROUTES: dict[str, dict[str, Callable[..., None]]] = {
    "GET": {
        rf"/api/models/{_NAME}": _Handler.info,
        rf"/api/models/{_NAME}/revision/{_REST}": _Handler.info,
        rf"/api/models/{_NAME}/tree/{_REST}": _Handler.tree,
        rf"/{_NAME}/resolve/{_REST}/(.+)": _Handler.resolve,
        r"/stored/(\w+)": _Handler.stored,
    },
    "POST": {
        r"/api/repos/create": _Handler.create,
        r"/api/validate-yaml": _Handler.validate_yaml,
        rf"/api/models/{_NAME}/branch/{_REST}": _Handler.branch,
        rf"/api/models/{_NAME}/preupload/{_REST}": _Handler.preupload,
        rf"/api/models/{_NAME}/commit/{_REST}": _Handler.commit,
        rf"/{_NAME}\.git/info/lfs/objects/batch": _Handler.lfs_batch,
        r"/verify": _Handler.verify,
    },
    "PUT": {r"/lfs/(\w+)": _Handler.store},
}
