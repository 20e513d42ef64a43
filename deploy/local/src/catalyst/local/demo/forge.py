"""What a person does at the forge, by its API; and what the owner of the App sees on its page of deliveries."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import httpx
from joserfc import jwt
from joserfc.jwk import RSAKey

from catalyst.local.demo.places import APP_ID, FORGE, FORGE_HOST, FORGE_PORT, PERSON, DemoFailed, Places
from catalyst.local.node import layout

MARK: Final = "<!-- catalyst:environments -->"


@dataclass(frozen=True, slots=True)
class Comment:
    """Catalyst's comment. `id` stays while it is edited in place."""

    id: int
    body: str
    updated_at: datetime

    def title(self) -> str:
        """The first line that people see."""
        return next((line for line in self.body.splitlines() if line.strip() and MARK not in line), "")

    def first_line(self) -> str:
        """The same without Markdown's signs."""
        return self.title().strip("#* ")


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook as the App's page lists it. `seconds`: until it was answered."""

    at: datetime
    event: str
    action: str | None
    status: int
    seconds: float


class Forge:
    """The forge's API as PERSON, at `http://172.30.0.1:8900` under its public name."""

    def __init__(self, at: Places) -> None:
        self._at = at
        self._http = httpx.Client(
            base_url=f"http://{layout.ADDRESS}:{FORGE_PORT}/api/v3",
            headers={"host": f"{FORGE_HOST}:{FORGE_PORT}", "user-agent": "catalyst-demo"},
            timeout=15,
            trust_env=False,
        )
        self._seen: dict[str, tuple[str, Any]] = {}

    @property
    def token(self) -> str:
        """PERSON's."""
        token: str = json.loads(self._at.people.read_text())[PERSON]
        return token

    def has(self, repository: str) -> bool:
        return self._http.get(f"/repos/{repository}", headers=self._person()).status_code == httpx.codes.OK

    def open(self, repository: str, *, head: str, base: str, title: str, body: str) -> int:
        """A pull request; gives its number. One that is open for this branch already is it."""
        answer = self._http.post(
            f"/repos/{repository}/pulls",
            json={"head": head, "base": base, "title": title, "body": body},
            headers=self._person(),
        )
        number: int = _checked(answer).json()["number"]
        return number

    def pull(self, repository: str, number: int) -> dict[str, Any]:
        found: dict[str, Any] = self._get(f"/repos/{repository}/pulls/{number}", self._person())
        return found

    def close(self, repository: str, number: int) -> None:
        self._change(repository, number, "closed")

    def reopen(self, repository: str, number: int) -> None:
        self._change(repository, number, "open")

    def comments(self, repository: str, number: int) -> list[Comment]:
        """Those of Catalyst: there should be one."""
        found = self._get(f"/repos/{repository}/issues/{number}/comments", self._person())
        return [
            Comment(each["id"], each["body"], datetime.fromisoformat(each["updated_at"]))
            for each in found
            if each["body"].startswith(MARK) and each["user"]["type"] == "Bot"
        ]

    def deliveries(self) -> list[Delivery]:
        """The newest first."""
        now = int(time.time())
        claims = {"iat": now - 10, "exp": now + 300, "iss": str(APP_ID)}
        signed = jwt.encode({"alg": "RS256"}, claims, RSAKey.import_key(self._at.app_key.read_text()))
        answer = self._http.get("/app/hook/deliveries", headers={"authorization": f"Bearer {signed}"})
        return [
            Delivery(
                datetime.fromisoformat(each["delivered_at"]),
                each["event"],
                each["action"],
                each["status_code"],
                each["duration"],
            )
            for each in _checked(answer).json()
        ]

    def close_connection(self) -> None:
        self._http.close()

    def _change(self, repository: str, number: int, state: str) -> None:
        _checked(self._http.patch(f"/repos/{repository}/pulls/{number}", json={"state": state}, headers=self._person()))

    def _get(self, path: str, headers: dict[str, str]) -> Any:
        """By the ETag of the last answer: what did not change costs nothing of the limit."""
        etag, known = self._seen.get(path, ("", None))
        answer = self._http.get(path, headers={**headers, **({"if-none-match": etag} if etag else {})})
        if answer.status_code == httpx.codes.NOT_MODIFIED:
            return known
        content = _checked(answer).json()
        self._seen[path] = (answer.headers.get("etag", ""), content)
        return content

    def _person(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}


def page(repository: str, number: int) -> str:
    """The pull request's page, as people reach it."""
    return f"{FORGE}/{repository}/pull/{number}"


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_error:
        asked = f"{answer.request.method} {answer.request.url.path}"
        raise DemoFailed(f"the forge answered {answer.status_code} to {asked}: {answer.text[:500]}")
    return answer
