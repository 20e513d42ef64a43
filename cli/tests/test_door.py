"""`catalyst` as a program: forms, exit codes, contexts, refusals; and never a traceback."""

import asyncio
import json
import os
import resource
import subprocess
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from desk import CATALYST, Desk, run
from histories import Author, asked, component, ready

from catalyst.cli.__main__ import VERSION
from catalyst.cli.completion import complete, values
from catalyst.cli.context import BadContext, Options, context
from catalyst.cli.show import _clean
from catalyst.events.server import nats_server_config
from catalyst.local import certs
from catalyst.local.nats import Nats
from catalyst.model.clock import utc_now
from catalyst.model.environment import Phase

PR_42 = "acme/shop/pr-42"


async def failed(desk: Desk) -> None:
    author = ready(Author(now=utc_now()))
    author.is_(Phase.BUILDING, builds=asked(web="k-z"))
    author.builds(author.asks(key="k-z"), reason="BuildFailed", message="RUN make ended with 2", log="make: ***")
    author.is_(Phase.FAILED, components=(component(reason="BuildFailed", message="RUN make ended with 2"),))
    await desk.publish(event for event, _ in author.said)


async def test_every_command_in_every_form(desk: Desk) -> None:
    await failed(desk)
    commands: dict[tuple[str, ...], int] = {
        ("env", "list", "--all"): 0,
        ("env", "show", PR_42): 0,
        ("env", "show", PR_42, "--at", "now"): 0,
        ("env", "timeline", PR_42): 0,
        ("env", "diff", PR_42, "1h"): 0,
        ("why", PR_42): 1,
        ("events", "tail"): 0,
        ("events", "show", "EVENTS/1"): 0,
        ("events", "replay", "--since", "1h"): 0,
        ("status",): 1,
        ("dead", "list"): 0,
    }
    for arguments, code in commands.items():
        table = await desk.catalyst(*arguments)
        assert (table.code, table.err) == (code, ""), arguments
        assert table.out.strip(), arguments
        in_json = await desk.catalyst(*arguments, "-o", "json")
        assert in_json.code == code
        streamed = arguments[:2] in (("events", "tail"), ("events", "replay"))
        documents = [json.loads(line) for line in in_json.out.splitlines()] if streamed else [json.loads(in_json.out)]
        assert documents
        if arguments[:2] in (("env", "timeline"), ("events", "tail"), ("why", PR_42)):
            in_yaml = await desk.catalyst(*arguments, "-o", "yaml")
            assert in_yaml.code == code
            assert _shape(list(yaml.safe_load_all(in_yaml.out))) == _shape(documents)
    assert "first cause" in (await desk.catalyst("why", PR_42)).out
    why = json.loads((await desk.catalyst("why", PR_42, "-o", "json")).out)
    assert why["first"]["reason"] == "BuildFailed"


def _shape(value: Any) -> Any:
    """The names of all fields, without their values: two runs differ in the time."""
    if isinstance(value, dict):
        return {name: _shape(child) for name, child in value.items()}
    return [_shape(child) for child in value] if isinstance(value, list) else type(value).__name__


async def test_bad_input_gets_a_sentence_and_its_code(desk: Desk) -> None:
    await failed(desk)
    expected: dict[tuple[str, ...], tuple[int, str]] = {
        ("env", "show", "acme/shop/pr-24"): (3, "no environment acme/shop/pr-24: did you mean acme/shop/pr-42?"),
        ("env", "show", PR_42, "--at", "2020-01-01"): (3, "the oldest that can be shown is of 20"),
        ("env", "show", "acme/shop"): (2, "expected team/project/environment"),
        ("env", "show", PR_42, "--at", "yesterday"): (2, "'yesterday' is no time: expected"),
        ("env", "diff", PR_42, "now", "1h"): (2, "expected the earlier time first"),
        ("env", "list", "--team", "ACME"): (2, "--team 'ACME': expected a name"),
        ("env", "list", "--phase", "Red"): (2, "expected one of Pending"),
        ("env", "list", "-o", "xml"): (2, "table"),
        ("events", "show", "EVENTS/x"): (2, "expected EVENTS/17"),
        ("events", "show", "EVENTS/4711"): (3, "EVENTS holds 1 to"),
        ("events", "tail", "--type", "nonsense"): (2, "no such events"),
        ("events", "tail", "-e", PR_42, "--team", "acme"): (2, "at most one of the two"),
        ("events", "tail", "--since", "soon"): (2, "is no time"),
        ("dead", "show", "7"): (3, "no dead letter DEAD/7: there are none"),
        ("dead", "show", "SCM/7"): (2, "expected DEAD/17, or the number alone"),
        ("dead", "drop", "7"): (2, "--reason"),
        ("nonsense",): (2, "nonsense"),
    }
    for arguments, (code, sentence) in expected.items():
        ran = await desk.catalyst(*arguments)
        assert (ran.code, ran.out) == (code, ""), arguments
        assert sentence in " ".join(ran.err.split()), (arguments, ran.err)


