"""Replay: the committed corpus is decided as it was recorded; a planted change alters exactly what it should; what
cannot be read is said, record by record.
"""

import base64
import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from catalyst.env_controller.core.recorded import Record
from catalyst.env_controller.replay import file
from catalyst.env_controller.replay.again import compared
from catalyst.env_controller.replay.command import main
from catalyst.env_controller.replay.differences import differences
from catalyst.env_controller.replay.file import Damaged

ROOT = Path(__file__).parents[3]
CORPUS = sorted((ROOT / "tests" / "data" / "decisions").glob("*.jsonl.gz"))
CORE = Path("services/env-controller/src/catalyst/env_controller/core")


def corpus() -> Iterator[tuple[int, Record]]:
    """With the numbers that replay gives them, over all files."""
    yield from enumerate((record for path in CORPUS for record in file.read(path)), 1)


def test_the_corpus_is_decided_as_it_was_recorded() -> None:
    assert CORPUS
    found = list(compared(corpus()))
    assert len(found) > 400
    assert {one.record.head.rule for one in found} == {"environment", "project", "pull_request", "branch"}
    altered = [
        f"{one.record.head.subject}: {one.unread or one.differences[0]}"
        for one in found
        if one.unread or one.differences
    ]
    assert altered == [], "a rule is another one now: `make replay` says where, `make replay ACCEPT=1` if that is meant"


