"""Who may do what: every action, the table of rules, and one function that decides.

Whoever is in doubt reads `RULES`. A personal party is held by its user with every right; an organisation's members hold the rights they
were given. What an actor may not even read is answered as if it were not there; that is the reader's business (``visible_to``
on the server), the verdicts here are for what is in sight.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Right(StrEnum):
    """What a member may do for an organisation."""

    MANAGE = "manage"
    OPERATE = "operate"
    RELEASE = "release"

    @property
    def meaning(self) -> str:
        """In a few words."""
        return _MEANINGS[self]


_MEANINGS = {
    Right.MANAGE: "members and their rights, invitations, the name, validity and activity, decisions about associations",
    Right.OPERATE: "register and edit MLCubes, benchmarks and datasets, upload and delete assets, ask for associations, run",
    Right.RELEASE: "release, withhold and retract results",
}
EVERY_RIGHT = frozenset(Right)


class Action(StrEnum):
    """What an actor may attempt. A route has one or more."""

    SERVER_READ = "server.read"
    TOKEN_CREATE = "token.create"  # noqa: S105 - the name of an action
    TOKEN_END = "token.end"  # noqa: S105 - the name of an action
    ACCOUNT_READ = "account.read"
    PASSWORD_CHANGE = "password.change"  # noqa: S105 - the name of an action
    USER_LIST = "user.list"
    USER_READ = "user.read"
    USER_CREATE = "user.create"
    USER_ENABLE = "user.enable"
    USER_DISABLE = "user.disable"
    USER_ERASE = "user.erase"
    AUDIT_READ = "audit.read"
    CHECKPOINT_LIST = "checkpoint.list"
    MLCUBE_LIST = "mlcube.list"
    MLCUBE_READ = "mlcube.read"
    MLCUBE_REGISTER = "mlcube.register"
    MLCUBE_EDIT = "mlcube.edit"
    MLCUBE_SET_VALIDITY = "mlcube.set_validity"
    BENCHMARK_LIST = "benchmark.list"
    BENCHMARK_READ = "benchmark.read"
    BENCHMARK_REGISTER = "benchmark.register"
    BENCHMARK_EDIT = "benchmark.edit"
    BENCHMARK_SET_VALIDITY = "benchmark.set_validity"
    BENCHMARK_SET_ACTIVITY = "benchmark.set_activity"
    BENCHMARK_SET_VISIBILITY = "benchmark.set_visibility"
    BENCHMARK_DECIDE = "benchmark.decide"
    ASSET_LIST = "asset.list"
    ASSET_READ = "asset.read"
    ASSET_READ_CONTENT = "asset.read_content"
    ASSET_UPLOAD = "asset.upload"
    ASSET_DELETE = "asset.delete"
    ORGANISATION_LIST = "organisation.list"
    ORGANISATION_CREATE = "organisation.create"
    ORGANISATION_READ = "organisation.read"
    ORGANISATION_RENAME = "organisation.rename"
    MEMBER_LIST = "member.list"
    MEMBER_SET_RIGHTS = "member.set_rights"
    MEMBER_REMOVE = "member.remove"
    MEMBER_LEAVE = "member.leave"
    INVITATION_SEND = "invitation.send"
    INVITATION_LIST = "invitation.list"
    INVITATION_CANCEL = "invitation.cancel"
    INVITATION_READ = "invitation.read"
    INVITATION_ANSWER = "invitation.answer"
    DATASET_LIST = "dataset.list"
    DATASET_READ = "dataset.read"
    DATASET_REGISTER = "dataset.register"
    DATASET_EDIT = "dataset.edit"
    DATASET_SET_VALIDITY = "dataset.set_validity"
    DATASET_SET_ACTIVITY = "dataset.set_activity"
    ASSOCIATION_LIST = "association.list"
    ASSOCIATION_READ = "association.read"
    ASSOCIATION_ASK = "association.ask"
    ASSOCIATION_CANCEL = "association.cancel"
    ASSOCIATION_DECIDE = "association.decide"
    ASSOCIATION_REVOKE = "association.revoke"
    ASSOCIATION_SET_PRIORITY = "association.set_priority"
    ASSOCIATION_SET_POLICY = "association.set_policy"
    EXECUTION_LIST = "execution.list"
    EXECUTION_READ = "execution.read"
    EXECUTION_REGISTER = "execution.register"
    EXECUTION_REPORT = "execution.report"
    RESULT_LIST = "result.list"
    RESULT_READ = "result.read"
    RESULT_RELEASE = "result.release"
    RESULT_WITHHOLD = "result.withhold"
    RESULT_RETRACT = "result.retract"
    INBOX_READ = "inbox.read"


class Who(StrEnum):
    """A group of actors, in words for the table of the documentation. "It" is the thing, "its owner" the party that owns it."""

    ANYONE = "anyone"
    ACCOUNT = "any account"
    ADMIN = "an admin"
    MANAGER = "who may manage for its owner"
    OPERATOR = "who may operate for its owner"
    RELEASER = "who may release for its owner"
    MEMBER = "a member of its owner"
    READER = "any account that it is published to"
    ADDRESSEE = "the account it is about"
    RESCUER = "an admin, while it has no manager who is active"
    ASKED_MANAGER = "who may manage for the side that was asked"
    ASKED_MEMBER = "a member of the side that was asked"
    BENCHMARK_MANAGER = "who may manage for the owner of its benchmark"
    BENCHMARK_MEMBER = "a member of the owner of its benchmark"
    ASKED_TO_JOIN = "a member of the owner of a benchmark that it asked to join"
    MODEL_MEMBER = "a member of the owner of its model"


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of an actor before a thing.

    Args:
        account: whether there is an account at all.
        rights: held in the party that owns the thing; empty = no member of it. An association belongs to the side that asked, or is
            about to; an execution, its attempts and its results to the dataset's owner.
        personal: that party is the actor's own personal one.
        published: the thing is open to the account without belonging to it: an MLCube in OPERATION, an approved benchmark, an asset that
            is the demo data, or a file of the preparator or evaluator, of a benchmark which the account sees; the approved association
            of a model in such a benchmark; a result that the benchmark's policy shows to the account
            (`medperf.domain.executions.ResultsVisibility`).
        addressed: the thing is about this very account: its own membership, an invitation to it.
        unmanaged: the thing is an organisation none of whose managers has an active account.
        asked: rights held in the side of an association that was asked.
        benchmark: rights held in the owner of the benchmark that an association, execution or result is in; of a dataset: in the owner of
            any benchmark that `medperf.domain.associations.shows_dataset` says.
        model: rights held in the owner of the model of an execution or result.
        organisation: name of the one that owns the thing (or is it), for what a refusal advises; empty: none, or not known.
    """

    account: bool = True
    is_admin: bool = False
    rights: frozenset[Right] = frozenset()
    personal: bool = False
    published: bool = False
    addressed: bool = False
    unmanaged: bool = False
    asked: frozenset[Right] = frozenset()
    benchmark: frozenset[Right] = frozenset()
    model: frozenset[Right] = frozenset()
    organisation: str = ""

    @property
    def is_member(self) -> bool:
        """Whether the actor belongs to the owner. A member has at least one right."""
        return bool(self.rights)

    def held(self, who: Who) -> frozenset[Right]:
        """The rights in the party that such a group is about."""
        match who:
            case Who.ASKED_MANAGER | Who.ASKED_MEMBER:
                return self.asked
            case Who.BENCHMARK_MANAGER | Who.BENCHMARK_MEMBER | Who.ASKED_TO_JOIN:
                return self.benchmark
            case Who.MODEL_MEMBER:
                return self.model
            case _:
                return self.rights

    def within(self, who: Who) -> bool:
        """Whether this actor is one of those."""
        match who:
            case Who.ANYONE:
                return True
            case Who.ACCOUNT:
                return self.account
            case Who.ADMIN:
                return self.is_admin
            case Who.READER:
                return self.account and self.published
            case Who.ADDRESSEE:
                return self.addressed
            case Who.RESCUER:
                return self.is_admin and self.unmanaged
            case _:
                held = self.held(who)
                return _RIGHTS[who][0] in held if who in _RIGHTS else bool(held)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to "may they?", with what a refusal says."""

    allowed: bool
    code: str = ""
    reason: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the table.

    Args:
        says: the action as it follows "may".
        may: being one of these is enough.
        never: whoever is one of these is refused all the same, with `code` and `reason`.
    """

    says: str
    may: tuple[Who, ...]
    never: tuple[Who, ...] = ()
    code: str = ""
    reason: str = ""


