"""`python -m catalyst.local`: the local installation's own door.

setup                      build or find the cluster's binaries
up, down, status, logs     control plane and NATS in the background, data kept in .run/local
cluster up|down|status     a whole single-machine Kubernetes that runs pods; needs root on Linux
install                    Catalyst into that cluster, or into one that you have, by deploy/k8s
dev                        a whole installation with the services and an example pull request, until ctrl-C
pull-request push|close|…  what GitHub would send, to a running `dev`
demo up|push|break|…       `make demo`: a pull request becomes a running URL; needs what `cluster` needs
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx

from catalyst.local import cluster, components, dev, platform, supervisor
from catalyst.local.demo import commands as demo
from catalyst.local.demo import desk, parts, places, source
from catalyst.local.example import Action
from catalyst.local.existing import ExistingCluster
from catalyst.local.node import images, layout, leftovers, services
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


def _cluster_up(options: argparse.Namespace) -> int:
    if chosen := os.environ.get("CATALYST_KUBECONFIG"):
        with ExistingCluster(options.folder / "existing", Path(chosen)):
            print(f"CATALYST_KUBECONFIG={chosen} names a cluster, and it answers; nothing to start")
        return 0
    _show_cluster(cluster.up(options.folder))
    return 0


def _cluster_image(options: argparse.Namespace) -> int:
    binaries = components.binaries(components=components.COMPONENTS + components.NODE)
    images.build(options.context.absolute(), options.tags, binaries, sys.stderr, dockerfile=options.dockerfile)
    print("\n".join(f"{layout.MIRROR}/{tag}" for tag in options.tags))
    return 0


def _install(options: argparse.Namespace) -> int:
    state = cluster.running()
    given: dict[str, dict[str, Path]] = {}
    for name, key, file in options.secret:
        given.setdefault(name, {})[key] = file
    kubeconfig, folder, images, kubectl = options.kubeconfig, options.folder, None, None
    if kubeconfig is None:
        if state is None:
            raise LookupError("no cluster runs: `make cluster-up` starts one, or name yours with --kubeconfig")
        home = Path(state.kubeconfig).parent
        kubeconfig, folder = Path(state.kubeconfig), folder or home / "platform"
        given.setdefault("realm-key", {"key.pem": home / "realm" / "key.pem"})
        binaries = components.binaries(components=components.COMPONENTS + components.NODE)
        images, kubectl = services.build(binaries, sys.stderr), binaries["kubectl"]
    elif folder is None:
        raise LookupError("--folder is missing: where the keys of this installation are kept")
    if options.secrets_only:
        if options.set:
            raise LookupError("--set with --secrets-only: expected the settings in the overlay, which you apply")
        print(f"{platform.secrets_into(kubeconfig, folder, options.overlay, secrets=given, kubectl=kubectl)} Secrets")
        return 0
    done = platform.install_into(
        kubeconfig, folder, options.overlay, settings=dict(options.set), secrets=given, images=images, kubectl=kubectl
    )
    print(f"\nwebhooks   {done.webhook_url}, secret in {done.webhook_secret}")
    print(f"edge       {done.edge_address}, authority {done.edge_authority}")
    return 0


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (equals and name.startswith("CATALYST_")):
        raise argparse.ArgumentTypeError(f"{text!r}: expected CATALYST_NAME=value")
    return name, value


def _secret(text: str) -> tuple[str, str, Path]:
    place, _, file = text.partition("=")
    name, _, key = place.partition("/")
    if not (name and key and file):
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME/KEY=FILE, such as forge/app.pem=app.pem")
    return name, key, Path(file)


def _cluster_down(options: argparse.Namespace) -> int:
    if left := cluster.down(options.folder):
        print("\n".join(["left behind:", *left]), file=sys.stderr)
        return 1
    print("nothing of the cluster is left; binaries and base images stay in the cache")
    return 0


def _cluster_status(options: argparse.Namespace) -> int:
    state = cluster.running(options.folder)
    if state is None:
        left = leftovers.found(layout.Layout(options.folder))
        print("no cluster runs; `make cluster-up` starts one")
        if left:
            print("\n".join(["left behind (`make cluster-up` continues it, `make cluster-down` removes it):", *left]))
        return 1
    return _show_cluster(state)


def _show_cluster(state: cluster.ClusterState) -> int:
    for part in (state.supervisor, *state.parts):
        again = f"started again {count}×" if (count := state.restarts.get(part.name)) else ""
        print(f"{part.name:<24} {'runs' if part.runs else 'ENDED':<6} pid {part.pid:<8} {part.log} {again}")
        if not part.runs:
            print(tail(Path(part.log), 10))
    for pod in cluster.pods(state):
        name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        print(f"pod {name:<54} {pod['status'].get('phase', '')}")
    print(f"\nregistry {layout.REGISTRY}, base images {layout.MIRROR}\nexport KUBECONFIG={state.kubeconfig}")
    return 0 if state.ready and all(part.runs for part in state.parts) else 1


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


def _demo(options: argparse.Namespace) -> int:
    live = False if options.plain else None
    match options.action:
        case "up":
            return demo.up(example=options.example, own=options.repo, live=live)
        case "push":
            return demo.push(live=live)
        case "break":
            return demo.spoil(options.how, live=live)
        case "close":
            return demo.close(live=live)
    return demo.down()


def _demo_shell(options: argparse.Namespace) -> int:
    return desk.shell(options.words)


def _add_log_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("part", nargs="?", help="only this one")
    command.add_argument("-f", "--follow", action="store_true")
    command.add_argument("-n", "--lines", type=int, default=20)


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
            _add_log_options(command)
    node = commands.add_parser("cluster", help="a whole Kubernetes on this machine, pods included")
    node_commands = node.add_subparsers(dest="action", required=True, metavar="command")
    for name, run, text in (
        ("up", _cluster_up, "install, build and start what is missing; continue what is there"),
        ("down", _cluster_down, "stop it and remove everything it made"),
        ("status", _cluster_status, "what runs, what was started again, what is left"),
        ("logs", _logs, "the end of each part's log"),
        ("supervise", lambda options: cluster.supervise(options.folder), "what `up` runs in the background"),
    ):
        command = node_commands.add_parser(name, help=text)
        command.add_argument("--folder", type=Path, default=cluster.FOLDER, help="where logs and kubeconfig lie")
        command.set_defaults(run=run)
        if name == "logs":
            _add_log_options(command)
    image = node_commands.add_parser("image", help="build a Dockerfile into the mirror of base images")
    image.add_argument("context", type=Path)
    image.add_argument("tags", nargs="+", metavar="repository:tag", help="such as catalyst/builder:dev")
    image.add_argument("-f", "--dockerfile", type=Path, help="default: the context's")
    image.set_defaults(run=_cluster_image)
    install = commands.add_parser("install", help="Catalyst into a cluster, by an overlay of deploy/k8s")
    install.add_argument("--kubeconfig", type=Path, help="a cluster admin's; default: the cluster of this machine")
    install.add_argument("--overlay", type=Path, default=platform.OVERLAYS / "local", help="default: overlays/local")
    install.add_argument("--folder", type=Path, help="where the installation's keys are kept; private")
    install.add_argument("--set", type=_setting, action="append", default=[], metavar="CATALYST_X=VALUE")
    install.add_argument("--secret", type=_secret, action="append", default=[], metavar="NAME/KEY=FILE")
    install.add_argument(
        "--secrets-only", action="store_true", help="only keys and Secrets; kubectl apply -k of the overlay is yours"
    )
    install.set_defaults(run=_install)
    develop = commands.add_parser("dev", help="everything, with an example pull request, until ctrl-C")
    develop.add_argument("--once", action="store_true", help="end when the example environment came and went")
    develop.set_defaults(run=lambda options: dev.run(once=options.once))
    pull_request = commands.add_parser("pull-request", help="what GitHub would send, to a running `dev`")
    pull_request.add_argument("action", choices=ACTIONS)
    pull_request.add_argument("--number", type=int, help="default: the example's")
    pull_request.set_defaults(run=lambda options: dev.deliver_to_running(ACTIONS[options.action], options.number))
    _add_demo(commands.add_parser("demo", help="a pull request becomes a running URL, and goes away again"))
    return parser


def _add_demo(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="command")
    for name, text in (
        ("up", "set everything up, open a pull request, wait until its URL answers"),
        ("push", "a new commit; wait until the URL shows it"),
        ("break", "a commit that fails; wait until the comment says why"),
        ("close", "close the pull request; wait until nothing is left"),
        ("down", "end everything"),
    ):
        command = actions.add_parser(name, help=text)
        command.add_argument("--plain", action="store_true", help="lines instead of a table that changes")
        command.set_defaults(run=_demo)
        if name == "up":
            command.add_argument("--example", default="hello", help=f"one of {', '.join(source.examples())}")
            command.add_argument("--repo", type=Path, help="a git repository of yours instead: its current branch")
        if name == "break":
            command.add_argument("--how", choices=source.KINDS, default="build", help="what is to fail")
    command = actions.add_parser("shell", help="where somebody on call sits: kubectl, catalyst, keys, NATS forwarded")
    command.add_argument("words", nargs=argparse.REMAINDER, metavar="command", help="instead of a shell to type in")
    command.set_defaults(run=_demo_shell)
    command = actions.add_parser("supervise", help="what `up` runs in the background")
    command.add_argument("--folder", type=Path, default=places.FOLDER)
    command.set_defaults(run=lambda options: parts.supervise(options.folder))


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