async def test_a_credential_without_the_right_names_the_subject_at_once(desk: Desk) -> None:
    """builder may read STATE and no history; the same question as `oncall` is answered."""
    await failed(desk)
    began = time.monotonic()
    assert (await desk.catalyst("env", "list", user="builder")).code == 0
    allowed, began = time.monotonic() - began, time.monotonic()
    ran = await desk.catalyst("env", "timeline", PR_42, user="builder")
    assert ran.code == 5
    assert "no right to $js.api.direct.get.events" in ran.err or "no right to $js.api.direct.get.audit" in ran.err
    assert time.monotonic() - began < 2 * allowed + 3  # not after a timeout, on a busy machine either
    assert (await desk.catalyst("env", "timeline", PR_42)).code == 0


async def test_dead_letters_by_command(desk: Desk) -> None:
    author = Author(now=utc_now())
    fact = author.opens()
    author.buries(fact, reason="it is ill")
    author.buries(author.opens(), reason="it is ill, too")
    await desk.publish(event for event, _ in author.said)
    assert "it is ill, too" in (await desk.catalyst("dead", "list")).out
    ran = await desk.catalyst("dead", "resend", "1")
    assert (ran.code, ran.out) == (0, "DEAD/1 sent again, as SCM/3\n")
    assert (await desk.catalyst("dead", "resend", "DEAD/1")).out == "DEAD/1 had been sent again, as SCM/3\n"
    dropped = await desk.catalyst("dead", "drop", "2", "--reason", "a test")
    assert (dropped.code, dropped.out) == (0, "DEAD/2 dropped\n")
    refused = await desk.catalyst("dead", "resend", "2")
    assert refused.code == 5
    assert "was dropped by hubot: a test" in refused.err
    assert (await desk.catalyst("dead", "list")).out == "no dead letters\n"
    every = json.loads((await desk.catalyst("dead", "list", "--all", "-o", "json")).out)
    assert [each["settled"]["outcome"] for each in every] == ["resent", "dropped"]
    as_operator = await desk.catalyst("dead", "drop", "2", "--reason", "x", user="operator")
    assert (as_operator.code, as_operator.out) == (0, "DEAD/2 had been dropped\n")


async def test_following_ends_with_ctrl_c_and_prints_as_it_comes(desk: Desk) -> None:
    await failed(desk)
    environ = {
        "CATALYST_NATS_URL": desk.nats.url,
        "CATALYST_NATS_SEED_FILE": str(desk.nats.seed("oncall")),
        "HOME": str(desk.home),
        "PATH": os.environ["PATH"],
    }
    # Who runs the tests in the background of a shell has SIGINT ignored, and catalyst would have it so, too.
    command = ["env", "--default-signal=INT", str(CATALYST), "events", "tail", "-f", "-n", "1", "-o", "json"]
    process = await asyncio.create_subprocess_exec(*command, env=environ, stdout=-1, stderr=-1)
    assert process.stdout
    assert process.stderr
    try:
        async with asyncio.timeout(20):
            assert json.loads(await process.stdout.readline())["type"] == "dev.catalyst.environment.changed.v1"
            await desk.publish([Author(now=utc_now()).opens(delivery="later")])
            assert json.loads(await process.stdout.readline())["source"] == "webhook-ingest"
            process.send_signal(2)
            assert await process.wait() == 130
            assert await process.stderr.read() == b""
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def test_a_bus_that_is_away(tmp_path: Path) -> None:
    ran = run(tmp_path, ["status"], {"CATALYST_NATS_URL": "nats://127.0.0.1:1"})
    assert ran.code == 4
    assert ran.err.startswith("catalyst: no connection to nats://127.0.0.1:1")


async def test_a_bus_that_does_not_know_us(desk: Desk) -> None:
    ran = await desk.catalyst("status", CATALYST_NATS_SEED_FILE=str(desk.home / "nothing.seed"))
    assert ran.code == 4
    assert "nothing.seed" in ran.err
    nobody = run(desk.home, ["status"], {"CATALYST_NATS_URL": desk.nats.url})
    assert nobody.code == 4
    assert "authorization" in nobody.err.lower()


