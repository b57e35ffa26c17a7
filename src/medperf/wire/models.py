"""Request and response bodies of ``/api/v1``. Both sides use these; limits come from `medperf.domain.limits`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from medperf.domain import limits
from medperf.domain.associations import AutoApproval, AutoMode
from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput
from medperf.domain.executions import ResultsVisibility
from medperf.domain.states import Approval, Kind, State


def _digest(value: str) -> str:
    try:
        return str(Digest(value))
    except InvalidInput as error:
        raise ValueError(str(error)) from error


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _plain(value: str) -> str:
    """No control characters, no lone surrogates."""
    if _CONTROL.search(value):
        raise ValueError("control characters are not allowed")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError("lone surrogates are not allowed") from error
    return value


def _text(value: str) -> str:
    """Like `_plain`, but line breaks and tabs are fine."""
    _plain(value.replace("\n", "").replace("\t", "").replace("\r", ""))
    return value


def _told(pattern: str) -> Any:
    """For the API's description: what a validator of ours checks, as a pattern."""
    return Field(json_schema_extra={"pattern": pattern})


_NO_CONTROLS = r"[^\x00-\x1f\x7f]"

Sha256 = Annotated[
    str,
    StringConstraints(max_length=80),
    AfterValidator(_digest),
    _told(r"^(sha256:)?[0-9a-fA-F]{64}$"),
]
Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=limits.NAME_LENGTH, strip_whitespace=True),
    AfterValidator(_plain),
    _told(rf"^{_NO_CONTROLS}*[^\s\x00-\x1f\x7f]{_NO_CONTROLS}*$"),
]
Line = Annotated[
    str,
    StringConstraints(max_length=limits.NAME_LENGTH, strip_whitespace=True),
    AfterValidator(_plain),
    _told(rf"^{_NO_CONTROLS}*$"),
]
Description = Annotated[
    str,
    StringConstraints(max_length=limits.DESCRIPTION_LENGTH),
    AfterValidator(_text),
    _told(r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"),
]
FileURL = Annotated[
    str,
    StringConstraints(
        max_length=limits.URL_LENGTH, pattern=r"^(https?://[^\s\x00-\x1f\x7f\x85]+|asset:[1-9][0-9]{0,17})$"
    ),
    AfterValidator(_plain),
]
WebURL = Annotated[
    str,
    StringConstraints(max_length=limits.URL_LENGTH, pattern=r"^(https?://[^\s\x00-\x1f\x7f\x85]+)?$"),
    AfterValidator(_plain),
]
Username = Annotated[
    str, StringConstraints(min_length=1, max_length=limits.USERNAME_LENGTH, pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]*$")
]
#: Entries at the top; the size of all of it is for the server. Four bytes are the least that an entry takes.
Metadata = Annotated[dict[str, Any], Field(max_length=limits.METADATA_BYTES // 4)]
Id = Annotated[int, Field(ge=1, le=limits.ID_MAX)]


class Body(BaseModel):
    """Something a client sends: unknown fields are refused, types are not guessed.

    Validators are built when first used (``defer_build``): a command pays for the two models it needs, not for all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, defer_build=True)

    @classmethod
    def of(cls, **fields: Any) -> Self:
        """A body from what a person gave.

        Raises:
            InvalidInput: a field breaks a limit that both sides agree on; nothing was sent.
        """
        try:
            return cls(**fields)
        except ValidationError as error:
            raise _unsendable(error.errors(include_input=False, include_url=False)) from error

    @classmethod
    def check(cls, **fields: Any) -> None:
        """Some of the fields, before the long work that finds the others.

        Raises:
            InvalidInput: as `of`.
        """
        try:
            cls(**fields)
        except ValidationError as error:
            faults = [
                fault for fault in error.errors(include_input=False, include_url=False) if fault["loc"][0] in fields
            ]
            if faults:
                raise _unsendable(faults) from error


#: Fields by the words that people know them by, where those are others.
_FIELDS = {"new": "new password", "current": "current password"}
#: What a pattern means, for people.
_PATTERNS = {
    "docs_url": "it must be an address that starts with https:// or http://",
    "username": "use letters, digits and . _ @ + -, beginning with a letter or digit",
    "email": "write it like name@example.org",
}


def _unsendable(faults: Sequence[Any]) -> InvalidInput:
    said = []
    for fault in faults:
        field = ".".join(map(str, fault["loc"]))
        said.append(f"{_FIELDS.get(field, field)}: {_in_words(field, fault)}")
    return InvalidInput("invalid_input", f"This cannot be sent: {'; '.join(said)}.", "Correct it and try again.")


def _in_words(field: str, fault: Any) -> str:
    """What a validator found, for people who know nothing of validators."""
    bounds = fault.get("ctx") or {}
    match fault["type"]:
        case "string_too_short" if bounds["min_length"] == 1:
            return "it is empty"
        case "string_too_short":
            return f"it must have at least {bounds['min_length']:,} characters"
        case "string_too_long":
            return f"it may have at most {bounds['max_length']:,} characters"
        case "string_pattern_mismatch" if field in _PATTERNS:
            return _PATTERNS[field]
        case "value_error":
            return str(bounds["error"])
    return str(fault["msg"])


class View(BaseModel):
    """Something the server answers: unknown fields of a newer server are read over."""

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)


# --------------------------------------------------------------------------------------------------------------- server


class ServerView(View):
    """``GET /api/v1/server`` (anonymous)."""

    name: str
    version: str
    api: str
    instance_id: str
    development: bool


class PartyRef(View):
    """Who owns a thing. ``kind`` keeps an organisation from passing for a person of the same name, and the other way round."""

    id: int
    name: str
    kind: Literal["person", "organisation"] = "person"


# ---------------------------------------------------------------------------------------------------------------- users


class TokenCreate(Body):
    """``POST /tokens``: log in."""

    username: Annotated[str, StringConstraints(max_length=limits.USERNAME_LENGTH)]
    password: Annotated[str, StringConstraints(max_length=limits.PASSWORD_LENGTH)]


class UserView(View):
    """An account. ``party_id`` is the personal party that owns what the user makes."""

    id: int
    username: str
    email: str | None = None
    is_admin: bool
    is_active: bool
    party_id: int
    created_at: datetime


class TokenView(View):
    """The answer to a login. The token is shown once and stored hashed."""

    token: str
    expires_at: datetime
    user: UserView


class UserCreate(Body):
    """``POST /users`` (admin)."""

    username: Username
    password: Annotated[
        str, StringConstraints(min_length=limits.PASSWORD_MIN_LENGTH, max_length=limits.PASSWORD_LENGTH)
    ]
    email: Annotated[str, StringConstraints(max_length=limits.EMAIL_LENGTH, pattern=r"^[^@\s]+@[^@\s]+$")] | None = None
    is_admin: bool = False


class UserUpdate(Body):
    """``PATCH /users/{id}`` (admin). ``leave_unmanaged``: disable also the last active manager of an organisation."""

    is_active: bool
    leave_unmanaged: bool = False


class PasswordChange(Body):
    """``POST /me/password``; all other tokens of the account end."""

    current: Annotated[str, StringConstraints(max_length=limits.PASSWORD_LENGTH)]
    new: Annotated[str, StringConstraints(min_length=limits.PASSWORD_MIN_LENGTH, max_length=limits.PASSWORD_LENGTH)]


# ---------------------------------------------------------------------------------------------------------------- files


class FileRef(Body):
    """The only way the system names a remote file. A url is ``https://...``, ``http://`` (loopback) or ``asset:ID`` of this server."""

    digest: Sha256
    size: Annotated[int, Field(ge=0, le=limits.ASSET_BYTES)]
    urls: Annotated[tuple[FileURL, ...], Field(max_length=limits.URLS_PER_FILE)] = ()


class AssetView(View):
    """A file the server hosts. Content: ``GET /assets/{id}/content``."""

    id: int
    name: str
    digest: str
    size: int
    owner: PartyRef
    created_at: datetime


# -------------------------------------------------------------------------------------------------------------- mlcubes

FileName = Literal["manifest", "parameters", "additional", "image", "project"]
FormName = Literal["oci", "sif", "python"]


class MLCubeCreate(Body):
    """``POST /mlcubes``.

    ``manifest_text`` is the manifest itself: the server checks it against ``files["manifest"].digest`` and finds the kind from it, for
    it never opens a URL that a client gave. ``forms`` maps a form to its digests, e.g. ``{"python": {"project": ...}}`` or ``{"oci": {"image": ...}}``.
    """

    name: Name
    manifest_text: Annotated[str, StringConstraints(max_length=limits.MANIFEST_BYTES)]
    files: Annotated[dict[FileName, FileRef], Field(max_length=limits.FILES_PER_MLCUBE)]
    forms: dict[FormName, dict[Annotated[str, StringConstraints(max_length=32)], Sha256]]
    state: State = State.OPERATION
    user_metadata: Metadata = Field(default_factory=dict)
    owner: Id | None = None  # a party that the account may operate for; None: the account's own


class MLCubeUpdate(Body):
    """``PATCH /mlcubes/{id}`` with ``If-Match``."""

    name: Name | None = None
    state: State | None = None
    is_valid: bool | None = None
    user_metadata: Metadata | None = None


class MLCubeView(View):
    """A registered container."""

    id: int
    name: str
    kind: Kind
    state: State
    is_valid: bool
    files: dict[str, FileRef]
    forms: dict[str, dict[str, str]]
    manifest_text: str | None = None  # in the detail, not in lists
    user_metadata: dict[str, Any] = Field(default_factory=dict)
    owner: PartyRef
    version: int
    created_at: datetime
    modified_at: datetime


# ----------------------------------------------------------------------------------------------------------- benchmarks


class TestedCube(Body):
    """Exactly what ran in a compatibility test: digests of the files and of the form."""

    mlcube: Id | None = None
    files: dict[FileName, Sha256]
    form: FormName
    form_digests: dict[
        Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=200)]
    ]


class TestedStep(Body):
    """One step of a compatibility test."""

    task: Annotated[str, StringConstraints(max_length=64)]
    key: Sha256
    seconds: float
    cached: bool


class CompatibilityReport(Body):
    """What a compatibility test ran and found. Kept at the site, and frozen with a benchmark."""

    version: Literal[1] = 1
    client_version: Annotated[str, StringConstraints(max_length=32)]
    engine: Annotated[str, StringConstraints(max_length=32)]
    architecture: Annotated[str, StringConstraints(max_length=32)]
    policy: dict[str, Any]
    demo_digest: Sha256 | None = None
    prepared_identity: Sha256
    preparator: TestedCube
    model: TestedCube
    evaluator: TestedCube
    steps: Annotated[tuple[TestedStep, ...], Field(max_length=16)]
    statistics: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any]
    started_at: datetime
    finished_at: datetime


