"""policy.toml as a table: every key, its default, what it takes and what it refuses; and what follows from it."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medperf.domain.confinement import ConfinementPolicy, Limits
from medperf.domain.digests import Digest
from medperf.domain.disclosure import RULES, Consent, Exit, Setting
from medperf.domain.errors import InvalidInput
from medperf.domain.policyfile import KEYS, NEVER_WAIVED, parse_policy
from medperf.domain.sitepolicy import (
    Accept,
    Answer,
    Gpus,
    Mode,
    ModelOffer,
    Models,
    Release,
    Retention,
    SitePolicy,
    TaskLimits,
    accepts_model,
    may_go,
    registry_of,
)
from medperf.domain.steps import COMPATIBILITY_TASKS

PAGE = Path(__file__).parents[3] / "docs" / "concepts" / "site-policy.md"
DIGEST = Digest.of(b"a model")
OTHER = Digest.of(b"another")
KEEP = 'predictions = "keep"'
LISTED = 'accept = "listed"\nowners = [1]'

#: section, line(s), where the policy holds it, what it holds then
GOOD: list[tuple[str, str, str, Any]] = [
    ("models", 'accept = "ask"', "models.accept", Accept.ASK),
    ("models", 'accept = "never"', "models.accept", Accept.NEVER),
    ("models", LISTED, "models.accept", Accept.LISTED),
    ("models", "owners = [3, 12]", "models.owners", frozenset({3, 12})),
    ("models", f'digests = ["{DIGEST.upper()}", "{OTHER.hex}"]', "models.digests", frozenset({DIGEST, OTHER})),
    ("models", 'registries = ["ghcr.io"]', "models.registries", ("ghcr.io",)),
    ("models", 'registries = ["GHCR.io/mlcommons"]', "models.registries", ("ghcr.io/mlcommons",)),
    ("models", 'registries = ["index.docker.io/mlcommons"]', "models.registries", ("docker.io/mlcommons",)),
    ("models", 'registries = ["localhost:5000/a/b_c"]', "models.registries", ("localhost:5000/a/b_c",)),
    ("models", 'forms = ["python", "oci", "sif"]', "models.forms", ("python", "oci", "sif")),
    *(
        (f"limits.{task}", "seconds = 7200", "limits", {task: TaskLimits(seconds=7200)})
        for task in ("prepare", "sanity_check", "statistics", "infer", "evaluate")
    ),
    ("limits.infer", "seconds = 0x10\ncpus = 1.5", "limits", {"infer": TaskLimits(seconds=16, cpus=1.5)}),
    ("limits.infer", "memory_bytes = 8_589_934_592", "limits", {"infer": TaskLimits(memory_bytes=2**33)}),
    ("limits.infer", "output_bytes = 1024", "limits", {"infer": TaskLimits(output_bytes=1024)}),
    ("limits.infer", "", "limits", {"infer": TaskLimits()}),
    ("gpus", "devices = []", "gpus", Gpus()),
    ("gpus", "devices = [0, 3]", "gpus", Gpus(devices=(0, 3))),
    ("gpus", 'devices = "all"\nper_task = 4', "gpus", Gpus(devices=None, per_task=4)),
    ("retention", 'predictions = "delete"', "retention", Retention()),
    ("retention", KEEP, "retention", Retention("keep")),
    ("retention", f"{KEEP}\ndays = 90", "retention", Retention("keep", 90)),
    ("data", "full_check_days = 0", "full_check_days", 0),
    ("data", "full_check_days = 7", "full_check_days", 7),
    *(("release", f'{setting} = "{mode}"', f"release.{setting}", mode) for setting in Setting for mode in Mode),
    ("downloads", "allow_private = true", "allow_private", True),
    ("downloads", "allow_private = false", "allow_private", False),
    ("engine", 'waive = ["seccomp", "memory-limit"]', "waive", frozenset({"seccomp", "memory-limit"})),
]

BAD: list[tuple[str, str]] = [
    *(("models", f"accept = {value}") for value in ('"yes"', '"ASK"', '""', "true", "[]", "1", "{}")),
    ("models", 'accept = "listed"'),
    ("models", 'forms = ["oci"]\naccept = "listed"'),
    *(
        ("models", f"owners = {value}")
        for value in ("3", "[]", '["alice"]', "[0]", "[-1]", "[1.0]", "[true]", "[3, 3]")
    ),
    ("models", f"owners = [{2**31}]"),
    ("models", f"owners = {list(range(1, 1002))}"),
    *(("models", f"digests = {value}") for value in (f'"{DIGEST}"', "[]", '["abc"]', '["md5:00"]', "[1]", "[[]]")),
    ("models", f'digests = ["{DIGEST}", "{DIGEST.hex}"]'),
    *(
        ("models", f"registries = {value}")
        for value in (
            '"ghcr.io"',
            "[]",
            '["mlcommons"]',
            '["mlcommons/x"]',
            '["https://ghcr.io"]',
            '["ghcr.io/"]',
            '["ghcr.io/../x"]',
            '["ghcr.io/x:1"]',
            '["ghcr.io/x@sha256:00"]',
            '["*.io"]',
            '[""]',
            "[1]",
            '["ghcr.io", "GHCR.io"]',
        )
    ),
    *(("models", f"forms = {value}") for value in ('"oci"', "[]", '["docker"]', '["OCI"]', "[1]", '["oci", "oci"]')),
    *(
        ("limits.infer", f"seconds = {value}")
        for value in ("0", "-1", "0.5", "nan", "inf", "-inf", '"1h"', "true", "1e12", "[]", "2024-01-01")
    ),
    *(("limits.infer", f"memory_bytes = {value}") for value in ("0", "1024", "4e9", '"4 GiB"', "true", f"{2**51}")),
    *(("limits.infer", f"cpus = {value}") for value in ("0", "-1", "nan", '"2"', "true", "5000")),
    *(("limits.infer", f"output_bytes = {value}") for value in ("0", "1.5", '"1"', "false")),
    *(("gpus", f"devices = {value}") for value in ('"none"', '"0"', "0", "[-1]", "[64]", "[0, 0]", '["0"]', "true")),
    *(("gpus", f"per_task = {value}") for value in ("0", "65", '"all"', "true", "1.0")),
    *(("retention", f"predictions = {value}") for value in ('"Delete"', "true", "0")),
    *(("retention", f"{KEEP}\ndays = {value}") for value in ("0", "-1", '"90"', "1.5", "true", "40000")),
    ("retention", "days = 90"),
    ("retention", 'predictions = "delete"\ndays = 90'),
    *(("data", f"full_check_days = {value}") for value in ("-1", '"never"', "1.5", "true", "40000")),
    *(("release", f"{setting} = {value}") for setting in Setting for value in ('"yes"', '"never"', "true", "[]")),
    *(("downloads", f"allow_private = {value}") for value in ('"yes"', "1", "[]", '["10.0.0.0/8"]')),
    *(("engine", f"waive = {value}") for value in ('"seccomp"', "[]", '["network"]', "[1]", '["seccomp", "seccomp"]')),
    *(("engine", f'waive = ["seccomp", "{rule}"]') for rule in NEVER_WAIVED),
]


def text(section: str, lines: str) -> str:
    return f"[{section}]\n{lines}\n"


def held(policy: SitePolicy, place: str) -> Any:
    found: Any = policy
    for part in place.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize(("section", "lines", "place", "value"), GOOD)
def test_what_each_key_can_be(section: str, lines: str, place: str, value: Any) -> None:
    policy = parse_policy(text(section, lines))
    assert held(policy, place) == value
    if place != "models.accept":  # and nothing else changed
        top = place.partition(".")[0]
        assert all(
            getattr(policy, name) == getattr(SitePolicy(), name) for name in SitePolicy.__match_args__ if name != top
        )


@pytest.mark.parametrize(("section", "lines"), BAD)
def test_what_no_key_can_be(section: str, lines: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_policy(text(section, lines))
    error = caught.value
    assert error.code == "bad_policy"
    assert f"[{section}]" in error.what
    assert lines.rpartition("\n")[2].partition(" =")[0] in error.what
    assert error.fix
    assert len(str(error)) < 900


def test_the_tables_cover_every_key() -> None:
    for cases in ([(section, lines) for section, lines, *_ in GOOD], BAD):
        covered = {
            (re.sub(r"^limits\..*", "limits.TASK", section), line.partition(" =")[0])
            for section, lines in cases
            for line in lines.splitlines()
        }
        assert covered >= {(key.section, key.name) for key in KEYS}


def test_defaults() -> None:
    assert parse_policy("") == SitePolicy()
    assert SitePolicy() == SitePolicy(
        models=Models(accept=Accept.ASK, owners=frozenset(), digests=frozenset(), registries=None, forms=None),
        limits={},
        gpus=Gpus(devices=(), per_task=1),
        retention=Retention("delete", None),
        full_check_days=30,
        release=Release(Mode.ASK, Mode.ASK, Mode.ASK, Mode.ASK),
        allow_private=False,
        waive=frozenset(),
    )
    for key in KEYS:  # as they are written in the schema, and so on the page
        if key.default:
            assert parse_policy(text(key.section, f"{key.name} = {key.default}")) == SitePolicy()


@pytest.mark.parametrize(
    ("policy", "named", "possible"),
    [
        ("[model]", "'model'", "models, limits, gpus, retention, data, release, downloads, engine"),
        ("accept = 'ask'", "'accept'", "models"),
        ("[models]\nacept = 'ask'", "'acept'", "accept, owners, digests, registries, forms"),
        ("[limits.train]", "'train'", "prepare, sanity_check, statistics, infer, evaluate"),
        ("[limits]\nseconds = 3", "'seconds'", "prepare"),
        ("[limits.infer]\nmemory = 3", "'memory'", "seconds, memory_bytes, cpus, output_bytes"),
        ("[gpus]\ndevice = 3", "'device'", "devices, per_task"),
        ("[retention]\npredictons = 3", "'predictons'", "predictions, days"),
        ("[data]\ncheck = 3", "'check'", "full_check_days"),
        ("[release]\nlogs = 'automatic'", "'logs'", "metrics, statistics, registration, state"),
        ("[downloads]\nprivate = true", "'private'", "allow_private"),
        ("[engine]\nwaived = []", "'waived'", "waive"),
        ("[engine]\nwaive = ['no-network']", "no-network", "seccomp"),
        ("models = 'ask'", "models is 'ask'", "[models]"),
        ("[[models]]\naccept = 'ask'", "models is", "[models]"),
        ("limits.infer = 3", "limits.infer is 3", "[limits.infer]"),
    ],
)
def test_what_is_unknown_is_named_with_what_is_possible(policy: str, named: str, possible: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_policy(policy)
    assert caught.value.code == "bad_policy"
    assert named in caught.value.what
    assert possible in caught.value.fix


@pytest.mark.parametrize(
    "policy",
    [
        "[models",
        "accept",
        "[models]\naccept = 'ask'\naccept = 'ask'",
        "[models]\n[models]",
        "a = " + "[" * 20_000,
        "a = " + "9" * 20_000,
        "\0",
        "\ud800",
    ],
)
def test_what_is_no_toml_is_refused(policy: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_policy(policy)
    assert caught.value.code == "bad_policy"
    assert len(str(caught.value)) < 500


def test_a_large_file_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(InvalidInput, match="65,536 bytes"):
        parse_policy("# " + "x" * 100_000_000)
    assert parse_policy("#" * 65536) == SitePolicy()


# -------------------------------------------------------------------------------------------------------------- models

OFFER = ModelOffer(owner=7, digest=DIGEST, form="oci", image="ghcr.io/mlcommons/densenet@sha256:00")
YES, NO, ASK = Answer.YES, Answer.NO, Answer.ASK
OWNER, BY_DIGEST = "owners = [7]", f'digests = ["{DIGEST}"]'
LIST = 'accept = "listed"'

PRECEDENCE: list[tuple[str, bool | None, Answer]] = [
    ("", None, ASK),
    ("", True, YES),
    ("", False, NO),
    ('accept = "never"', True, NO),
    (f'accept = "never"\n{OWNER}\n{BY_DIGEST}', True, NO),
    (OWNER, None, ASK),  # lists accept only where they are asked to
    (BY_DIGEST, None, ASK),
    (f"{LIST}\n{OWNER}", None, YES),
    (f"{LIST}\n{OWNER}", False, NO),  # a person's no to this digest is nearer than an owner's name
    (f"{LIST}\n{BY_DIGEST}", None, YES),
    (f"{LIST}\n{BY_DIGEST}", False, NO),
    (f"{LIST}\nowners = [8]", None, ASK),
    (f"{LIST}\nowners = [8]", True, YES),
    (f'{LIST}\ndigests = ["{OTHER}"]', None, ASK),
    ('forms = ["sif"]', True, NO),
    (f'{LIST}\n{OWNER}\n{BY_DIGEST}\nforms = ["sif", "python"]', True, NO),
    (f'{LIST}\n{OWNER}\nforms = ["oci"]', None, YES),
    ('forms = ["oci"]', None, ASK),
    ('registries = ["docker.io"]', True, NO),
    (f'{LIST}\n{OWNER}\n{BY_DIGEST}\nregistries = ["ghcr.io/mlcommon", "docker.io"]', True, NO),
    (f'{LIST}\n{BY_DIGEST}\nregistries = ["ghcr.io/mlcommons"]', None, YES),
    ('registries = ["ghcr.io"]', None, ASK),
]


@pytest.mark.parametrize(("lines", "said", "answer"), PRECEDENCE)
def test_which_rule_speaks_first(lines: str, said: bool | None, answer: Answer) -> None:
    decision = accepts_model(parse_policy(text("models", lines)), OFFER, said=said)
    assert decision.answer is answer
    assert decision.reason.endswith(".")


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("python", "docker.io/library/python"),
        ("python:3.11", "docker.io/library/python"),
        ("mlcommons/densenet:1", "docker.io/mlcommons/densenet"),
        ("docker://mlcommons/densenet", "docker.io/mlcommons/densenet"),
        ("index.docker.io/mlcommons/densenet", "docker.io/mlcommons/densenet"),
        ("docker.io/python", "docker.io/library/python"),
        ("GHCR.IO/a/b:1@sha256:00", "ghcr.io/a/b"),
        ("localhost/a", "localhost/a"),
        ("registry:5000/a:1", "registry:5000/a"),
        ("ghcr.io", "docker.io/library/ghcr.io"),
    ],
)
def test_where_an_image_comes_from(image: str, name: str) -> None:
    assert registry_of(image) == name


@pytest.mark.parametrize(
    "image",
    [
        "evil.io/mlcommons/x",
        "ghcr.io.evil.io/mlcommons/x",
        "ghcr.io/mlcommonsevil/x",
        "ghcr.io/mlcommons/../evil/x",
        "ghcr.io:8443/mlcommons/x",
        "ghcr.io/MLCOMMONS2/x",
        "mlcommons/x",
        "ghcr.io",
        "evil.io/x@ghcr.io/mlcommons/x",
        "",
    ],
)
def test_a_registry_is_not_taken_for_another(image: str) -> None:
    policy = parse_policy(text("models", 'registries = ["ghcr.io/mlcommons"]'))
    offer = ModelOffer(owner=7, digest=DIGEST, form="oci", image=image)
    assert accepts_model(policy, offer, said=True).answer is NO


def test_what_comes_as_a_file_has_no_registry() -> None:
    policy = parse_policy(text("models", 'registries = ["ghcr.io"]'))
    assert accepts_model(policy, ModelOffer(7, DIGEST, "sif"), said=True).answer is YES


@given(st.sampled_from(Accept), st.booleans(), st.booleans(), st.booleans(), st.none() | st.booleans())
def test_no_model_runs_unless_somebody_here_named_it(
    accept: Accept, owner: bool, digest: bool, forms: bool, said: bool | None
) -> None:
    models = Models(
        accept=accept,
        owners=frozenset({7} if owner else {8}),
        digests=frozenset({DIGEST} if digest else {OTHER}),
        forms=("oci",) if forms else None,
    )
    answer = accepts_model(SitePolicy(models=models), OFFER, said=said).answer
    if answer is YES:
        assert said or (accept is Accept.LISTED and (owner or digest))
    if said is False or accept is Accept.NEVER:
        assert answer is NO


# ---------------------------------------------------------------------------------------------------------- what leaves


@pytest.mark.parametrize("exit_", list(Exit))
def test_what_goes_without_a_person(exit_: Exit) -> None:
    rule = RULES[exit_]
    asks = may_go(SitePolicy(), exit_)
    assert asks is (Mode.AUTOMATIC if rule.consent is Consent.AUTOMATIC else Mode.ASK)
    everything = SitePolicy(release=Release(*[Mode.AUTOMATIC] * 4))
    assert may_go(everything, exit_) is (Mode.ASK if rule.consent is Consent.ALWAYS_ASK else Mode.AUTOMATIC)
    for setting in Setting:
        alone = SitePolicy(release=Release(**{setting.value: Mode.AUTOMATIC}))
        expected = Mode.AUTOMATIC if rule.consent is Consent.BY_POLICY and rule.setting is setting else asks
        assert may_go(alone, exit_) is expected


def test_withdrawing_is_always_a_person_s_own() -> None:
    everything = SitePolicy(release=Release(*[Mode.AUTOMATIC] * 4))
    assert [may_go(everything, one) for one in (Exit.WITHHOLDING, Exit.RETRACTION)] == [Mode.ASK, Mode.ASK]


# --------------------------------------------------------------------------------------------------------------- limits


def test_limits_of_a_task() -> None:
    policy = parse_policy("[limits.infer]\nseconds = 7200\nmemory_bytes = 8_000_000_000\noutput_bytes = 5000\ncpus = 2")
    found = policy.limits_for("infer")
    assert (found.wall_seconds, found.memory_bytes, found.cpus) == (7200, 8_000_000_000, 2)
    assert (found.output_bytes, found.file_bytes) == (5000, 5000)
    assert found.pids == Limits().pids
    assert policy.limits_for("evaluate") == Limits()
    base = Limits(wall_seconds=5, output_bytes=77, file_bytes=66)
    assert policy.limits_for("evaluate", base=base) == base


asked = st.builds(
    TaskLimits,
    seconds=st.none() | st.floats(1, 1e6),
    memory_bytes=st.none() | st.integers(2**20, 2**40),
    cpus=st.none() | st.floats(0.1, 64),
    output_bytes=st.none() | st.integers(1024, 2**40),
)


@given(asked, asked, st.sampled_from(COMPATIBILITY_TASKS))
def test_what_is_asked_for_never_raises_the_policy_s_limits(own: TaskLimits, wish: TaskLimits, task: str) -> None:
    found = SitePolicy(limits={task: own}).limits_for(task, wish)
    for limit, most in (
        (own.seconds, found.wall_seconds),
        (own.memory_bytes, found.memory_bytes),
        (own.cpus, found.cpus),
    ):
        assert limit is None or (most is not None and most <= limit)
    for limit in (own.output_bytes, wish.output_bytes):
        assert limit is None or (found.output_bytes <= limit and found.file_bytes <= limit)
    assert wish.seconds is None or found.wall_seconds <= wish.seconds


# ------------------------------------------------------------------------------------------------------------- the page


def test_the_page_has_every_key_with_its_default_and_what_it_can_be() -> None:
    rows = re.findall(r"^\| `\[([a-zA-Z.]+)\] (\w+)` \| ([^|]*) \| ([^|]*) \|", PAGE.read_text(), flags=re.MULTILINE)
    wanted = [(key.section, key.name, f"`{key.default}`" if key.default else "", key.says) for key in KEYS]
    assert [(section, name, default.strip(), says) for section, name, default, says in rows] == wanted


def test_the_page_s_examples_are_policies() -> None:
    examples = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(examples) >= 2
    whole = [parse_policy(example) for example in examples]
    assert parse_policy(examples[0]) != SitePolicy()
    used = {match for example in examples for match in re.findall(r"^(\w+) =", example, flags=re.MULTILINE)}
    assert used >= {key.name for key in KEYS}
    assert len(whole) == len(examples)


def test_the_page_names_what_is_never_automated() -> None:
    page = PAGE.read_text()
    for name in itertools.chain(NEVER_WAIVED, (rule for rule in ConfinementPolicy.RULES if rule not in NEVER_WAIVED)):
        assert f"`{name}`" in page
    for exit_, rule in RULES.items():
        assert f"| `{exit_.value}` | {rule.says} |" in page