async def test_contexts_of_the_nats_command_line(desk: Desk) -> None:
    folder = desk.home / ".config" / "nats"
    (folder / "context").mkdir(parents=True)
    file = folder / "context" / "here.json"
    file.write_text(json.dumps({"url": desk.nats.url, "nkey": str(desk.nats.seed("oncall"))}))
    assert run(desk.home, ["--context", "here", "env", "list"], {}).code == 0
    assert run(desk.home, ["env", "list"], {"NATS_CONTEXT": "here"}).code == 0
    (folder / "context.txt").write_text("here\n")
    assert run(desk.home, ["env", "list"], {}).code == 0
    missing = run(desk.home, ["--context", "there", "env", "list"], {})
    assert missing.code == 2
    assert "there are: here" in missing.err
    file.write_text(json.dumps({"url": desk.nats.url, "creds": "/some.creds"}))
    refused = run(desk.home, ["env", "list"], {})
    assert refused.code == 2
    assert "creds is not understood here; expected nkey" in refused.err
    file.write_text("{broken")
    assert run(desk.home, ["env", "list"], {}).code == 2


def test_which_context_wins(tmp_path: Path) -> None:
    folder = tmp_path / "nats" / "context"
    folder.mkdir(parents=True)
    (folder / "a.json").write_text(json.dumps({"url": "nats://a", "nkey": "/keys/operator.seed", "inbox_prefix": "_X"}))
    environ = {"XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path)}
    assert context(Options(), environ).url == "nats://127.0.0.1:4222"
    by_name = context(Options(context="a"), environ)
    assert (by_name.url, by_name.inbox_prefix) == ("nats://a", "_X")
    by_environment = context(Options(context="a"), {**environ, "CATALYST_NATS_URL": "nats://b"})
    assert (by_environment.url, by_environment.seed) == ("nats://b", Path("/keys/operator.seed"))
    by_option = context(
        Options(url="nats://c", seed=Path("/oncall.seed")), {**environ, "CATALYST_NATS_URL": "nats://b"}
    )
    assert (by_option.url, by_option.inbox_prefix) == ("nats://c", "_INBOX_oncall")
    with pytest.raises(BadContext, match="expected a name, not a path"):
        context(Options(context="../a"), environ)
    (folder / "b.json").write_text(json.dumps({"url": 7}))
    with pytest.raises(BadContext, match="url: expected text, found int"):
        context(Options(context="b"), environ)


async def test_a_bus_with_tls_is_verified(tmp_path: Path) -> None:
    authority = certs.Authority.new()
    pair = authority.server("nats", dns=["localhost"], ips=["127.0.0.1"])
    certificate, key = pair.write(tmp_path, "nats")
    ca = certs.write(tmp_path / "ca.crt", authority.certificate)
    other = certs.write(tmp_path / "other.crt", certs.Authority.new().certificate)
    nats = Nats(tmp_path / "nats")
    config = json.loads((nats.folder / "nats.conf").read_text())
    config["tls"] = {"cert_file": str(certificate), "key_file": str(key)}
    (nats.folder / "nats.conf").write_text(json.dumps(config))
    environ = {
        "CATALYST_NATS_URL": nats.url.replace("nats:", "tls:"),
        "CATALYST_NATS_SEED_FILE": str(nats.seed("oncall")),
    }
    with nats:
        verified = await asyncio.to_thread(run, tmp_path, ["--ca", str(ca), "events", "show", "SCM/1"], environ)
        assert verified.code == 4  # it speaks to us; there are no streams yet
        assert "no connection" not in verified.err
        refused = await asyncio.to_thread(run, tmp_path, ["--ca", str(other), "events", "show", "SCM/1"], environ)
        assert refused.code == 4
        assert "certificate" in refused.err.lower()
    assert nats_server_config(store_dir=tmp_path, port=1, public_keys=None)


AWAY = {
    "clusters": [{"name": "away", "cluster": {"server": "http://127.0.0.1:9"}}],
    "contexts": [{"name": "away", "context": {"cluster": "away", "user": "nobody"}}],
    "current-context": "away",
    "users": [{"name": "nobody", "user": {}}],
}


def test_a_cluster_that_is_away(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(json.dumps(AWAY))
    ran = run(tmp_path, ["explain", "acme/shop", "--head", "x"], {"KUBECONFIG": str(tmp_path / "config")})
    assert (ran.code, ran.out) == (4, "")
    assert ran.err.startswith("catalyst: the API server: ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["shop"], "expected team/project, such as acme/shop"),
        (["acme/shop", "0"], "greater than or equal to 1"),
        (["acme/shop", "--setting", "ZONE=x"], "expected a variable of env-controller"),
        (["acme/shop", "--kubeconfig", "nothing"], "expected a readable file"),
        (["acme/shop", "--event", "nothing", "--kubeconfig", "{kubeconfig}"], "--event nothing: No such file"),
        (
            ["acme/shop", "--event", "{broken}", "--kubeconfig", "{kubeconfig}"],
            "webhook; action: expected",
        ),
        (["acme/shop", "7", "--event", "{broken}", "--kubeconfig", "{kubeconfig}"], "expected at most one of the two"),
        (["acme/SHOP", "--kubeconfig", "{kubeconfig}"], "project 'SHOP': expected a name"),
    ],
)
def test_what_cannot_be_explained_gets_a_sentence(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    """Before anything is asked of the cluster, which is away."""
    places = {"kubeconfig": tmp_path / "config", "broken": tmp_path / "broken"}
    places["broken"].write_text("{}")
    places["kubeconfig"].write_text(json.dumps(AWAY))
    ran = run(tmp_path, ["explain", *(each.format(**places) for each in arguments)], {})
    assert (ran.code, ran.out) == (2, "")
    assert sentence in " ".join(ran.err.replace("│", " ").split())


def test_the_version_is_the_packages() -> None:
    assert tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["version"] == VERSION


def best(home: Path, arguments: list[str], environ: dict[str, str], *words: str) -> float:
    """Seconds of processor time, of five runs: beside other tests the clock would tell of those."""
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ran = run(home, arguments, environ)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
        assert ran.code == 0, ran.err
        assert all(word in ran.out for word in words), ran
    return min(times)


def test_help_version_and_completion_come_at_once(tmp_path: Path) -> None:
    typed = {"_CATALYST_COMPLETE": "complete_bash", "COMP_WORDS": "catalyst e", "COMP_CWORD": "1"}
    assert best(tmp_path, ["--version"], {}, "catalyst") <= 0.15
    assert best(tmp_path, [], typed, "env", "events") <= 0.15
    assert best(tmp_path, ["--help"], {}, "env", "events", "status", "dead", "why") <= 0.35


async def test_a_command_on_the_bus_comes_within_a_second(desk: Desk) -> None:
    await failed(desk)
    environ = {"CATALYST_NATS_URL": desk.nats.url, "CATALYST_NATS_SEED_FILE": str(desk.nats.seed("oncall"))}
    assert await asyncio.to_thread(best, desk.home, ["env", "timeline", PR_42], environ, "build of web failed") <= 1.0


def test_what_can_be_completed(tmp_path: Path) -> None:
    folder = tmp_path / ".config" / "nats" / "context"
    folder.mkdir(parents=True)
    (folder / "here.json").write_text("{}")
    environ = {"HOME": str(tmp_path)}
    assert values([""], environ) == ["why", "explain", "status", "doctor", "env", "events", "dead", "audit"]
    assert values(["e"], environ) == ["explain", "env", "events"]
    assert values(["env", ""], environ) == ["list", "show", "timeline", "diff"]
    assert values(["--context", ""], environ) == ["here"]
    assert values(["--context", "here", "dead", "d"], environ) == ["drop"]
    assert values(["status", "-o", ""], environ) == ["table", "json", "yaml"]
    assert values(["env", "timeline", "--f"], environ) == ["--follow"]
    assert values(["env", "list", "--all", ""], environ) == []
    assert values(["nonsense", ""], environ) == []
    assert complete("bash", {**environ, "COMP_WORDS": "catalyst dead l", "COMP_CWORD": "2"}) == ("list", 0)
    zsh = {**environ, "_TYPER_COMPLETE_ARGS": "catalyst ev"}
    assert complete("zsh", zsh) == ("_arguments '*: :((\"events\"))'", 0)
    assert complete("zsh", {**environ, "_TYPER_COMPLETE_ARGS": "catalyst why "}) == ("_files", 0)
    fish = {**environ, "_TYPER_COMPLETE_ARGS": "catalyst dead 'l", "_TYPER_COMPLETE_FISH_ACTION": "is-args"}
    assert complete("fish", fish) == ("", 1)
    assert complete("fish", {**fish, "_TYPER_COMPLETE_ARGS": "catalyst dead l"}) == ("", 0)


def test_the_shell_itself_completes(tmp_path: Path) -> None:
    """bash with the very script that --show-completion prints."""
    script = """
        source <(catalyst --show-completion bash)
        COMP_WORDS=(catalyst dead r); COMP_CWORD=2
        _catalyst_completion catalyst
        echo "${COMPREPLY[@]}"
    """
    path = f"{CATALYST.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], env={"HOME": str(tmp_path), "PATH": path}, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("resend\n", "")


def test_what_strangers_write_moves_no_cursor() -> None:
    assert _clean("a\x1b[2Jb\r\nc\u202ed") == "a�[2Jb� c�d"


async def test_a_title_with_escapes_is_shown_harmless(desk: Desk) -> None:
    author = Author(now=utc_now())
    author.opens(sender="mona\x1b[2J[bold]")
    author.is_(Phase.BUILDING)
    await desk.publish(event for event, _ in author.said)
    ran = await desk.catalyst("env", "timeline", PR_42)
    assert "\x1b" not in ran.out
    assert "mona�[2J[bold]" in ran.out


def test_a_reader_that_ends_early_is_no_error(tmp_path: Path) -> None:
    done = subprocess.run(
        f"{CATALYST} --help | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        check=False,
    )
    assert done.stderr == ""
