"""The audit trail as a file: an export that can be verified without a bus, and a checkpoint of a few lines. Pure.

An export is one JSON document a line. The first says what it is; each other is a record as it was stored, its body as
text, so that its digest is still that of the stream. A checkpoint is one document: how far each chain goes.
"""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from catalyst.events.chain import Head, Link, Verified

EXPORT: Final = "catalyst-audit/1"
CHECKPOINT: Final = "catalyst-audit-checkpoint/1"


class Damaged(ValueError):
    """A file is not what it should be; the message says where, and what was expected."""


def heading(subject: str, at: datetime) -> str:
    """The first line of an export of all that a subject filter matches."""
    return json.dumps({"format": EXPORT, "subject": subject, "at": at.isoformat()})


def line(link: Link) -> str:
    """A record of an export."""
    body: dict[str, str] = {}
    try:
        body["body"] = link.body.decode()
    except UnicodeDecodeError:
        body["base64"] = base64.b64encode(link.body).decode()
    return json.dumps({"sequence": link.sequence, "subject": link.subject, **body}, ensure_ascii=False)


def exported(lines: Iterable[str]) -> tuple[str, Iterator[Link]]:
    """The subject filter of an export, and its records. Raises `Damaged`, also while reading on."""
    rest = iter(lines)
    head = _document(next(rest, ""), 1)
    if head.get("format") != EXPORT or not isinstance(head.get("subject"), str):
        raise Damaged(f"line 1: expected an export of the audit ({EXPORT}), found {str(head.get('format'))[:80]!r}")
    return head["subject"], (_link(text, number) for number, text in enumerate(rest, 2))


def checkpoint(found: Verified, at: datetime) -> dict[str, Any]:
    """To be kept where nobody who can write the stream can write."""
    subjects = {subject: {"count": head.count, "head": head.digest} for subject, head in found.heads.items()}
    return {"format": CHECKPOINT, "at": at.isoformat(), "subjects": subjects}


def heads(text: str) -> Mapping[str, Head]:
    """The heads of a checkpoint. Raises `Damaged`."""
    told = _document(text, 1)
    if told.get("format") != CHECKPOINT:
        raise Damaged(f"expected a checkpoint ({CHECKPOINT}), found {str(told.get('format'))[:80]!r}")
    try:
        found = {subject: Head(int(head["count"]), str(head["head"])) for subject, head in told["subjects"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damaged("subjects: expected for each subject its count and head") from error
    return found


def _link(text: str, number: int) -> Link:
    told = _document(text, number)
    try:
        body = told["body"].encode() if "body" in told else base64.b64decode(told["base64"], validate=True)
        return Link(int(told["sequence"]), str(told["subject"]), body)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damaged(f"line {number}: expected sequence, subject, and body or base64") from error


def _document(text: str, number: int) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except ValueError as error:
        raise Damaged(f"line {number}: expected a JSON document") from error
    if not isinstance(told, dict):
        raise Damaged(f"line {number}: expected a JSON object")
    return told
