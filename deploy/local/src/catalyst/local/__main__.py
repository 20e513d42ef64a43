"""`python -m catalyst.local`: the local installation's own door.

setup                      build or find the cluster's binaries
up, down, status, logs     control plane and NATS in the background, data kept in .run/local
dev                        a whole installation with the services and an example pull request, until ctrl-C
pull-request push|close|…  what GitHub would send, to a running `dev`
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx

from catalyst.local import components, dev, supervisor
from catalyst.local.example import Action
from catalyst.local.process import tail

ACTIONS: dict[str, Action] = {"open": "opened", "push": "synchronize", "close": "closed", "reopen": "reopened"}


def main(arguments: Sequence[str] | None = None) -> int:
    """0: done; 1: it failed, and why."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        return 0 if options.command in ("dev", "logs") else 130
    except (RuntimeError, OSError, LookupError, httpx.HTTPError) as error:
        print("\n".join([str(error), *getattr(error, "__notes__", [])]), file=sys.stderr)
        return 1


def _setup(_: argparse.Namespace) -> int:
    for name, path in components.binaries().items():
        print(f"{name:<24} {path}")
    return 0


def _up(options: argparse.Namespace) -> int:
    state = supervisor.up(options.folder)
    _show(state)
    return 0


def _down(options: argparse.Namespace) -> int:
    print("stopped" if supervisor.down(options.folder) else "nothing runs")
    return 0


def _status(options: argparse.Namespace) -> int:
    state = supervisor.State.read(options.folder)
    if state is None:
        print("nothing runs; `python -m catalyst.local up` starts it")
        return 1
    _show(state)
    return 0


def _show(state: supervisor.State) -> None:
    for part in (state.supervisor, *state.parts):
        print(f"{part.name:<24} {'runs' if part.runs else 'ENDED':<6} pid {part.pid:<8} {part.log}")
    print(f"\nNATS {state.nats_url}, seeds in {state.nats_seeds}\nexport KUBECONFIG={state.kubeconfig}")


def _logs(options: argparse.Namespace) -> int:
    logs = {path.stem: path for path in sorted(options.folder.rglob("*.log")) if path.name != "audit.log"}
    if options.part and options.part not in logs:
        print(f"no log of {options.part!r}; there are {', '.join(logs) or 'none'}", file=sys.stderr)
        return 1
    wanted = {options.part: logs[options.part]} if options.part else logs
    for name, path in wanted.items():
        print(f"── {name}\n{tail(path, options.lines)}")
    if options.follow:
        for name, line in supervisor.follow(wanted):
            print(f"{name:>24} {line}", flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m catalyst.local", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("setup", help="build or find the cluster's binaries").set_defaults(run=_setup)
    for name, run, text in (
        ("up", _up, "start control plane and NATS in the background"),
        ("down", _down, "stop them; their data stays"),
        ("status", _status, "what runs"),
        ("logs", _logs, "the end of each part's log"),
        ("supervise", lambda options: supervisor.supervise(options.folder), "what `up` runs in the background"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--folder", type=Path, default=supervisor.FOLDER, help="where data and logs lie")
        command.set_defaults(run=run)
        if name == "logs":
            command.add_argument("part", nargs="?", help="only this one")
            command.add_argument("-f", "--follow", action="store_true")
            command.add_argument("-n", "--lines", type=int, default=20)
    develop = commands.add_parser("dev", help="everything, with an example pull request, until ctrl-C")
    develop.add_argument("--once", action="store_true", help="end when the example environment came and went")
    develop.set_defaults(run=lambda options: dev.run(once=options.once))
    pull_request = commands.add_parser("pull-request", help="what GitHub would send, to a running `dev`")
    pull_request.add_argument("action", choices=ACTIONS)
    pull_request.add_argument("--number", type=int, help="default: the example's")
    pull_request.set_defaults(run=lambda options: dev.deliver_to_running(ACTIONS[options.action], options.number))
    return parser


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
