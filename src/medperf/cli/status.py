"""``medperf status`` and ``medperf doctor``."""

from __future__ import annotations

import typer

from medperf.cli.base import example, noun, session_of
from medperf.cli.output import Column, human_bytes

app = noun("this site", "This site.", "medperf status")


@example(app, "status", "medperf status", "medperf --format json status")
def status(ctx: typer.Context) -> None:
    """Show who you are, which server you use and what this machine remembers."""
    from medperf.flows import accounts

    session = session_of(ctx)
    with session.site() as site:
        report = accounts.status(site)
    if session.out.as_json:
        session.out.json(report)
        return
    account = "not logged in" if report.username is None else report.username + (" (admin)" if report.is_admin else "")
    kind = " (for development)" if report.development else ""
    session.out.view(
        {
            "profile": report.profile,
            "server": report.server,
            "certificate": report.certificate or "the system's authorities",
            "server version": f"{report.server_version}{kind}" if report.reachable else "not reachable",
            "account": account,
            **({"organisations": list(report.organisations)} if report.organisations else {}),
            "logged in until": f"{report.expires_at:%Y-%m-%d %H:%M} UTC" if report.expires_at else "-",
            "workspace": report.workspace,
            "workspace size": human_bytes(report.workspace_bytes),
            "engine": report.engine,
            "not yet sent": report.pending,
        }
    )
    if report.problem:
        session.out.line(f"Problem: {report.problem}")


@example(app, "doctor", "medperf doctor")
def doctor(ctx: typer.Context) -> None:
    """Check that this machine can run containers safely, and say what mends what is missing."""
    from medperf.flows.doctor import examine

    session = session_of(ctx)
    with session.site() as site:
        report = examine(site)
    if session.out.as_json:
        session.out.json({"ok": report.ok, "checks": report.checks})
    else:
        words: dict[bool | None, str] = {True: "ok", False: "PROBLEM"}
        session.out.table(
            [Column("check"), Column("result"), Column("detail")],
            [
                (check.name, words.get(check.ok, "warning" if check.fix else "-"), check.detail)
                for check in report.checks
            ],
            empty="Nothing was checked.",
        )
        for check in report.checks:
            if check.ok is not True and check.fix:
                session.out.line(f"{check.name}: {check.fix}")
    if not report.ok:
        raise typer.Exit(1)
