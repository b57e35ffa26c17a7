"""One question for several bodies that leave a site together, instead of one for each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from medperf.domain.digests import Digest
from medperf.domain.disclosure import RULES, Exit
from medperf.flows.egress import Agreement, ask_person, disclosed, lines_of, needs_person, tell
from medperf.flows.site import Site
from medperf.wire.models import Body


def agree_once(
    site: Site,
    exit: Exit,
    bodies: Sequence[Body],
    *,
    follows: Sequence[Exit] = (),
    about: str,
    yes: bool = False,
) -> Agreement:
    """Have several bodies of one exit agreed to by one question, together with what follows them.

    Each is still checked, kept and sent by `medperf.flows.egress.send`, with the agreement that this returns.

    Args:
        follows: exits whose bodies are not known yet; the question names their fields.
        about, yes: as of `medperf.flows.egress.send`.

    Raises:
        InvalidInput: as `medperf.flows.egress.send`.
        Forbidden: ``not_agreed``, ``policy_asks``; nothing may be sent.
    """
    from medperf.workspace.egress import Agreed

    documents = [disclosed(exit, body) for body in bodies]
    agreed = frozenset((exit, Digest.of_document(document)) for document in documents)
    exits = [one for one in (exit, *follows) if one is not exit or documents]
    text = _shown_together(exit, documents, follows, server=site.profile.server, about=about)
    asking = [one for one in exits if needs_person(site, one)]
    if asking:
        ask_person(site, asking[0], text, yes=yes)
    else:
        tell(site, text)
    return Agreement(Agreed.PERSON if asking else Agreed.POLICY, agreed, frozenset(follows))


def _shown_together(
    exit: Exit,
    documents: Sequence[Mapping[str, Any]],
    follows: Sequence[Exit],
    *,
    server: str,
    about: str,
) -> str:
    """Several bodies as a person reads them: what all of them hold once, then what each has of its own."""
    bodies = [dict(lines_of(document)) for document in documents]
    shared = {
        name for name, value in (bodies[0] if bodies else {}).items() if all(body.get(name) == value for body in bodies)
    }

    def written(body: Mapping[str, Any], names: Callable[[str], bool], space: str) -> list[str]:
        return [
            f"{space}{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in body.items() if names(name)
        ]

    lines = [f"{about[:1].upper()}{about[1:]}: this leaves the site for {server}:"]
    if bodies:
        times = f", {len(bodies)} times" if len(bodies) > 1 else ""
        lines += [f"  {RULES[exit].says}{times}:", *written(bodies[0], shared.__contains__, "    ")]
    for number, body in enumerate(bodies if len(bodies) > 1 else (), start=1):
        lines += [f"    {number}:", *written(body, lambda name: name not in shared, "      ")]
    lines += [f"  {RULES[one].says} ({', '.join(RULES[one].names)})" for one in follows]
    return "\n".join(lines)
