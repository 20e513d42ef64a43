"""The double as a process, for the demo: `python -m doubles.github --folder DIR --setup FILE`.

People act at it as at GitHub: by git and by the API. What GitHub's own site would do is said in the setup, JSON:

    {"repositories": {"acme/shop": {"private": true, "empty": true, "collaborators": {"mona": "write"}}},
     "installations": ["acme"],
     "hook": {"url": "http://127.0.0.1:8080/webhooks/github", "secretFile": "/…"}}

When it answers it prints one line of JSON: `url` (the API), `gitUrl`, `appId`, and the files, which only the owner may
read, in its folder: `privateKeyFile` (the App's), `peopleFile` (login → token). What there is ends with the process;
the App's key stays, when `--app-key` names its file.

SIGHUP reads the setup again: what is new in it is made.
"""

import argparse
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

from doubles.github.double import GitHubDouble
from joserfc.jwk import RSAKey


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    options = _options()
    told, stop = threading.Event(), threading.Event()

    def end(*_: object) -> None:
        stop.set()
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    signal.signal(signal.SIGHUP, lambda *_: told.set())
    options.folder.mkdir(parents=True, exist_ok=True)
    certificate = (options.certificate, options.key) if options.certificate else None
    double = GitHubDouble(
        options.folder / "repositories",
        host=options.host,
        port=options.port,
        public_url=options.public_url,
        certificate=certificate,
        app_key=_app_key(options.app_key),
    )
    with double as github:
        while not stop.is_set():
            told.clear()
            _tell(github, options.folder, options.setup)
            told.wait()


def _tell(github: GitHubDouble, folder: Path, setup: Path | None) -> None:
    if setup:
        _set_up(github, json.loads(setup.read_text(encoding="utf-8")))
    people = {user.login: user.token for user in github.state.users.values() if user.type == "User"}
    facts = {
        "url": github.url,
        "gitUrl": github.git_url,
        "appId": github.app.id,
        "privateKeyFile": str(_private(folder / "app.pem", github.private_key)),
        "peopleFile": str(_private(folder / "people.json", json.dumps(people, indent=1))),
    }
    print(json.dumps(facts), flush=True)


def _app_key(file: Path | None) -> RSAKey | None:
    """The key in the file; made there when the file is new."""
    if file is None:
        return None
    if file.exists():
        return RSAKey.import_key(file.read_text(encoding="utf-8"))
    key = RSAKey.generate_key(2048)
    _private(file, key.as_pem(private=True).decode())
    return key


def _set_up(github: GitHubDouble, setup: dict[str, Any]) -> None:
    for name, wanted in setup.get("repositories", {}).items():
        files: dict[str, str] | None = {} if wanted.get("empty") else None
        github.repository(name, private=wanted.get("private", False), files=files)
        for login, role in wanted.get("collaborators", {}).items():
            github.collaborator(name, login, role)
    installed = {each.account.login.lower() for each in github.state.installations.values()}
    for account in setup.get("installations", ()):
        if account.lower() not in installed:
            github.install(account)
    if hook := setup.get("hook"):
        secret = Path(hook["secretFile"]).read_text(encoding="utf-8").strip()
        if (hook["url"], secret.encode()) != (github.webhooks.url, github.webhooks.secret):
            github.hook(hook["url"], secret)


def _private(file: Path, text: str) -> Path:
    """Whole or not at all: whoever reads it while SIGHUP has it written again finds what was there before."""
    scratch = file.with_name(f"{file.name}.new")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write(text)
    return scratch.rename(file)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder of its own")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8900, help="port to listen on; 0 takes a free one")
    parser.add_argument("--public-url", help="address by which people and pods know it; without: host and port")
    parser.add_argument("--certificate", type=Path, help="PEM file, for https; needs --key")
    parser.add_argument("--key", type=Path, help="the certificate's private key, PEM")
    parser.add_argument("--setup", type=Path, help="JSON file, see above")
    parser.add_argument("--app-key", type=Path, help="file with the App's private key, PEM; made when it is missing")
    return parser.parse_args()


if __name__ == "__main__":
    main()
