"""`catalyst audit …` on a real server: what was done is told, and what was changed, put in or cut off is found."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from desk import Desk

from catalyst.cli.core import trail
from catalyst.events.catalogue import AuditRecord, Principal
from catalyst.events.chain import Link, digest, number_of, verify
from catalyst.events.event import audit_recorded
from catalyst.model.clock import utc_now


async def record(desk: Desk, environment: str, operation: str, *, by: str = "mona", **fields: Any) -> None:
    """One record more, as env-controller writes it; `fields` may say what is not so."""
    bus = await desk.bus_of("env-controller")
    last = await bus.last("AUDIT", f"audit.acme.shop.{environment}")
    data = AuditRecord.model_validate(
        {
            "team": "acme",
            "project": "shop",
            "environment": environment,
            "principal": Principal(kind="forge", name=by, id="7"),
            "door": "command",
            "operation": operation,
            "target": "github/acme/shop/pull/1",
            "outcome": "done",
            "at": utc_now(),
            "number": (number_of(last.data) or 0) + 1 if last else 1,
            "previous": digest(last.data) if last else None,
        }
        | fields
    )
    event = audit_recorded(data, operation=f"{environment}-{operation}", time=utc_now(), source="env-controller")
    assert await bus.append(event, after=last.sequence if last else 0)


@pytest.fixture
async def told(desk: Desk) -> Desk:
    """Two chains: of pr-1 the records 1, 3 and 4, of pr-2 the second."""
    await record(desk, "pr-1", "deploy")
    await record(desk, "pr-2", "deploy", by="lisa")
    await record(desk, "pr-1", "sleep", by="lisa", outcome="refused", reason="not implemented yet")
    await record(desk, "pr-1", "stop")
    return desk


async def test_who_did_what(told: Desk) -> None:
    table = await told.catalyst("audit", "list")
    assert (table.code, table.err) == (0, "")
    assert [word in table.out for word in ("AUDIT/3", "lisa", "sleep", "refused: not implemented yet")] == [True] * 4

    async def listed(*words: str) -> list[str]:
        found = json.loads((await told.catalyst("audit", "list", *words, "-o", "json")).out)
        return [one["ref"] for one in found]

    assert await listed() == ["AUDIT/1", "AUDIT/2", "AUDIT/3", "AUDIT/4"]
    assert await listed("-e", "acme/shop/pr-1") == ["AUDIT/1", "AUDIT/3", "AUDIT/4"]
    assert await listed("--by", "lisa") == ["AUDIT/2", "AUDIT/3"]
    assert await listed("--by", "lis") == []
    assert await listed("-n", "1") == ["AUDIT/4"]
    assert await listed("-n", "0") == []
    one = yaml.safe_load((await told.catalyst("audit", "show", "3", "-o", "yaml")).out)
    assert (one["principal"]["name"], one["outcome"], one["number"]) == ("lisa", "refused", 2)
    assert "not implemented yet" in (await told.catalyst("audit", "show", "AUDIT/3")).out


async def test_all_as_they_were_written(told: Desk, tmp_path: Path) -> None:
    export = str(tmp_path / "audit.jsonl")
    assert (await told.catalyst("audit", "verify")).out == "4 records in 2 chains: all as they were written\n"
    ran = await told.catalyst("audit", "verify", "-e", "acme/shop/pr-1")
    assert (ran.code, ran.out) == (0, "3 records in 1 chains: all as they were written\n")
    checkpoint = await told.catalyst("audit", "checkpoint")
    (tmp_path / "checkpoint").write_text(checkpoint.out)
    await record(told, "pr-2", "stop")
    against = ("--against", str(tmp_path / "checkpoint"))
    assert (await told.catalyst("audit", "verify", *against)).code == 0, "an older checkpoint holds as the chains grow"
    assert (await told.catalyst("audit", "verify", "-e", "acme/shop/pr-2", *against)).code == 0
    assert (await told.catalyst("audit", "export", export)).out == f"5 records of audit.> in {export}\n"
    offline = {"CATALYST_NATS_URL": "nats://127.0.0.1:1"}
    assert (await told.catalyst("audit", "verify", export, *against, **offline)).code == 0
    now = json.loads((await told.catalyst("audit", "checkpoint", export, **offline)).out)
    assert now["subjects"]["audit.acme.shop.pr-2"]["count"] == 2
    assert json.loads(checkpoint.out)["subjects"]["audit.acme.shop.pr-2"]["count"] == 1


async def test_a_record_that_follows_none_is_found_in_the_stream(told: Desk) -> None:
    """Who holds env-controller's key can put one in, and not so that it fits."""
    await record(told, "pr-1", "approve", previous="0" * 64)
    ran = await told.catalyst("audit", "verify")
    assert ran.code == 1
    assert "AUDIT/5 audit.acme.shop.pr-1 does not follow record 3" in " ".join(ran.out.split())
    assert (await told.catalyst("audit", "verify", "-e", "acme/shop/pr-2")).code == 0
    refused = await told.catalyst("audit", "checkpoint")
    assert refused.code == 1
    assert "catalyst-audit-checkpoint" not in refused.out, "no checkpoint of what is wrong"