def test_the_corpus_holds_no_secret_that_the_stories_met() -> None:
    """tests/stories/test_shared_secrets.py calls each value a canary; what names them is there."""
    text = b"".join(record.text() for _, record in corpus())
    assert b'"copies":[{"namespace":' in text
    for spelling in (
        b"canary-",
        *(base64.b64encode(b"." * n + b"canary-")[at : at + 8] for n, at in enumerate((0, 2, 3))),
    ):
        assert spelling not in text


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another checkout: a copy of the sources."""
    root = tmp_path_factory.mktemp("tree")
    for source in [*ROOT.glob("libs/*/src"), ROOT / "services" / "env-controller" / "src"]:
        shutil.copytree(source, root / source.relative_to(ROOT), ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.fixture
def planted(tree: Path) -> Iterator[Callable[[str, str, str], None]]:
    """Changes a rule of the other tree, for one test."""
    before: dict[Path, str] = {}

    def plant(module: str, old: str, new: str) -> None:
        path = tree / CORE / module
        before.setdefault(path, path.read_text())
        assert before[path].count(old) == 1
        path.write_text(before[path].replace(old, new))

    yield plant
    for path, text in before.items():
        path.write_text(text)


def replayed(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, list[dict[str, Any]], str]:
    """Status, what differs, and what was said about it."""
    status = main(["replay", "--json", *map(str, arguments)])
    said = capsys.readouterr()
    return status, [json.loads(line) for line in said.out.splitlines()], said.err


def test_the_same_rules_in_another_tree_decide_the_same(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, altered, said = replayed(capsys, *CORPUS, "--checkout", tree)
    assert (status, altered) == (0, [])
    assert f"decided again by {tree}: none of {len(list(corpus())):,} differs" in said


PLANTS: list[tuple[str, str, str, str, Callable[[dict[str, Any]], bool]]] = [
    (
        "environment.py",
        'Deletion(reason="Expired"',
        'Deletion(reason="Requested"',
        "$.amend.spec.deletion.reason",
        lambda result: "deletion" in result.get("amend", {}).get("spec", {}),
    ),
    (
        "requests.py",
        'evidence=f"delivery {wish.evidence}',
        'evidence=f"by delivery {wish.evidence}',
        "$.update.body.spec.deletion.evidence",
        lambda result: "deletion" in result.get("update", {}).get("body", {}).get("spec", {}),
    ),
    (
        "project.py",
        '_binding(project, "catalyst-environment-owners", access.ENVIRONMENT_OWNER, ("owner",))',
        '_binding(project, "catalyst-environment-owners", access.ENVIRONMENT_OWNER, ("owner", "admin"))',
        "$.apply[RoleBinding/catalyst-environment-owners].",
        lambda result: any(m["metadata"]["name"] == "catalyst-environment-owners" for m in result.get("apply", ())),
    ),
]


@pytest.mark.parametrize(("module", "old", "new", "path", "is_altered"), PLANTS, ids=[plant[0] for plant in PLANTS])
def test_a_planted_change_lists_exactly_the_altered_decisions(
    tree: Path,
    planted: Callable[[str, str, str], None],
    capsys: pytest.CaptureFixture[str],
    module: str,
    old: str,
    new: str,
    path: str,
    is_altered: Callable[[dict[str, Any]], bool],
) -> None:
    planted(module, old, new)
    status, altered, _ = replayed(capsys, *CORPUS, "--checkout", tree)
    expected = [number for number, record in corpus() if is_altered(record.result)]
    assert status == 1
    assert expected
    at_all = [found for found in altered if any(d["path"].startswith(path) for d in found["differences"])]
    assert [found["record"] for found in at_all] == expected
    if module != "project.py":  # a binding that is another one is also put right where nothing was done
        assert [[d["path"] for d in found["differences"]] for found in altered] == [[path]] * len(expected)


def test_for_people_it_names_record_place_cause_and_path(
    tree: Path, planted: Callable[[str, str, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    planted(*PLANTS[0][:3])
    assert main(["replay", *map(str, CORPUS), "--checkout", str(tree), "--most", "1"]) == 1
    shown = capsys.readouterr().out.splitlines()
    number, record = next((number, record) for number, record in corpus() if PLANTS[0][4](record.result))
    assert shown[0].startswith(
        f"record {number}  {record.head.subject}  {record.head.at}  environment (EnvironmentKey "
    )
    assert shown[1] == '  $.amend.spec.deletion.reason  "Expired" → "Requested"'
    assert "are not shown: --most shows more" in shown[-1]


def test_a_rule_that_breaks_is_a_difference_of_its_own_records_only(
    tree: Path, planted: Callable[[str, str, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    planted("environment.py", "        return Decision(remove=True)\n", '        raise KeyError("planted")\n')
    status, altered, _ = replayed(capsys, *CORPUS, "--checkout", tree)
    assert status == 1
    assert [found["record"] for found in altered] == [n for n, record in corpus() if record.result.get("remove")]
    assert {found["differences"][0]["after"] for found in altered} == {"raised KeyError: 'planted'"}


def test_a_tree_that_cannot_be_asked_is_said(
    tree: Path, tmp_path: Path, planted: Callable[[str, str, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert replayed(capsys, CORPUS[0], "--checkout", tree)[0] == 0
    status, _, said = replayed(capsys, CORPUS[0], "--checkout", tmp_path)
    assert status == 2
    assert said == f"replay: {tmp_path}: expected a checkout of this repository, with services/env-controller/src\n"
    planted("environment.py", "from dataclasses import replace\n", "from dataclasses import renamed\n")
    status, _, said = replayed(capsys, CORPUS[0], "--checkout", tree)
    assert status == 2
    assert "its rules cannot be asked, the process ended with 1" in said


def test_what_this_code_cannot_read_is_told_apart_from_what_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, *_ = (record for _, record in corpus())
    broken = Record(first.head, {**first.inputs, "now": "once upon a time"}, first.result)
    file.write(tmp_path / "f", [second, broken])
    status, altered, said = replayed(capsys, tmp_path / "f")
    assert status == 2
    assert [found["record"] for found in altered] == [2]
    assert "now Input should be a valid datetime" in altered[0]["unread"]
    assert "0 of 2 differ; of 1 it cannot be told" in said


# The file


def test_a_file_is_the_same_for_the_same_records_and_says_what_it_holds(tmp_path: Path) -> None:
    records = [record for _, record in corpus()][:20]
    one, other = file.write(tmp_path / "one", records), file.write(tmp_path / "other", iter(records))
    assert one == other == file.header(tmp_path / "one")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert list(file.read(tmp_path / "one")) == records
    times = sorted(record.head.at for record in records)
    assert (one.records, one.begins, one.ends) == (20, times[0], times[-1])
    assert sum(one.rules.values()) == 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other"]


def _cut(text: bytes) -> bytes:
    return text[: len(text) // 2]


def _flipped(text: bytes) -> bytes:
    return text[:-200] + bytes([text[-200] ^ 0xFF]) + text[-199:]


def _lines(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[bytes], bytes]:
    return lambda text: gzip.compress(b"".join(change(gzip.decompress(text).splitlines(keepends=True))))


def _headed(**fields: Any) -> Callable[[bytes], bytes]:
    return _lines(lambda lines: [json.dumps(json.loads(lines[0]) | fields).encode() + b"\n", *lines[1:]])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda _: b"", "its first line is no header: expected"),
        (lambda _: b"plain text", "cannot be read from its beginning: expected gzip"),
        (_cut, r"cannot be read after record \d+: expected gzip"),
        (_flipped, r"(cannot be read after record \d+: expected gzip|record \d+ of 20: expected)"),
        (_headed(format="other"), 'its first line is no header: expected {"format": "catalyst.decisions", …}'),
        (_headed(version=2), "has version 2: expected 1"),
        (_headed(schema=7), "has records of schema 7: expected 1"),
        (_headed(records="many"), "history: its header counts no records: expected a number, found 'many'"),
        (_headed(records=21), "ends after record 20: expected 21 records"),
        (_lines(lambda lines: [*lines[:5], b"{}\n", *lines[6:]]), "record 5 of 20: expected schema 1, found None"),
        (_lines(lambda lines: [*lines[:5], b"{\n", *lines[6:]]), "record 5 of 20: expected a JSON object"),
        (_lines(lambda lines: lines[:-1]), "ends after record 19: expected 20 records"),
    ],
)
def test_a_damaged_file_says_which_record_and_what_was_expected(
    damage: Callable[[bytes], bytes], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "history"
    file.write(path, [record for _, record in corpus()][:20])
    assert main(["replay", str(path)]) == 0
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(Damaged, match=reason):
        list(file.read(path))
    capsys.readouterr()
    assert main(["replay", str(path)]) == 2
    assert capsys.readouterr().err.startswith("replay: history")


def test_of_a_file_one_environment_or_some_time_is_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [record for _, record in corpus()]
    path = tmp_path / "history"
    subject = next(record.head.subject for record in records if record.head.rule == "environment")
    file.write(path, records)
    own = [record for record in records if record.head.subject == subject]
    name = "/".join(subject.split(".")[1:])
    assert len(subject.split(".")) == 4
    _, _, said = replayed(capsys, path, "--environment", name)
    assert f"none of {len(own)} differs" in said
    at = own[0].head.at
    _, _, said = replayed(capsys, path, "--environment", name, "--from", at, "--to", at)
    assert f"none of {sum(record.head.at == at for record in own)} differs" in said
    status, _, said = replayed(capsys, path, "--environment", "acme/shop/none")
    assert status == 2
    assert said.startswith(f"replay: none of {len(records):,} decisions, ")
    broken = Record(own[-1].head, {**own[-1].inputs, "now": "never"}, own[-1].result)
    file.write(path, [*records, broken])
    _, altered, _ = replayed(capsys, path, "--environment", name)
    assert [each["record"] for each in altered] == [len(records) + 1], "its number in the file"


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err == f"replay: {tmp_path / 'none'}: No such file or directory\n"


# Differences


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, ["$.a  1 → 2"]),
        ({"a": 1}, {"a": True}, ["$.a  1 → true"]),
        ({"a": 1}, {"b": None}, ["$.a  1 → (nothing)", "$.b  (nothing) → null"]),
        ({"catalyst.dev/x": "1"}, {"catalyst.dev/x": "2"}, ['$[catalyst.dev/x]  "1" → "2"']),
        ([1, 2], [1, 3, 4], ["$[1]  2 → 3", "$[2]  (nothing) → 4"]),
        (
            {"c": [{"type": "Ready", "reason": "A"}]},
            {"c": [{"type": "New", "reason": "B"}, {"type": "Ready", "reason": "C"}]},
            ['$.c[Ready].reason  "A" → "C"', '$.c[New]  (nothing) → {"type": "New", "reason": "B"}'],
        ),
        (
            [{"kind": "Service", "metadata": {"name": "web"}}],
            [{"kind": "Service", "metadata": {"name": "web", "uid": "u"}}],
            ['$[Service/web].metadata.uid  (nothing) → "u"'],
        ),
        ([{"name": "a"}, {"name": "b"}], [{"name": "b"}, {"name": "a"}], ['$, in order  ["a", "b"] → ["b", "a"]']),
        ([{"name": "a", "x": 1}, {"name": "a"}], [{"name": "a", "x": 2}, {"name": "a"}], ["$[0].x  1 → 2"]),
        ("x" * 300, "y", [f'$  "{"x" * 159}… → "y"']),
    ],
)
def test_differences(before: Any, after: Any, told: list[str]) -> None:
    assert [str(difference) for difference in differences(before, after)] == told