class AutoPolicy(Body):
    """Whose requests to join a benchmark are approved without a person. See `medperf.domain.associations.AutoApproval`."""

    mode: AutoMode = AutoMode.NEVER
    parties: Annotated[tuple[Id, ...], Field(max_length=limits.AUTO_APPROVED_PARTIES)] = ()

    def approval(self) -> AutoApproval:
        """As the rules take it.

        Raises:
            InvalidInput: ``bad_auto_approval``.
        """
        return AutoApproval(self.mode, frozenset(self.parties))


class BenchmarkCreate(Body):
    """``POST /benchmarks``: always PENDING; an admin decides.

    Attributes:
        results_visibility: who sees results, besides the owners of the data, the model and the benchmark. In OPERATION it only narrows.
    """

    name: Name
    description: Description = ""
    docs_url: WebURL = ""
    demo: FileRef
    preparator: Id
    reference_model: Id
    evaluator: Id
    report: CompatibilityReport
    metrics_contract: dict[str, Any]
    state: State = State.OPERATION
    auto_models: AutoPolicy = AutoPolicy()
    auto_datasets: AutoPolicy = AutoPolicy()
    results_visibility: ResultsVisibility = ResultsVisibility.OWNERS
    user_metadata: Metadata = Field(default_factory=dict)
    owner: Id | None = None  # a party that the account may operate for; None: the account's own