_W = Who
RULES: Mapping[Action, Rule] = {
    Action.SERVER_READ: Rule("see which server this is", (_W.ANYONE,)),
    Action.TOKEN_CREATE: Rule("log in", (_W.ANYONE,)),
    Action.TOKEN_END: Rule("log out", (_W.ACCOUNT,)),
    Action.ACCOUNT_READ: Rule("see their own account", (_W.ACCOUNT,)),
    Action.PASSWORD_CHANGE: Rule("change their own password", (_W.ACCOUNT,)),
    Action.USER_LIST: Rule("list accounts", (_W.ADMIN,)),
    Action.USER_READ: Rule("see an account", (_W.ADMIN,)),
    Action.USER_CREATE: Rule("make accounts", (_W.ADMIN,)),
    Action.USER_ENABLE: Rule("enable an account", (_W.ADMIN,)),
    Action.USER_DISABLE: Rule("disable an account", (_W.ADMIN,)),
    Action.USER_ERASE: Rule("erase what is personal of an account", (_W.ADMIN,)),
    Action.AUDIT_READ: Rule("read the audit trail", (_W.ADMIN,)),
    Action.CHECKPOINT_LIST: Rule("see the seals of the audit trail", (_W.ACCOUNT,)),
    Action.MLCUBE_LIST: Rule("list the MLCubes they may see", (_W.ACCOUNT,)),
    Action.MLCUBE_READ: Rule("see an MLCube", (_W.MEMBER, _W.READER, _W.ADMIN)),
    Action.MLCUBE_REGISTER: Rule("register an MLCube", (_W.OPERATOR,)),
    Action.MLCUBE_EDIT: Rule("edit this MLCube", (_W.OPERATOR,)),
    Action.MLCUBE_SET_VALIDITY: Rule("say whether this MLCube is valid", (_W.MANAGER, _W.ADMIN)),
    Action.BENCHMARK_LIST: Rule("list the benchmarks they may see", (_W.ACCOUNT,)),
    Action.BENCHMARK_READ: Rule("see a benchmark", (_W.MEMBER, _W.READER, _W.ADMIN)),
    Action.BENCHMARK_REGISTER: Rule("register a benchmark", (_W.OPERATOR,)),
    Action.BENCHMARK_EDIT: Rule("edit this benchmark", (_W.OPERATOR,)),
    Action.BENCHMARK_SET_VALIDITY: Rule("say whether this benchmark is valid", (_W.MANAGER, _W.ADMIN)),
    Action.BENCHMARK_SET_ACTIVITY: Rule("say whether this benchmark is active", (_W.MANAGER,)),
    Action.BENCHMARK_SET_VISIBILITY: Rule("say who sees the results of this benchmark", (_W.MANAGER,)),
    Action.BENCHMARK_DECIDE: Rule(
        "approve or reject a benchmark",
        (_W.ADMIN,),
        never=(_W.MEMBER,),
        code="own_benchmark",
        reason="Nobody approves or rejects their own benchmark, nor that of an organisation they belong to.",
    ),
    Action.ASSET_LIST: Rule("list the assets they may see", (_W.ACCOUNT,)),
    Action.ASSET_READ: Rule("see what an asset is", (_W.MEMBER, _W.READER, _W.ADMIN)),
    Action.ASSET_READ_CONTENT: Rule("read an asset's bytes", (_W.MEMBER, _W.READER)),
    Action.ASSET_UPLOAD: Rule("upload an asset", (_W.OPERATOR,)),
    Action.ASSET_DELETE: Rule("delete this asset", (_W.OPERATOR,)),
    Action.ORGANISATION_LIST: Rule("list the organisations they may see", (_W.ACCOUNT,)),
    Action.ORGANISATION_CREATE: Rule("make an organisation", (_W.ACCOUNT,)),
    Action.ORGANISATION_READ: Rule("see an organisation", (_W.MEMBER, _W.ADMIN)),
    Action.ORGANISATION_RENAME: Rule("rename this organisation", (_W.MANAGER,)),
    Action.MEMBER_LIST: Rule("list the members of an organisation", (_W.MEMBER, _W.ADMIN)),
    Action.MEMBER_SET_RIGHTS: Rule("change the rights of a member", (_W.MANAGER, _W.RESCUER)),
    Action.MEMBER_REMOVE: Rule("remove a member", (_W.MANAGER, _W.RESCUER)),
    Action.MEMBER_LEAVE: Rule("leave an organisation", (_W.ADDRESSEE,)),
    Action.INVITATION_SEND: Rule("invite to this organisation", (_W.MANAGER, _W.RESCUER)),
    Action.INVITATION_LIST: Rule("see the invitations of this organisation", (_W.MANAGER, _W.RESCUER)),
    Action.INVITATION_CANCEL: Rule("cancel an invitation to this organisation", (_W.MANAGER, _W.RESCUER)),
    Action.INVITATION_READ: Rule("see the invitations to themselves", (_W.ACCOUNT,)),
    Action.INVITATION_ANSWER: Rule("answer an invitation", (_W.ADDRESSEE,)),
    Action.DATASET_LIST: Rule("list the datasets they may see", (_W.ACCOUNT,)),
    Action.DATASET_READ: Rule("see a dataset and its statistics", (_W.MEMBER, _W.ASKED_TO_JOIN, _W.ADMIN)),
    Action.DATASET_REGISTER: Rule("register a dataset", (_W.OPERATOR,)),
    Action.DATASET_EDIT: Rule("edit this dataset", (_W.OPERATOR,)),
    Action.DATASET_SET_VALIDITY: Rule("say whether this dataset is valid", (_W.MANAGER, _W.ADMIN)),
    Action.DATASET_SET_ACTIVITY: Rule("say whether this dataset is active", (_W.MANAGER,)),
    Action.ASSOCIATION_LIST: Rule("list the associations they may see", (_W.ACCOUNT,)),
    Action.ASSOCIATION_READ: Rule("see an association", (_W.MEMBER, _W.ASKED_MEMBER, _W.READER, _W.ADMIN)),
    Action.ASSOCIATION_ASK: Rule("ask for an association", (_W.OPERATOR,)),
    Action.ASSOCIATION_CANCEL: Rule("take back the request for an association", (_W.OPERATOR, _W.MANAGER)),
    Action.ASSOCIATION_DECIDE: Rule("approve or reject an association", (_W.ASKED_MANAGER,)),
    Action.ASSOCIATION_REVOKE: Rule("revoke an association", (_W.MANAGER, _W.ASKED_MANAGER)),
    Action.ASSOCIATION_SET_PRIORITY: Rule("say which model of a benchmark runs first", (_W.BENCHMARK_MANAGER,)),
    Action.ASSOCIATION_SET_POLICY: Rule("say whose requests this benchmark approves by itself", (_W.MANAGER,)),
    Action.EXECUTION_LIST: Rule("list the executions they may see", (_W.ACCOUNT,)),
    Action.EXECUTION_READ: Rule(
        "see an execution and its attempts", (_W.MEMBER, _W.BENCHMARK_MEMBER, _W.MODEL_MEMBER, _W.ADMIN)
    ),
    Action.EXECUTION_REGISTER: Rule("register an execution or an attempt", (_W.OPERATOR,)),
    Action.EXECUTION_REPORT: Rule("report about an attempt", (_W.OPERATOR,)),
    Action.RESULT_LIST: Rule("list the results they may see", (_W.ACCOUNT,)),
    Action.RESULT_READ: Rule("see a result", (_W.MEMBER, _W.BENCHMARK_MEMBER, _W.MODEL_MEMBER, _W.READER)),
    Action.RESULT_RELEASE: Rule("release results", (_W.RELEASER,)),
    Action.RESULT_WITHHOLD: Rule("withhold results", (_W.RELEASER,)),
    Action.RESULT_RETRACT: Rule("retract results", (_W.RELEASER,)),
    Action.INBOX_READ: Rule("see what waits for them", (_W.ACCOUNT,)),
}
#: Defined before there is a route for them, so that the rights mean the same from the first member on.
WITHOUT_ROUTE: frozenset[Action] = frozenset()

