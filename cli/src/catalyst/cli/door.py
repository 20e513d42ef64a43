"""The command line: what may be typed, and which operation answers it. Nothing is decided here.

Everything an operation needs is imported when it runs, so that help and completion come at once.
"""

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from catalyst.cli.cluster import ClusterCommand
    from catalyst.cli.context import Options
    from catalyst.cli.core.selection import Selection
    from catalyst.cli.running import Command
    from catalyst.cli.show import Printer


class Output(enum.StrEnum):
    """In which form a result is printed."""

    table = "table"
    json = "json"
    yaml = "yaml"


def _contexts() -> list[str]:
    import os

    from catalyst.cli.context import names

    return names(os.environ)


app = typer.Typer(
    help="What happened to an environment, why it is red, what is unwell: for people on call.",
    epilog="Exit codes: 0 done; 1 something is unwell; 2 wrong usage; 3 it does not exist; "
    "4 the bus or the cluster is away; 5 refused; 70 a bug; 130 interrupted.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
env = typer.Typer(help="Environments: what they are, what they were, and why.", no_args_is_help=True)
events = typer.Typer(help="Events of any stream: the last ones, one whole, all in order.", no_args_is_help=True)
dead = typer.Typer(help="Messages that nobody could handle.", no_args_is_help=True)
app.add_typer(env, name="env")
app.add_typer(events, name="events")
app.add_typer(dead, name="dead")
audit = typer.Typer(help="Who did what, by which door, and what came of it.", no_args_is_help=True)
app.add_typer(audit, name="audit")

OutputOption = Annotated[Output, typer.Option("--output", "-o", help="In which form it is printed.")]
EnvironmentArgument = Annotated[
    str, typer.Argument(metavar="ENVIRONMENT", help="team/project/environment, such as acme/shop/pr-42.")
]
LetterArgument = Annotated[str, typer.Argument(metavar="LETTER", help="DEAD/17, or the number alone.")]
ByOption = Annotated[
    str, typer.Option("--by", envvar=["CATALYST_USER", "USER"], help="Who does it: it is written down beside it.")
]
EnvironmentOption = Annotated[
    str | None, typer.Option("--environment", "-e", help="Only of this environment: team/project/environment.")
]
TeamOption = Annotated[str | None, typer.Option("--team", help="Only of this team's environments.")]
ServiceOption = Annotated[str | None, typer.Option("--service", help="Only what this service says.")]
TypeOption = Annotated[
    str | None, typer.Option("--type", help="Only this type, such as build.finished; * stands for anything.")
]
SinceOption = Annotated[
    str | None, typer.Option("--since", help="From this time on: 2026-11-23T20:00:00Z, 20:15, or 10m, 2h, 3d (ago).")
]
UntilOption = Annotated[str | None, typer.Option("--until", help="Up to this time.")]
KubeconfigOption = Annotated[
    Path | None, typer.Option("--kubeconfig", help="The cluster; also KUBECONFIG, then ~/.kube/config.")
]
KubeContextOption = Annotated[
    str | None, typer.Option("--kube-context", help="A context of the kubeconfig, if not its current one.")
]
SystemOption = Annotated[str, typer.Option("--system-namespace", help="Where Catalyst itself runs.")]
FollowOption = Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")]


def _version(wanted: bool) -> None:
    if wanted:
        from catalyst.cli.__main__ import VERSION

        typer.echo(f"catalyst {VERSION}")
        raise typer.Exit


@app.callback()
def catalyst(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Option(
            "--context",
            help="A context of the nats command line, by its name; also CATALYST_CONTEXT, NATS_CONTEXT.",
            autocompletion=_contexts,
        ),
    ] = None,
    url: Annotated[str | None, typer.Option(help="Where the bus is; also CATALYST_NATS_URL.")] = None,
    seed: Annotated[
        Path | None, typer.Option(help="A file with the user's nkey seed; also CATALYST_NATS_SEED_FILE.")
    ] = None,
    ca: Annotated[
        Path | None, typer.Option(help="The authority a bus with TLS is verified by; also CATALYST_NATS_CA_FILE.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    context.obj = {"context": name, "url": url, "seed": seed, "ca": ca}


def _run(context: typer.Context, command: "Command", output: Output) -> None:
    from catalyst.cli.running import run

    raise typer.Exit(run(command, _options(context), output.value))


def _run_in_cluster(
    context: typer.Context,
    command: "ClusterCommand",
    kubeconfig: Path | None,
    kube_context: str | None,
    output: Output,
    *,
    with_bus: bool,
) -> None:
    from catalyst.cli.cluster import KubeOptions, run

    options = KubeOptions(kubeconfig, kube_context)
    raise typer.Exit(run(command, _options(context), options, output.value, with_bus=with_bus))


def _options(context: typer.Context) -> "Options":
    from catalyst.cli.context import Options

    return Options(**context.obj)


# Environments


@env.command("list")
def env_list(
    context: typer.Context,
    team: Annotated[str | None, typer.Option("--team", help="Only of this team.")] = None,
    project: Annotated[str | None, typer.Option("--project", help="Only of projects of this name.")] = None,
    phase: Annotated[str | None, typer.Option("--phase", help="Only in this phase, such as Failed.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Also those that are gone.")] = False,
    output: OutputOption = Output.table,
) -> None:
    """All environments, by name."""
    from catalyst.cli import commands

    _run(context, commands.env_list(team, project, phase, gone=all_), output)


@env.command("show")
def env_show(
    context: typer.Context,
    environment: EnvironmentArgument,
    at: Annotated[
        str | None, typer.Option("--at", help="As it was then, from history alone: 20:15, 10m, 2026-11-23T20:00:00Z.")
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """The whole public state of one, now or at a time."""
    from catalyst.cli import commands

    _run(context, commands.env_show(environment, at), output)


@env.command("timeline")
def env_timeline(
    context: typer.Context,
    environment: EnvironmentArgument,
    follow: FollowOption = False,
    output: OutputOption = Output.table,
) -> None:
    """Everything that happened to one, in causal order, with gaps and durations."""
    from catalyst.cli import commands

    _run(context, commands.env_timeline(environment, follow=follow), output)


@env.command("diff")
def env_diff(
    context: typer.Context,
    environment: EnvironmentArgument,
    since: Annotated[str, typer.Argument(metavar="T1", help="The earlier time.")],
    until: Annotated[str, typer.Argument(metavar="T2", help="The later time.")] = "now",
    output: OutputOption = Output.table,
) -> None:
    """What changed between two times, and why."""
    from catalyst.cli import commands

    _run(context, commands.env_diff(environment, since, until), output)


@app.command()
def why(context: typer.Context, environment: EnvironmentArgument, output: OutputOption = Output.table) -> None:
    """Why an environment is red, what it waits for, or what took long: in one screen."""
    from catalyst.cli import commands

    _run(context, commands.why(environment), output)


@app.command()
def explain(
    context: typer.Context,
    project: Annotated[str, typer.Argument(metavar="PROJECT", help="team/project, such as acme/shop.")],
    number: Annotated[
        int | None, typer.Argument(metavar="NUMBER", min=1, help="The pull request; without it, one to be.")
    ] = None,
    event: Annotated[
        Path | None, typer.Option("--event", help="A file with the body of a pull_request webhook, instead of the bus.")
    ] = None,
    head: Annotated[str | None, typer.Option("--head", help="As if this were its branch.")] = None,
    base: Annotated[str | None, typer.Option("--base", help="As if this were the branch it aims at.")] = None,
    fork: Annotated[bool | None, typer.Option("--fork/--no-fork", help="As if it came from a fork.")] = None,
    draft: Annotated[bool | None, typer.Option("--draft/--no-draft", help="As if it were a draft.")] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", help="As if it had this label, and those given beside it, alone.")
    ] = None,
    author: Annotated[str | None, typer.Option("--author", help="As if this were its author.")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--setting", help="NAME=VALUE of env-controller, where its Deployment cannot be looked at."),
    ] = None,
    system_namespace: SystemOption = "catalyst-system",
    kubeconfig: KubeconfigOption = None,
    kube_context: KubeContextOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Why a pull request would, or would not, get an environment. Nothing is written anywhere."""
    from catalyst.cli import cluster
    from catalyst.cli.operations.explain import Asked
    from catalyst.cli.running import Usage

    changes: dict[str, Any] = {"head": head, "base": base, "fork": fork, "draft": draft, "author": author}
    given = {name: value for name, value in changes.items() if value is not None}
    if label:
        given["labels"] = tuple(label)
    try:
        team, name = cluster.project_named(project)
        settings = cluster.settings_given(setting or [])
    except Usage as error:
        typer.echo(f"catalyst: {error}", err=True)
        raise typer.Exit(2) from error
    asked = Asked(team, name, number, event, given, settings, system_namespace)
    _run_in_cluster(context, cluster.explain(asked), kubeconfig, kube_context, output, with_bus=asked.needs_the_bus)


# Events


@events.command("tail")
def events_tail(
    context: typer.Context,
    environment: EnvironmentOption = None,
    team: TeamOption = None,
    service: ServiceOption = None,
    type_: TypeOption = None,
    since: SinceOption = None,
    count: Annotated[int, typer.Option("--count", "-n", min=0, help="How many to begin with.")] = 20,
    follow: FollowOption = False,
    output: OutputOption = Output.table,
) -> None:
    """The last events, and with --follow what comes."""
    from catalyst.cli import commands

    selection = _selection(environment, team, service, type_, since, None)
    _run(context, commands.events_tail(selection, count, follow=follow), output)


@events.command("show")
def events_show(
    context: typer.Context,
    message: Annotated[str, typer.Argument(metavar="MESSAGE", help="Its stream and number, such as EVENTS/17.")],
    output: OutputOption = Output.table,
) -> None:
    """One message, whole."""
    from catalyst.cli import commands

    _run(context, commands.events_show(message), output)


@events.command("replay")
def events_replay(
    context: typer.Context,
    environment: EnvironmentOption = None,
    team: TeamOption = None,
    service: ServiceOption = None,
    type_: TypeOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    output: OutputOption = Output.table,
) -> None:
    """History in order, oldest first; with -o json one document a line."""
    from catalyst.cli import commands

    _run(context, commands.events_replay(_selection(environment, team, service, type_, since, until)), output)


def _selection(
    environment: str | None,
    team: str | None,
    service: str | None,
    type_: str | None,
    since: str | None,
    until: str | None,
) -> "Selection":
    from catalyst.cli import commands
    from catalyst.cli.running import Usage

    try:
        return commands.selection(environment, team, service, type_, since, until)
    except Usage as error:
        typer.echo(f"catalyst: {error}", err=True)
        raise typer.Exit(2) from error


@app.command()
def status(
    context: typer.Context,
    monitoring: Annotated[
        str | None,
        typer.Option("--monitoring", help="The monitoring page of NATS, which alone tells of a full disk."),
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """The bus and the services on it: fill, lag, leaders, versions, and what is unwell and why."""
    from catalyst.cli import commands

    _run(context, commands.status(monitoring), output)


@app.command()
def doctor(
    context: typer.Context,
    probe: Annotated[
        bool, typer.Option("--probe", help="Try what only pods can tell, in a namespace of its own that is removed.")
    ] = False,
    probe_deadline: Annotated[
        float, typer.Option("--probe-deadline", min=1, help="Seconds after which a probe is given up.")
    ] = 120,
    probe_image: Annotated[
        str | None, typer.Option("--probe-image", help="An image with python3; else env-controller's own.")
    ] = None,
    zone: Annotated[str | None, typer.Option("--zone", help="The DNS zone of the hosts, if not the cluster's.")] = None,
    edge: Annotated[
        str | None, typer.Option("--edge", help="HOST:PORT at which the edge is asked, if not by its names.")
    ] = None,
    edge_ca: Annotated[
        Path | None, typer.Option("--edge-ca", help="The authority of the edge's certificate, if it is your own.")
    ] = None,
    monitoring: Annotated[
        str | None, typer.Option("--monitoring", help="The monitoring page of NATS: http://127.0.0.1:8222.")
    ] = None,
    github_key: Annotated[
        Path | None,
        typer.Option("--github-key", envvar="CATALYST_GITHUB_PRIVATE_KEY_FILE", help="The App's private key."),
    ] = None,
    github_app_id: Annotated[
        int | None, typer.Option("--github-app-id", envvar="CATALYST_GITHUB_APP_ID", help="If not the cluster's.")
    ] = None,
    github_url: Annotated[
        str | None, typer.Option("--github-url", envvar="CATALYST_GITHUB_URL", help="If not the cluster's.")
    ] = None,
    system_namespace: SystemOption = "catalyst-system",
    kubeconfig: KubeconfigOption = None,
    kube_context: KubeContextOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Is the installation as it should be: each check with its remedy. Without --probe nothing is written."""
    from catalyst.cli import examining
    from catalyst.cli.__main__ import VERSION
    from catalyst.cli.cluster import KubeOptions
    from catalyst.cli.operations.doctor import Wanted
    from catalyst.cli.running import Usage

    try:
        at = examining.address(edge) if edge else None
    except Usage as error:
        typer.echo(f"catalyst: {error}", err=True)
        raise typer.Exit(2) from error
    given = {"github_private_key_file": github_key, "github_app_id": github_app_id, "github_url": github_url}
    wanted = Wanted(
        version=VERSION,
        system_namespace=system_namespace,
        zone=zone,
        edge=at,
        edge_ca=edge_ca,
        monitoring=monitoring,
        forge={name: value for name, value in given.items() if value is not None},
        probe=probe,
        probe_deadline=probe_deadline,
        probe_image=probe_image,
    )
    options = KubeOptions(kubeconfig, kube_context)
    raise typer.Exit(examining.examine(wanted, _options(context), options, output.value))


# What nobody could handle


@dead.command("list")
def dead_list(
    context: typer.Context,
    service: Annotated[str | None, typer.Option("--service", help="Only of this service.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Also those that somebody has dealt with.")] = False,
    output: OutputOption = Output.table,
) -> None:
    """Dead letters that nobody has dealt with, with their reasons."""
    from catalyst.cli import commands

    _run(context, commands.dead_list(service, settled=all_), output)


@dead.command("show")
def dead_show(context: typer.Context, letter: LetterArgument, output: OutputOption = Output.table) -> None:
    """One letter whole, with the message it is about."""
    from catalyst.cli import commands

    _run(context, commands.dead_show(letter), output)


@dead.command("resend")
def dead_resend(
    context: typer.Context,
    letters: Annotated[list[str], typer.Argument(metavar="LETTER…", help="DEAD/17, or the number alone; several.")],
    by: ByOption,
    output: OutputOption = Output.table,
) -> None:
    """Publish the message again, once; handled already, it has no second effect."""
    from catalyst.cli import commands

    _run(context, commands.dead_resend(letters, by), output)


@dead.command("drop")
def dead_drop(
    context: typer.Context,
    letter: LetterArgument,
    by: ByOption,
    reason: Annotated[str, typer.Option("--reason", help="Why nothing is done about it; it stays beside the letter.")],
    output: OutputOption = Output.table,
) -> None:
    """Leave the message unhandled; letter, message and your reason stay readable."""
    from catalyst.cli import commands

    _run(context, commands.dead_drop(letter, by, reason), output)


# The audit


ExportArgument = Annotated[
    Path | None, typer.Argument(metavar="FILE", help="An export, read without a bus; without it, the stream itself.")
]


@audit.command("list")
def audit_list(
    context: typer.Context,
    environment: EnvironmentOption = None,
    by: Annotated[str | None, typer.Option("--by", help="Only what this principal did, by its whole name.")] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=0, help="How many, the last ones.")] = 50,
    output: OutputOption = Output.table,
) -> None:
    """The last operations: who, by which door, what, on what, with which result."""
    from catalyst.cli import commands

    _run(context, commands.audit_list(environment, by, count), output)


@audit.command("show")
def audit_show(
    context: typer.Context,
    record: Annotated[str, typer.Argument(metavar="RECORD", help="AUDIT/17, or the number alone.")],
    output: OutputOption = Output.table,
) -> None:
    """One record, whole."""
    from catalyst.cli import commands

    _run(context, commands.audit_show(record), output)


@audit.command("verify")
def audit_verify(
    context: typer.Context,
    file: ExportArgument = None,
    against: Annotated[
        Path | None, typer.Option("--against", help="A checkpoint: also finds a cut end, and a chain written anew.")
    ] = None,
    environment: EnvironmentOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Whether every record is as it was written and where it was; exit 1 and which is not."""
    from catalyst.cli import commands

    if file is not None:
        _run_offline(lambda printer: commands.audit_verify_file(printer, file, environment, against), output)
    _run(context, commands.audit_verify(environment, against), output)


@audit.command("export")
def audit_export(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to; it must not be there yet.")],
    environment: EnvironmentOption = None,
) -> None:
    """All records into one file, one a line, as they are stored: `verify FILE` needs no bus."""
    from catalyst.cli import commands

    _run(context, commands.audit_export(file, environment), Output.table)


@audit.command("checkpoint")
def audit_checkpoint(context: typer.Context, file: ExportArgument = None) -> None:
    """Print how far each chain goes, as JSON to be kept elsewhere; exit 1 and nothing, if one is wrong."""
    from catalyst.cli import commands

    if file is not None:
        _run_offline(lambda printer: commands.audit_checkpoint_file(printer, file), Output.json)
    _run(context, commands.audit_checkpoint(), Output.json)


def _run_offline(command: "Callable[[Printer], int]", output: Output) -> None:
    from catalyst.cli.running import run_offline

    raise typer.Exit(run_offline(command, output.value))