class BenchmarkUpdate(Body):
    """``PATCH /benchmarks/{id}`` with ``If-Match``."""

    name: Name | None = None
    description: Description | None = None
    docs_url: WebURL | None = None
    state: State | None = None
    is_valid: bool | None = None
    is_active: bool | None = None
    auto_models: AutoPolicy | None = None
    auto_datasets: AutoPolicy | None = None
    results_visibility: ResultsVisibility | None = None
    user_metadata: Metadata | None = None


class Decision(Body):
    """``POST /benchmarks/{id}/decision`` (admin, not the owner)."""

    approval: Approval
    reason: Description = ""


class AutoPolicyView(View):
    """See `AutoPolicy`. ``parties``: for members of the benchmark's owner and admins, in the detail."""

    mode: AutoMode = AutoMode.NEVER
    parties: tuple[int, ...] | None = None


class BenchmarkView(View):
    """A benchmark. ``report`` and ``metrics_contract`` are in the detail, not in lists."""

    id: int
    name: str
    description: str
    docs_url: str
    state: State
    approval: Approval
    approval_reason: str = ""
    is_valid: bool
    is_active: bool
    demo: FileRef
    prepared_identity: str
    preparator: int
    reference_model: int
    evaluator: int
    report: CompatibilityReport | None = None
    metrics_contract: dict[str, Any] | None = None
    auto_models: AutoPolicyView = AutoPolicyView()
    auto_datasets: AutoPolicyView = AutoPolicyView()
    results_visibility: ResultsVisibility = ResultsVisibility.OWNERS
    user_metadata: dict[str, Any] = Field(default_factory=dict)
    owner: PartyRef
    version: int
    created_at: datetime
    modified_at: datetime
    decided_at: datetime | None = None


# ---------------------------------------------------------------------------------------------------------------- pages


Item = TypeVar("Item")


class Page(View, Generic[Item]):
    """One page of a listing in ascending id order; ``next`` is the cursor for ``?after=``, None on the last page."""

    items: tuple[Item, ...]
    next: str | None = None