#: Groups that an actor is in or not whatever the thing is.
_OF_THE_ACTOR = frozenset({Who.ANYONE, Who.ACCOUNT, Who.ADMIN})
#: Groups that a right makes: the right, and whose.
_RIGHTS = {
    Who.MANAGER: (Right.MANAGE, "its owner"),
    Who.OPERATOR: (Right.OPERATE, "its owner"),
    Who.RELEASER: (Right.RELEASE, "its owner"),
    Who.ASKED_MANAGER: (Right.MANAGE, "the side that was asked"),
    Who.BENCHMARK_MANAGER: (Right.MANAGE, "the owner of its benchmark"),
}
_ALLOWED = Verdict(True)


def decide(action: Action, standing: Standing) -> Verdict:
    """May this actor do this to that thing?"""
    rule = RULES[action]
    if not standing.account and Who.ANYONE not in rule.may:
        return Verdict(False, "login_required", "This needs an account.", "Log in with: medperf login")
    if not any(standing.within(who) for who in rule.may):
        return _refusal(rule, standing)
    if any(standing.within(who) for who in rule.never):
        return Verdict(False, rule.code, rule.reason, "Ask another admin of this server.")
    return _ALLOWED


def decide_all(actions: Iterable[Action], standing: Standing) -> Verdict:
    """The first refusal, or yes."""
    return next((verdict for action in actions if not (verdict := decide(action, standing)).allowed), _ALLOWED)