async def test_what_was_done_to_an_export_is_found(told: Desk, tmp_path: Path) -> None:
    export, checkpoint, changed = (tmp_path / name for name in ("export", "checkpoint", "changed"))
    await told.catalyst("audit", "export", str(export))
    checkpoint.write_text((await told.catalyst("audit", "checkpoint", str(export))).out)
    head, *lines = export.read_text().splitlines()

    async def verified(found: list[str], *words: str) -> int:
        changed.write_text("\n".join([head, *found]))
        ran = await told.catalyst("audit", "verify", str(changed), *words)
        assert ran.code in (0, 1), ran
        return ran.code

    against = ("--against", str(checkpoint))
    assert await verified(lines) == await verified(lines, *against) == 0
    assert await verified([lines[0].replace("mona", "carl"), *lines[1:]]) == 1
    assert await verified([lines[0], *lines[2:]]) == 1, "a whole chain is missing, and so its sequence"
    assert await verified([lines[1], lines[0], *lines[2:]]) == 1
    assert await verified(lines[:3]) == 0, "a cut end does not show by itself"
    assert await verified(lines[:3], *against) == 1
    anew = _anew(lines)
    assert await verified(anew) == 0, "nor does a chain written anew"
    assert await verified(anew, *against) == 1


def _anew(lines: list[str]) -> list[str]:
    """The same, but mona was carl, and every digest fits."""
    _, links = trail.exported([trail.heading("audit.>", utc_now()), *lines])
    heads: dict[str, str] = {}
    written: list[Link] = []
    for link in links:
        told = json.loads(link.body.replace(b"mona", b"carl"))
        told["data"] = {**told["data"], **({"previous": heads[link.subject]} if link.subject in heads else {})}
        written.append(replace(link, body=json.dumps(told).encode()))
        heads[link.subject] = digest(written[-1].body)
    assert verify(written, whole=True).faults == ()
    return [trail.line(link) for link in written]


async def test_bad_input_gets_a_sentence_and_its_code(told: Desk, tmp_path: Path) -> None:
    there, damaged = tmp_path / "there", tmp_path / "damaged"
    there.write_text("{}")
    damaged.write_text(f'{trail.heading("audit.>", utc_now())}\n{{"sequence": 1}}\n')
    expected: dict[tuple[str, ...], tuple[int, str]] = {
        ("show", "4711"): (3, "AUDIT/4711 is not there: AUDIT holds 1 to 4"),
        ("show", "SCM/1"): (2, "expected AUDIT/17, or the number alone"),
        ("list", "-e", "acme/shop"): (2, "expected team/project/environment"),
        ("export", str(there)): (2, "expected a file that is not there yet"),
        ("verify", str(tmp_path / "nothing")): (2, "No such file"),
        ("verify", str(there)): (2, "line 1: expected an export of the audit"),
        ("verify", str(damaged)): (2, "line 2: expected sequence, subject, and body or base64"),
        ("verify", str(damaged), "-e", "acme/shop/pr-1"): (2, "expected FILE or --environment, not both"),
        ("verify", "--against", str(damaged)): (2, "expected a JSON document"),
        ("verify", "--against", str(there)): (2, "expected a checkpoint"),
        ("checkpoint", str(there)): (2, "line 1: expected an export of the audit"),
    }
    for arguments, (code, sentence) in expected.items():
        ran = await told.catalyst("audit", *arguments)
        assert (ran.code, ran.out) == (code, ""), (arguments, ran)
        assert sentence in " ".join(ran.err.split()), (arguments, ran.err)
    assert there.read_text() == "{}"


async def test_a_credential_without_the_right_leaves_no_half_export(told: Desk, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    refused = await told.catalyst("audit", "export", str(file), user="builder")
    assert refused.code == 5
    assert "no right to" in refused.err
    assert not file.exists()
    assert (await told.catalyst("audit", "export", str(file))).code == 0
