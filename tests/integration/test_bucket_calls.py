"""The storage permissions that the programs need, from the requests that they make to a bucket.

k8s/gke/setup.sh grants them; tests/system/k8s/test_gke_setup.py compares the two.
"""

import re
from urllib.parse import unquote, urlsplit

import pytest
import requests
from support.cluster.bucket_permissions import (
    DATASETS,
    MODELS,
    MUSIC,
    PREPROCESSING_CALLS,
    RUNS,
    TRAINER_CALLS,
)
from support.tiny_corpus import TINY

from preprocessing.__main__ import main as preprocess
from preprocessing.storage import lease
from trainer.registry import champion
from trainer.runs.directory import RunDirectory
from trainer.runs.storage import StorageFolder


def permissions(method, url, body):
    """Return the permissions that a request needs, as (verb, name of the object)."""
    path = unquote(urlsplit(url).path)
    text = body[:4_096].decode(errors="replace") if isinstance(body, bytes) else str(body or "")
    if path.startswith("/batch/"):  # its body has other requests
        inner = re.findall(
            r"^(DELETE|GET|PATCH) (\S+)", body.decode() if isinstance(body, bytes) else body, re.M
        )
        return set().union(*(permissions(*request, None) for request in inner))
    name = path.partition("/o/")[2]
    if copied := re.fullmatch(r"(.+?)/(?:rewriteTo|copyTo)/b/music/o/(.+)", name):
        return {("get", copied[1]), ("create", copied[2]), ("delete", copied[2])}
    if method == "GET":
        return {("get", name)} if name else {("list", "") if path.endswith("/o") else ("bucket", "")}
    if method == "DELETE":
        return {("delete", name)}
    assert method in ("POST", "PUT"), (method, url)
    if "upload_id=" in url:  # a later part of an upload
        return set()
    name = (re.search(r'"name": ?"(.+?)"', text) or re.search(r"[?&]name=([^&]+)", url))[1]
    return {("create", unquote(name)), ("delete", unquote(name))}  # what replaces an object also deletes it


@pytest.fixture
def calls(monkeypatch):
    """Collect the permissions that requests of this process need, as (verb, top-level folder)."""
    collected, request = set(), requests.Session.request

    def record(session, method, url, *args, **kwargs):
        body = kwargs.get("data", args[1] if len(args) > 1 else None)
        collected.update((verb, name.partition("/")[0]) for verb, name in permissions(method, url, body))
        return request(session, method, url, *args, **kwargs)

    monkeypatch.setattr(requests.Session, "request", record)
    return collected


def test_preprocessing_calls_what_its_identity_may(calls, corpus, storage_server):
    music = StorageFolder(f"{storage_server}/{MUSIC}")
    names = sorted(path.relative_to(corpus).as_posix() for path in corpus.rglob("*.wav"))
    music._prefix.upload(names, corpus)
    calls.clear()
    flags = [
        "--input",
        f"{storage_server}/{MUSIC}",
        "--output",
        f"{storage_server}/{DATASETS}",
        "--versioned",
    ]
    assert preprocess([*flags, *TINY]) == 0
    assert calls == PREPROCESSING_CALLS


def test_the_trainer_calls_what_its_identity_may(calls, storage_server, tmp_path):
    datasets = StorageFolder(f"{storage_server}/{DATASETS}")
    datasets.list_names()
    datasets.read("LATEST")
    for folder in (RUNS, MODELS):
        uri = f"{storage_server}/{folder}/a-run"
        with lease.acquire(uri):
            pass
        with RunDirectory(uri, tmp_path / folder) as directory:
            (directory.path / "config.json").write_text("{}")
        prefix = StorageFolder(uri)
        assert prefix.read("config.json") == b"{}"
        prefix.delete("config.json")
    champion.read(f"{storage_server}/{MODELS}")
    assert calls == TRAINER_CALLS
