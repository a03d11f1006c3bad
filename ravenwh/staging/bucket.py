"""The bucket: whether it takes points and keeps them as long as it should; and making it."""

from __future__ import annotations

import json
from shlex import quote
from typing import Any

from ravenwh.domain.errors import RavenwhError, Unavailable
from ravenwh.domain.finding import Finding
from ravenwh.staging.answers import Answer, Verdict
from ravenwh.staging.server import Server
from ravenwh.staging.sink import REMEDIES

__all__ = ["look_at_bucket", "make_bucket"]

PROBE = b"# ravenwh looks whether it may write"
"""A body of a comment alone: who may write is asked before what is written."""

NOTHING_TO_WRITE = "writing requires points"
"""What InfluxDB Cloud says to that, and older versions of 2."""

DAY_S = 86_400


def look_at_bucket(server: Server) -> Finding:
    """Whether the bucket takes points with this token; a check of doctor. Writes none."""
    try:
        answer = server.write(PROBE)
        if answer.verdict is not Verdict.STORED and NOTHING_TO_WRITE not in answer.message:
            return _finding(server, found=str(answer), remedy=_remedy(server, answer))
        keeps = _keeps_s(server)
    except RavenwhError as error:
        return _finding(server, found=str(error), remedy="put the token into that file")
    wanted = server.settings.retention_days * DAY_S
    if keeps is not None and keeps != wanted:
        return Finding(
            check="bucket",
            ok=False,
            found=f"{_name(server)} keeps points for {_days(keeps)}, and should for {_days(wanted)}"
            " by influx.retention_days",
            remedy=f"influx bucket update --id ID --retention {wanted}s, or change the setting",
            required=False,
        )
    return Finding(check="bucket", ok=True, found=f"{_name(server)} takes points")


def make_bucket(server: Server) -> Finding:
    """Make the bucket where it is not there and the token may; then what is to be said of it."""
    try:
        if server.write(PROBE).status != 404:
            return look_at_bucket(server)
        answer = _made(server)
    except RavenwhError as error:
        return _finding(server, found=str(error), remedy="put the token into that file")
    if answer.status == 201:
        keeps = _days(server.settings.retention_days * DAY_S)
        return Finding(
            check="bucket", ok=True, found=f"{_name(server)} is made, and keeps points for {keeps}"
        )
    return _finding(
        server,
        found=f"{_name(server)} is not there, and the token may not make it: {answer}",
        remedy=_command(server),
    )


def _made(server: Server) -> Answer:
    """What the server answers to who would make the bucket."""
    settings = server.settings
    found = server.ask("GET", "/api/v2/orgs", {"org": settings.org})
    orgs = _listed(found, "orgs")
    if not orgs:
        return found
    rules = [{"type": "expire", "everySeconds": settings.retention_days * DAY_S}]
    wanted = {
        "orgID": orgs[0].get("id"),
        "name": settings.bucket,
        "retentionRules": rules if settings.retention_days else [],
    }
    return server.ask(
        "POST",
        "/api/v2/buckets",
        {},
        body=json.dumps(wanted).encode(),
        headers={"Content-Type": "application/json"},
    )


def _keeps_s(server: Server) -> int | None:
    """For how many seconds it keeps points, 0 for ever; None where the token may not ask."""
    settings = server.settings
    query = {"name": settings.bucket, "org": settings.org}
    buckets = _listed(server.ask("GET", "/api/v2/buckets", query), "buckets")
    if not buckets:
        return None
    rules = buckets[0].get("retentionRules") or [{}]
    return int(rules[0].get("everySeconds", 0))


def _listed(answer: Answer, name: str) -> list[dict[str, Any]]:
    """What an answer lists; nothing where it is an error."""
    try:
        return list(json.loads(answer.message)[name]) if answer.status == 200 else []
    except (ValueError, KeyError, TypeError) as error:
        raise Unavailable(
            f"what answers is no InfluxDB: {answer}; mend influx.url", needs_person=True
        ) from error


def _remedy(server: Server, answer: Answer) -> str:
    if answer.status == 404:
        return f"python -m runners.init, or {_command(server)}"
    if answer.verdict is Verdict.CONFIG:
        return REMEDIES.get(answer.status, "mend influx.url")
    return "start InfluxDB, or set influx.url (RAVENWH_INFLUX_URL) to where it listens"


def _command(server: Server) -> str:
    settings = server.settings
    return (
        f"influx bucket create --name {quote(settings.bucket)} --org {quote(settings.org)} "
        f"--retention {settings.retention_days * DAY_S}s"
    )


def _finding(server: Server, *, found: str, remedy: str) -> Finding:
    return Finding(check="bucket", ok=False, found=f"{server}: {found}", remedy=remedy)


def _name(server: Server) -> str:
    return f"{server.settings.bucket} of {server}"


def _days(seconds: int) -> str:
    return f"{seconds / DAY_S:g} days" if seconds else "ever"
