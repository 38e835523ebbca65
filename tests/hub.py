"""A hub on this machine: as much of the Hugging Face hub's interface as a pull uses.

With small models to pull from it, whose weights are noise.
"""

import hashlib
import json
import random
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

LARGE = 1000  # bytes from which a file is kept outside git, under its sha256


@dataclass
class Hub:
    """Repositories by id, their revisions by name; and the ways in which it misbehaves."""

    repositories: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)  # method, path, range
    gated: set[str] = field(default_factory=set)
    private: set[str] = field(default_factory=set)  # only with TOKEN
    stated_sizes: dict[str, int] = field(default_factory=dict)  # lies, by file name
    damaged: set[str] = field(default_factory=set)  # names of files sent with a wrong byte
    cut_after: int | None = None  # bytes of a body after which the connection breaks
    pause: float = 0.0  # seconds between pieces of a body
    ignores_ranges: bool = False
    failures: list[int] = field(default_factory=list)  # status codes of the next downloads
    nonsense: bool = False  # answers with a page, as a login page does
    url: str = ""

    def add(self, repository: str, files: dict[str, bytes], *revisions: str) -> str:
        """Commit files; `revisions` are branches or tags. Returns the commit."""
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        known = self.repositories.setdefault(repository, {})
        for revision in (*(revisions or ("main",)), commit):
            known[revision] = files
        return commit

    def downloads(self) -> list[str]:
        """Names of the files that were asked for, in order."""
        return [p.rpartition("/")[2] for _, p, _ in self.requests if "/resolve/" in p]


TOKEN = "hf_of_a_test"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, self.headers.get("Range")))
        parts = path.strip("/").split("/")
        if self.hub.nonsense:
            self._answer(200, b"<html>Log in first</html>", {"Content-Type": "text/html"})
        elif parts[:2] == ["api", "models"]:
            revision = "/".join(parts[5:]) if parts[4:5] == ["revision"] else "main"
            self._describe("/".join(parts[2:4]), revision)
        elif parts[0] == "large":
            self._send(self._large(parts[1]), parts[2])
        elif parts[2:3] == ["resolve"]:
            self._resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self._answer(404, b"")

    def _large(self, digest: str) -> bytes:
        for revisions in self.hub.repositories.values():
            for files in revisions.values():
                for content in files.values():
                    if hashlib.sha256(content).hexdigest() == digest:
                        return content
        raise KeyError(digest)

    def _allowed(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _files(self, repository: str, revision: str) -> dict[str, bytes] | None:
        """The files, or None after an answer that there are none."""
        hidden = repository in self.hub.private and not self._allowed()
        if repository not in self.hub.repositories or hidden:
            if self.headers.get("Authorization"):
                self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})
            else:
                self._answer(401, b"", {"X-Error-Message": "Invalid username or password."})
            return None
        revisions = self.hub.repositories[repository]
        if revision not in revisions:
            self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return None
        return revisions[revision]

    def _describe(self, repository: str, revision: str) -> None:
        files = self._files(repository, revision)
        if files is None:
            return
        siblings = []
        for name, content in files.items():
            size = self.hub.stated_sizes.get(name, len(content))
            git_id = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            entry: dict[str, object] = {"rfilename": name, "size": size, "blobId": git_id}
            if len(content) >= LARGE:
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"size": size, "sha256": digest, "pointerSize": 130}
            siblings.append(entry)
        commit = next(r for r, f in self.hub.repositories[repository].items()
                      if f is files and len(r) == 40)  # fmt: skip
        value = {"id": repository, "sha": commit, "tags": ["license:apache-2.0", "mamba"],
                 "siblings": siblings, "private": False}  # fmt: skip
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _resolve(self, repository: str, revision: str, name: str) -> None:
        files = self._files(repository, revision)
        if files is None:
            return
        if repository in self.hub.gated and not self._allowed():
            self._answer(401, b"", {"X-Error-Code": "GatedRepo"})
        elif self.hub.failures:
            self._answer(self.hub.failures.pop(0), b"")
        elif name not in files:
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        elif len(files[name]) >= LARGE:
            digest = hashlib.sha256(files[name]).hexdigest()
            self._answer(302, b"", {"Location": f"{self.hub.url}/large/{digest}/{name}"})
        else:
            self._send(files[name], name)

    def _send(self, content: bytes, name: str) -> None:
        if name in self.hub.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        start, asked = 0, self.headers.get("Range")
        if asked and not self.hub.ignores_ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        end = len(content) if self.hub.cut_after is None else start + self.hub.cut_after
        try:
            for at in range(start, min(end, len(content)), 65_536):
                self.wfile.write(content[at : min(at + 65_536, end)])
                time.sleep(self.hub.pause)
        except OSError:  # the reader went away
            self.close_connection = True
        if end < len(content):
            self.close_connection = True

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serve() -> Iterator[Hub]:
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield hub
        server.shutdown()
        thread.join()


ID = "someone/tiny-jamba"
CONFIG = {
    "model_type": "jamba",
    "vocab_size": 300,
    "num_experts": 1,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "attn_layer_period": 4,
    "attn_layer_offset": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "max_position_embeddings": 262144,
}


def safetensors(shapes: dict[str, list[int]], seed: int = 0) -> bytes:
    """A safetensors file of float32 noise, written by hand: the format, not the library."""
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 4 * shape[0] * shape[1]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + random.Random(seed).randbytes(at)


def model_files(**more: bytes | None) -> dict[str, bytes]:
    files = {
        "config.json": json.dumps(CONFIG).encode(),
        "generation_config.json": b"{}",
        "tokenizer.json": b'{"version": "1.0"}' + b" " * 2000,
        "tokenizer_config.json": b"{}",
        "chat_template.jinja": b"{{ messages }}",
        "model.safetensors": safetensors({"a.weight": [300, 200], "b.weight": [10, 10]}),
        "README.md": b"# A model",
        "pytorch_model.bin": b"pickle" * 500,
        "onnx/model.onnx": b"x" * 5000,
        ".gitattributes": b"*.bin",
    }
    for name, content in more.items():
        if content is None:
            del files[name]
        else:
            files[name] = content
    return files


NEEDED = {
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "chat_template.jinja", "model.safetensors",
}  # fmt: skip


def big_pull(hub: Hub, store: Path) -> Path:
    """Begin a pull that takes a minute, and wait until some of it has come."""
    files = model_files(**{"model.safetensors": safetensors({"a.weight": [1000, 1000]})})
    hub.add("someone/big", files)
    return store / "big.partial" / "model.safetensors.part"


def left(store: Path) -> list[str]:
    """What lies in the store, unfinished pulls included."""
    return sorted(path.name for path in store.iterdir()) if store.exists() else []
