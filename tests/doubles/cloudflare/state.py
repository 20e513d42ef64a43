"""What the double knows: tunnels with their configuration, DNS records, and the rules that Cloudflare keeps.

The rules and error codes are those of Cloudflare's public documentation; what is not there is not guessed but answered
501 by `double.py`.
"""

import re
import secrets
import uuid
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import orjson

Json = dict[str, Any]

TYPES: Final = ("A", "AAAA", "CNAME", "TXT")
MAX_COMMENT: Final = 100
"""Characters, on the free plan."""
_LABEL = r"(\*|[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*\Z", re.IGNORECASE)
_SERVICE = re.compile(r"(https?|unix|tcp|ssh|rdp|unix\+tls|smb)://\S+|http_status:\d{3}\Z")


class Refused(Exception):
    """A request that Cloudflare would refuse: an HTTP status, its own code, and its words."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def required(body: Json, allowed: dict[str, type | tuple[type, ...]], needed: tuple[str, ...]) -> Json:
    """The body, if it has what is needed, nothing unknown, and the right kinds. Raises `Refused`."""
    for name in needed:
        if name not in body:
            raise Refused(400, 9000, f"{name} is required")
    for name, value in body.items():
        if name not in allowed:
            raise Refused(400, 9207, f"unknown field {name}")
        if not isinstance(value, allowed[name]) or (isinstance(value, bool) and allowed[name] is int):
            raise Refused(400, 9207, f"{name} has the wrong type")
    return body


@dataclass
class State:
    """One account with one zone."""

    account: str = field(default_factory=lambda: secrets.token_hex(16))
    zone: str = field(default_factory=lambda: secrets.token_hex(16))
    zone_name: str = "example.org"
    tokens: dict[str, frozenset[str]] = field(default_factory=dict)
    """Token → what it may: `tunnel:read`, `tunnel:edit`, `dns:read`, `dns:edit`."""
    tunnels: dict[str, Json] = field(default_factory=dict)
    configurations: dict[str, Json] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    records: dict[str, Json] = field(default_factory=dict)

    # Tunnels

    def create_tunnel(self, body: Json) -> Json:
        """`POST cfd_tunnel`."""
        required(body, {"name": str, "config_src": str, "tunnel_secret": str}, ("name",))
        if any(tunnel["name"] == body["name"] and not tunnel["deleted_at"] for tunnel in self.tunnels.values()):
            raise Refused(409, 1013, "You already have a tunnel with this name")
        if body.get("config_src", "local") not in ("local", "cloudflare"):
            raise Refused(400, 9207, "config_src has the wrong value")
        secret = body.get("tunnel_secret") or b64encode(secrets.token_bytes(32)).decode()
        if len(b64decode(secret)) < 32:
            raise Refused(400, 1001, "tunnel_secret must be at least 32 bytes")
        tunnel_id = str(uuid.uuid4())
        self.secrets[tunnel_id] = secret
        self.tunnels[tunnel_id] = {
            "id": tunnel_id,
            "account_tag": self.account,
            "name": body["name"],
            "config_src": body.get("config_src", "local"),
            "remote_config": body.get("config_src") == "cloudflare",
            "created_at": now(),
            "deleted_at": None,
            "connections": [],
            "conns_active_at": None,
            "conns_inactive_at": None,
            "status": "inactive",
            "tun_type": "cfd_tunnel",
            "metadata": {},
        }
        self.configurations[tunnel_id] = {"version": 0, "config": None, "created_at": now()}
        return self.tunnels[tunnel_id]

    def tunnel(self, tunnel_id: str) -> Json:
        """Raises `Refused` when there is none."""
        found = self.tunnels.get(tunnel_id)
        if found is None:
            raise Refused(404, 1003, "Tunnel not found")
        return found

    def delete_tunnel(self, tunnel_id: str) -> Json:
        tunnel = self.tunnel(tunnel_id)
        tunnel["deleted_at"] = now()
        return tunnel

    def token(self, tunnel_id: str) -> str:
        """What cloudflared runs with."""
        self.tunnel(tunnel_id)
        return b64encode(orjson.dumps({"a": self.account, "t": tunnel_id, "s": self.secrets[tunnel_id]})).decode()

    def configuration(self, tunnel_id: str) -> Json:
        self.tunnel(tunnel_id)
        found = self.configurations[tunnel_id]
        return {
            "account_id": self.account,
            "tunnel_id": tunnel_id,
            "version": found["version"],
            "config": found["config"],
            "source": "cloudflare",
            "created_at": found["created_at"],
        }

    def configure(self, tunnel_id: str, body: Json) -> Json:
        """`PUT configurations`: the whole document; the last rule must match everything."""
        if self.tunnel(tunnel_id)["config_src"] != "cloudflare":
            raise Refused(400, 1052, "Tunnel is not remotely managed")
        config = required(body, {"config": dict}, ("config",))["config"]
        rules = config.get("ingress")
        if not isinstance(rules, list) or not rules:
            raise Refused(400, 1056, "Bad Configuration: Validation failed: ingress is required")
        for position, rule in enumerate(rules):
            self._check_rule(rule, last=position == len(rules) - 1)
        # The API's description has a hostname in every rule.
        stored = [{**rule, "hostname": rule.get("hostname", "")} for rule in rules]
        version = self.configurations[tunnel_id]["version"] + 1
        self.configurations[tunnel_id] = {
            "version": version, "config": {**config, "ingress": stored}, "created_at": now(),
        }  # fmt: skip
        return self.configuration(tunnel_id)

    def _check_rule(self, rule: object, *, last: bool) -> None:
        if not isinstance(rule, dict):
            raise Refused(400, 1056, "Bad Configuration: Validation failed: a rule is not an object")
        required(rule, {"hostname": str, "service": str, "path": str, "originRequest": dict}, ("service",))
        if not _SERVICE.match(rule["service"]):
            raise Refused(400, 1056, f"Bad Configuration: Validation failed: bad service {rule['service']}")
        catches_all = not rule.get("hostname") and not rule.get("path")
        if last and not catches_all:
            raise Refused(400, 1056, "Bad Configuration: The last ingress rule must match all URLs")
        if not last and catches_all:
            raise Refused(400, 1056, "Bad Configuration: Rule matches all URLs but is not the last one")

    # DNS

    def create_record(self, body: Json) -> Json:
        """`POST dns_records`."""
        record_id = secrets.token_hex(16)
        record = self._record(record_id, body, {"created_on": now()})
        self.records[record_id] = record
        return record

    def edit_record(self, record_id: str, body: Json) -> Json:
        """`PATCH` and `PUT dns_records/<id>`."""
        before = self.record(record_id)
        kept = {name: before[name] for name in ("type", "name", "content", "proxied", "ttl", "comment", "tags")}
        record = self._record(record_id, {**kept, **body}, {"created_on": before["created_on"]})
        self.records[record_id] = record
        return record

    def record(self, record_id: str) -> Json:
        found = self.records.get(record_id)
        if found is None:
            raise Refused(404, 81044, "Record does not exist.")
        return found

    def delete_record(self, record_id: str) -> Json:
        self.record(record_id)
        del self.records[record_id]
        return {"id": record_id}

    def _record(self, record_id: str, body: Json, more: Json) -> Json:
        kinds: dict[str, type | tuple[type, ...]] = {
            "type": str, "name": str, "content": str, "proxied": bool, "ttl": (int, float),
            "comment": (str, type(None)), "tags": list, "settings": dict,
        }  # fmt: skip
        required(body, kinds, ("type", "name", "content"))
        if body["type"] not in TYPES:
            raise NotImplementedError(f"DNS records of type {body['type']}")
        name = self._full_name(body["name"])
        if body.get("proxied") and body["type"] not in ("A", "AAAA", "CNAME"):
            raise Refused(400, 9004, "This record type cannot be proxied.")
        ttl = body.get("ttl", 1)
        if ttl != 1 and not 60 <= ttl <= 86400:
            raise Refused(400, 9021, "Invalid TTL. Must be between 60 and 86400 seconds, or 1 for Automatic.")
        if len(body.get("comment") or "") > MAX_COMMENT:
            raise Refused(400, 9301, f"Comments may have at most {MAX_COMMENT} characters.")
        self._refuse_conflict(record_id, name, body)
        return {
            "id": record_id,
            "type": body["type"],
            "name": name,
            "content": body["content"],
            "proxied": bool(body.get("proxied", False)),
            "proxiable": body["type"] in ("A", "AAAA", "CNAME"),
            "ttl": ttl,
            "comment": body.get("comment"),
            "tags": body.get("tags", []),
            "settings": body.get("settings", {}),
            "meta": {},
            "modified_on": now(),
            **({"comment_modified_on": now()} if body.get("comment") else {}),
            **more,
        }

    def _full_name(self, name: str) -> str:
        """As Cloudflare: a name outside the zone is taken to be relative to it."""
        full = name.lower().rstrip(".")
        if full == "@":
            return self.zone_name
        if full != self.zone_name and not full.endswith(f".{self.zone_name}"):
            full = f"{full}.{self.zone_name}"
        if not _NAME.match(full) or len(full) > 253 or "*" in full[1:]:
            raise Refused(400, 9005, "DNS name is invalid.")
        return full

    def _refuse_conflict(self, record_id: str, name: str, body: Json) -> None:
        addresses = ("A", "AAAA", "CNAME")
        for other in self.records.values():
            if other["id"] == record_id or other["name"] != name:
                continue
            same = (other["type"], other["content"]) == (body["type"], body["content"])
            if same:
                raise Refused(400, 81058, "An identical record already exists.")
            if "CNAME" in (other["type"], body["type"]) and {other["type"], body["type"]} <= set(addresses):
                raise Refused(400, 81053, "An A, AAAA, or CNAME record with that host already exists.")
