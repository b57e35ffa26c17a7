"""The one door through which site data leaves: checked, agreed to, kept in the outbox and the journal, then sent.

Nothing else may hand a body about this site's data to the client. A body is written down before its first byte goes, so a kill at any
instant leaves either nothing sent, or a journal that says what may have been; the same body again goes under the same key, and the
server then answers as it did the first time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from medperf.domain.digests import Digest, canonical_json
from medperf.domain.disclosure import RULES, Consent, Exit, check_exit
from medperf.domain.errors import Forbidden, Interrupted, MedPerfError, ServerUnavailable
from medperf.domain.events import Note
from medperf.flows.policy import site_policy
from medperf.flows.site import Site
from medperf.wire.models import Body

if TYPE_CHECKING:
    from medperf.workspace.egress import Agreed, EgressEntry

#: What the outbox calls bodies that went through this door.
KIND = "egress:"
Answer = TypeVar("Answer")
Sendable = TypeVar("Sendable", bound=Body)


@dataclass(frozen=True)
class Agreement:
    """One yes to several bodies, see `medperf.flows.agreeing`.

    Attributes:
        bodies: exactly these, by exit and digest.
        follows: and whatever later leaves by these exits.
    """

    consent: Agreed
    bodies: frozenset[tuple[Exit, Digest]]
    follows: frozenset[Exit]

    def covers(self, exit: Exit, digest: Digest) -> bool:
        """Whether nobody needs to be asked about this body again."""
        return exit in self.follows or (exit, digest) in self.bodies


@dataclass(frozen=True)
class Sent(Generic[Answer]):
    """What the server said to it, and where the journal keeps it. ``again``: agreed to and perhaps sent by an earlier try."""

    answer: Answer
    number: int
    consent: Agreed
    again: bool


def send(
    site: Site,
    exit: Exit,
    body: Sendable,
    deliver: Callable[..., Answer],
    *,
    about: str,
    address: Mapping[str, int] | None = None,
    changed_only: bool = False,
    yes: bool = False,
    keep: Callable[[Answer], None] | None = None,
    agreement: Agreement | None = None,
    fleeting: bool = False,
) -> Sent[Answer]:
    """Send one body about this site's data, if it may go and somebody agrees.

    Args:
        deliver: called as ``deliver(body, idempotency_key=key)``; it hands exactly this body to the client.
        about: what of this site it speaks of, for people here, e.g. ``"dataset 'Chest 2024'"``; it is not sent.
        address: ids that stand in the request's address, under their names on the list (``{"dataset": 3}``).
        changed_only: only the fields that were set are sent (``PATCH``).
        yes: the person said beforehand not to be asked. That counts only where the policy lets it go without a person.
        keep: called with the answer before the outbox forgets the body; what it writes down is not lost by a kill.
        agreement: a yes that was given before for several bodies.
        fleeting: of no use later: without an answer the outbox forgets it too.

    Raises:
        InvalidInput: ``not_disclosed``, ``bad_disclosure``, ``bad_policy``; nothing was sent.
        Forbidden: ``not_agreed``, ``policy_asks``; nothing was sent.
        ServerUnavailable: no answer; the same command goes on from here.
        MedPerfError: what the server refuses.
    """
    from medperf.workspace.egress import Event

    document = disclosed(exit, body, address=address, changed_only=changed_only)
    workspace, credential = site.workspace, site.credential()
    payload = canonical_json(document)
    kind = f"{KIND}{exit.value}"
    digest = Digest.of(payload)
    before = _agreed_before(site, kind, credential.instance_id, digest)
    if before is not None:
        consent = before.consent
    elif agreement is not None and agreement.covers(exit, digest):
        consent = agreement.consent
    else:
        consent = _agree(site, exit, document, about=about, yes=yes)
    entry = workspace.egress.leaving(
        kind=exit,
        pending=kind,
        instance_id=credential.instance_id,
        digest=digest,
        payload=payload,
        server=site.profile.server,
        about=about,
        consent=consent,
    )
    try:
        answer = deliver(body, idempotency_key=entry.key)
    except MedPerfError as error:
        # A refusal is an answer: nothing was kept there. Silence is none, nor is Ctrl-C while it lasts: the key stays for the next try.
        silent = isinstance(error, ServerUnavailable | Interrupted)
        event = Event.UNANSWERED if silent else Event.REFUSED
        if silent and not fleeting:
            workspace.egress.note(entry.number, event, error.code)
        else:
            workspace.egress.settled(entry, event, error.code)
        raise
    if keep is None:
        workspace.egress.settled(entry, Event.ANSWERED)
    else:
        workspace.egress.note(entry.number, Event.ANSWERED)
        keep(answer)
        workspace.pending.forget(entry.key)
    return Sent(answer, entry.number, consent, again=before is not None)


def settle(site: Site, exit: Exit, became: Callable[[Mapping[str, Any]], bool | None]) -> None:
    """Forget bodies that got no answer, where the server tells by now what became of them: nothing waits any more.

    Args:
        became: of a body: True: the server is as it said, so it arrived; False: whatever became of it is over; None: it still waits.
    """
    import json

    from medperf.workspace.egress import Event

    workspace, instance = site.workspace, site.credential().instance_id
    for waiting in workspace.pending.ls(instance):
        over = became(json.loads(waiting.body)) if waiting.kind == f"{KIND}{exit.value}" else None
        if over is None:
            continue
        found = workspace.egress.find(instance, waiting.key)
        if over and found is not None:
            workspace.egress.note(found.number, Event.ANSWERED)
        workspace.pending.forget(waiting.key)


def disclosed(
    exit: Exit,
    body: Body,
    *,
    address: Mapping[str, int] | None = None,
    changed_only: bool = False,
) -> dict[str, Any]:
    """What would leave, as `send` shows and keeps it.

    Raises:
        InvalidInput: a field that is not on the closed list, or one of the wrong shape.
    """
    document = {**(address or {}), **body.model_dump(mode="json", exclude_unset=changed_only)}
    check_exit(exit, document)
    return document


def needs_person(site: Site, exit: Exit) -> bool:
    """Whether `send` will ask. For refusing before long work that nobody could agree to afterwards."""
    from medperf.domain.sitepolicy import Mode, may_go

    return may_go(site_policy(site), exit) is Mode.ASK


def list_egress(site: Site, *, kind: Exit | None = None, limit: int | None = None) -> list[EgressEntry]:
    """Everything that left this site towards this server, newest first; no server is asked."""
    return site.workspace.egress.ls(kind=kind, limit=limit)


def view_egress(site: Site, number: int) -> EgressEntry:
    """One body with all that became of it.

    Raises:
        NotFound: there is none of this number.
    """
    return site.workspace.egress.get(number)


def shown(exit: Exit, document: Mapping[str, Any], *, server: str, about: str) -> str:
    """A body as a person reads it before it goes: every field that is sent, and what it is for."""
    import json

    lines = [f"{about[:1].upper()}{about[1:]}: this leaves the site for {server} ({RULES[exit].says}):"]
    lines += [f"  {name}: {json.dumps(value, ensure_ascii=False)}" for name, value in lines_of(document)]
    return "\n".join(lines)


def tell(site: Site, text: str) -> None:
    """Show what goes without a question, line by line: a note is one line."""
    for line in text.splitlines():
        site.emit(Note(line))


def lines_of(document: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """Every field with its dotted name, in order."""
    found: list[tuple[str, Any]] = []
    for key, value in document.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping) and value:
            found += lines_of(value, f"{name}.")
        else:
            found.append((name, value))
    return found


def _agreed_before(site: Site, kind: str, instance_id: str, digest: Digest) -> EgressEntry | None:
    """The journal's entry of an earlier try of this very body that got no answer: who agreed then need not agree again.

    What the policy agreed to then, it has to agree to now: it may have been changed since.
    """
    from medperf.workspace.egress import Agreed

    exit = Exit(kind.removeprefix(KIND))
    if RULES[exit].consent is Consent.AUTOMATIC:
        return None
    pending = site.workspace.pending
    waiting = next(
        (entry for entry in pending.ls(instance_id) if entry.kind == kind and entry.body_digest == digest), None
    )
    found = site.workspace.egress.find(instance_id, waiting.key) if waiting is not None else None
    if found is not None and found.consent is Agreed.POLICY and needs_person(site, exit):
        return None
    if found is not None:
        site.emit(Note(f"An earlier try of this, agreed to at {found.at}, got no answer: it is sent again."))
    return found


def _agree(site: Site, exit: Exit, document: dict[str, Any], *, about: str, yes: bool) -> Agreed:
    from medperf.workspace.egress import Agreed

    if RULES[exit].consent is Consent.AUTOMATIC:
        return Agreed.AUTOMATIC
    text = shown(exit, document, server=site.profile.server, about=about)
    if not needs_person(site, exit):
        tell(site, text)
        return Agreed.POLICY
    ask_person(site, exit, text, yes=yes)
    return Agreed.PERSON


def policy_asks(exit: Exit) -> Forbidden:
    """The refusal of ``--yes`` where the policy has a person asked."""
    from medperf.domain.sitepolicy import FILE_NAME

    rule = RULES[exit]
    allow = f', or let {FILE_NAME} allow it: [release] {rule.setting.value} = "automatic"' if rule.setting else ""
    return Forbidden(
        "policy_asks",
        f"Nothing was sent: the site's policy has a person asked before this leaves ({rule.says}), so --yes does not count.",
        f"Leave --yes out and answer{allow}.",
    )


def ask_person(site: Site, exit: Exit, text: str, *, yes: bool) -> None:
    """Show what would leave, and have a person agree.

    Raises:
        Forbidden: ``not_agreed``, ``policy_asks``.
    """
    if yes:
        raise policy_asks(exit)
    if not site.ask.confirm(f"{text}\nSend exactly this?"):
        raise Forbidden(
            "not_agreed", "This was not sent: you did not agree.", "Run the same command again to be asked again."
        )