def decide_early(action: Action, standing: Standing) -> Verdict:
    """A no that no thing could turn into a yes, found before anything is looked up."""
    rule = RULES[action]
    if not standing.account or _OF_THE_ACTOR.issuperset(rule.may):
        return decide(action, standing) if not any(standing.within(who) for who in rule.may) else _ALLOWED
    return _ALLOWED


def _refusal(rule: Rule, standing: Standing) -> Verdict:
    if rule.may == (Who.ADMIN,):
        return Verdict(
            False, "admin_only", f"Only an admin of the server may {rule.says}.", "Ask an admin of this server."
        )
    for who in rule.may:
        if who in _RIGHTS and (held := standing.held(who)):
            right, whose = _RIGHTS[who]
            yours = ", ".join(sorted(held))
            known = standing.organisation if held is standing.rights else ""
            managers = f"; see: medperf organisation members {shlex.quote(known)}" if known else "."
            return Verdict(
                False,
                "missing_right",
                f"To {rule.says} takes the right to {right.value} for {whose}; yours: {yours}.",
                f"Ask a manager of the organisation{managers}",
            )
    if rule.may == (Who.ADDRESSEE,):
        return Verdict(False, "not_yours", f"Only the account it is about may {rule.says}.", "Nothing is to be done.")
    if rule.may == (Who.ASKED_MANAGER,):
        return Verdict(
            False,
            "other_side_decides",
            f"Only the side that was asked may {rule.says}.",
            "Wait for them, or take the request back with: medperf association cancel",
        )
    if rule.may == (Who.BENCHMARK_MANAGER,):
        return Verdict(False, "not_owner", f"Only the benchmark's owner may {rule.says}.", "Ask the benchmark's owner.")
    also = " or an admin" if Who.ADMIN in rule.may else ""
    return Verdict(False, "not_owner", f"Only its owner{also} may {rule.says}.", "Ask its owner.")
