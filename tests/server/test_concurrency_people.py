"""Two at once, about accounts and organisations: every order, on both databases. See `orders.Theatre`."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import PASSWORD, Person
from .orders import Outcome, Scene, Theatre
from .test_concurrency import STALE, either, rows

ENDED, DISABLED, LAST = "401 token_revoked", "401 account_disabled", "409 last_manager"
NEW = "another long password"


def organisation(house: Theatre, *people: Person) -> int:
    """One that all of ``people`` manage; the first made it."""
    made = int(people[0].post("/organisations", {"name": house.name("Org")}).json()["id"])
    for person in people[1:]:
        answered = person.post(f"/invitations/{invite(people[0], made, person)}/answer", {"accept": True})
        assert answered.status_code == 200, answered.text
    return made


def invite(manager: Person, where: int, person: Person, *rights: str) -> int:
    body = {"username": person.name, "rights": rights or ["manage", "operate"]}
    return int(manager.post(f"/organisations/{where}/invitations", body).json()["id"])


def managers(house: Theatre, where: int) -> int:
    """Members that may manage and whose accounts are active."""
    query = """SELECT count(*) FROM memberships JOIN users ON users.id = user_id
        WHERE memberships.party_id = ? AND can_manage AND is_active"""
    return int(rows(house, query, where))


def cube(house: Theatre, person: Person, **fields: Any) -> Any:
    """A request of that account that changes something."""
    return house.post(person, "/mlcubes", person.cube_body("model", name=house.name(), upload=False, **fields))


# --------------------------------------------------------------------------------------------------------------- managers


def leave(house: Theatre, where: int, person: Person, _other: Person) -> Any:
    return house.delete(person, f"/organisations/{where}/members/{person.id}")


def give_up(house: Theatre, where: int, person: Person, _other: Person) -> Any:
    return house.ask(person, "PATCH", f"/organisations/{where}/members/{person.id}", {"rights": ["release"]})


def be_removed(house: Theatre, where: int, person: Person, other: Person) -> Any:
    return house.delete(other, f"/organisations/{where}/members/{person.id}")


def be_disabled(house: Theatre, _where: int, person: Person, _other: Person) -> Any:
    return house.ask(house.world.admin, "PATCH", f"/users/{person.id}", {"is_active": False})


WAYS = {
    leave: ("204", "member.left"),
    give_up: ("200", "member.rights_changed"),
    be_disabled: ("200", "user.disabled"),
    be_removed: ("204", "member.removed"),
}
PAIRS = [
    (leave, leave),
    (give_up, give_up),
    (leave, give_up),
    (be_disabled, be_disabled),
    (leave, be_disabled),
    (be_removed, be_removed),
]


@pytest.mark.parametrize("ways", PAIRS, ids=lambda ways: " and ".join(way.__name__ for way in ways))
def test_the_last_two_managers(house: Theatre, ways: Any) -> None:
    def prepare() -> Scene:
        one, two = house.person(), house.person()
        where = organisation(house, one, two)

        def holds(_: Outcome) -> None:
            assert managers(house, where) == 1

        first, second = ways
        return Scene({"one": first(house, where, one, two), "two": second(house, where, two, one)}, holds)

    (won, event), (other_won, other_event) = WAYS[ways[0]], WAYS[ways[1]]
    lost = "404 no_such_organisation" if be_removed in ways else LAST
    outcomes = {(won, lost): [event], (lost, other_won): [other_event]}
    house.all_orders(prepare, outcomes)


def test_a_manager_is_made_disabled_and_left_alone(house: Theatre) -> None:
    """One makes another a manager and leaves, while that one is disabled."""

    def prepare() -> Scene:
        one, two = house.person(), house.person()
        where = organisation(house, one)
        answer = two.post(f"/invitations/{invite(one, where, two, 'operate')}/answer", {"accept": True})
        assert answer.status_code == 200
        path = f"/organisations/{where}/members"
        promotes = house.ask(one, "PATCH", f"{path}/{two.id}", {"rights": ["manage"]})
        leaves = house.delete(one, f"{path}/{one.id}")

        async def promotes_and_leaves() -> str:
            return f"{(await promotes()).status_code}{(await leaves()).status_code}"

        def holds(_: Outcome) -> None:
            assert managers(house, where) == 1

        return Scene({"one": promotes_and_leaves, "admin": be_disabled(house, where, two, one)}, holds)

    promoted, disabled, left = "member.rights_changed", "user.disabled", "member.left"
    outcomes = {("200204", LAST): [promoted, left], ("200409", "200"): [promoted, disabled]}
    house.all_orders(prepare, outcomes)


# ------------------------------------------------------------------------------------------------------------ invitations


@pytest.mark.parametrize("other", ["accepts", "declines", "cancels"])
def test_an_invitation_is_accepted_and(house: Theatre, other: str) -> None:
    manager = house.person()
    where = organisation(house, manager)

    def prepare() -> Scene:
        guest = house.person()
        number = invite(manager, where, guest)

        def holds(outcome: Outcome) -> None:
            count = rows(house, "SELECT count(*) FROM memberships WHERE party_id = ? AND user_id = ?", where, guest.id)
            assert count == (outcome[0] == "200" or other == "accepts")

        second = {
            "accepts": house.post(guest, f"/invitations/{number}/answer", {"accept": True}),
            "declines": house.post(guest, f"/invitations/{number}/answer", {"accept": False}),
            "cancels": house.delete(manager, f"/organisations/{where}/invitations/{number}"),
        }[other]
        return Scene(
            {"accepts": house.post(guest, f"/invitations/{number}/answer", {"accept": True}), "other": second}, holds
        )

    gone, won = "404 no_such_invitation", "204" if other == "cancels" else "200"
    event = {"accepts": "accepted", "declines": "declined", "cancels": "cancelled"}[other]
    house.all_orders(prepare, {("200", gone): ["invitation.accepted"], (gone, won): [f"invitation.{event}"]})


def test_an_invitation_is_accepted_and_its_sender_goes(house: Theatre) -> None:
    """With who manages no longer go their invitations."""

    def prepare() -> Scene:
        boss, sender, guest = house.person(), house.person(), house.person()
        where = organisation(house, boss, sender)
        accepts = house.post(guest, f"/invitations/{invite(sender, where, guest)}/answer", {"accept": True})
        return Scene({"accepts": accepts, "removes": be_removed(house, where, sender, boss)})

    both = ["invitation.accepted", "member.removed"]
    house.all_orders(prepare, {("200", "204"): both, ("404 no_such_invitation", "204"): both[1:]})


def test_two_invitations_of_one_name(house: Theatre) -> None:
    manager = house.person()
    where = organisation(house, manager)

    def prepare() -> Scene:
        body = {"username": house.name("guest"), "rights": ["operate"]}
        return Scene(
            {who: house.post(manager, f"/organisations/{where}/invitations", body) for who in "AB"}, alike=True
        )

    house.all_orders(prepare, either("201", "409 already_invited", "invitation.created"))


def test_a_member_is_removed_and_works(house: Theatre) -> None:
    """What was begun with the right is done before the right goes, or not at all."""
    manager = house.person()
    where = organisation(house, manager)

    def prepare() -> Scene:
        member = house.person()
        member.post(f"/invitations/{invite(manager, where, member)}/answer", {"accept": True})
        return Scene({"works": cube(house, member, owner=where), "removes": be_removed(house, where, member, manager)})

    both = ["mlcube.created", "member.removed"]
    house.all_orders(prepare, {("201", "204"): both, ("400 unknown_owner", "204"): both[1:]})


def test_two_renames_of_one_version(house: Theatre) -> None:
    manager = house.person()

    def prepare() -> Scene:
        path = f"/organisations/{organisation(house, manager)}"
        return Scene({who: house.edit(manager, path, {"name": house.name("New")}) for who in "AB"}, alike=True)

    house.all_orders(prepare, either("200", STALE, "organisation.renamed"))


def test_an_organisation_is_renamed_and_made(house: Theatre) -> None:
    one, two = house.person(), house.person()

    def prepare() -> Scene:
        wanted = {"name": house.name("Wanted")}
        renames = house.edit(one, f"/organisations/{organisation(house, one)}", wanted)
        return Scene({"renames": renames, "makes": house.post(two, "/organisations", wanted)})

    taken = "409 name_taken"
    house.all_orders(prepare, {("200", taken): ["organisation.renamed"], (taken, "201"): ["organisation.created"]})


# --------------------------------------------------------------------------------------------------------------- accounts


def disable(house: Theatre, admin: Person, person: Person) -> Any:
    return house.ask(admin, "PATCH", f"/users/{person.id}", {"is_active": False})


def test_two_admins_disable_each_other(house: Theatre) -> None:
    def prepare() -> Scene:
        one, two = house.person(admin=True), house.person(admin=True)
        return Scene({"one": disable(house, one, two), "two": disable(house, two, one)})

    house.all_orders(
        prepare,
        either("200", ENDED, "user.disabled"),
    )


def test_an_admin_is_disabled_and_makes_an_account(house: Theatre) -> None:
    def prepare() -> Scene:
        admin = house.person(admin=True)
        makes = house.post(admin, "/users", {"username": house.name("new"), "password": PASSWORD})
        return Scene({"makes": makes, "disables": disable(house, house.world.admin, admin)})

    both = ["user.created", "user.disabled"]
    house.all_orders(prepare, {("201", "200"): both, (ENDED, "200"): both[1:]})


@pytest.mark.parametrize("what", ["registers", "changes its password", "makes an organisation", "logs out"])
def test_an_account_is_disabled_and(house: Theatre, what: str) -> None:
    def prepare() -> Scene:
        person = house.person()
        works = {
            "registers": lambda: cube(house, person),
            "changes its password": lambda: house.post(person, "/me/password", {"current": PASSWORD, "new": NEW}),
            "makes an organisation": lambda: house.post(person, "/organisations", {"name": house.name("Org")}),
            "logs out": lambda: house.delete(person, "/tokens/current"),
        }

        def holds(outcome: Outcome) -> None:
            if outcome[1] != "200":
                return
            assert person.get("/me").status_code == 401
            live = "SELECT count(*) FROM tokens WHERE user_id = ? AND revoked_at IS NULL"
            assert rows(house, live, person.id) == 0

        return Scene({"works": works[what](), "disables": disable(house, house.world.admin, person)}, holds)

    events = {
        "registers": "mlcube.created",
        "changes its password": "user.password_changed",
        "makes an organisation": "organisation.created",
        "logs out": "token.revoked",
    }
    done = "201" if what in ("registers", "makes an organisation") else "204"
    both = [events[what], "user.disabled"]
    # with an organisation of its own it is its last manager
    first = {(done, LAST): both[:1]} if "organisation" in what else {(done, "200"): both}
    house.all_orders(prepare, {**first, (ENDED, "200"): both[1:]})


def login(house: Theatre, name: str, password: str) -> Any:
    return house.post(Person(house.world.client, "", 0, 0, ""), "/tokens", {"username": name, "password": password})


def test_an_account_is_disabled_and_logs_in(house: Theatre) -> None:
    """No login outlives it."""

    def prepare() -> Scene:
        person = house.person()

        def holds(_: Outcome) -> None:
            live = "SELECT count(*) FROM tokens WHERE user_id = ? AND revoked_at IS NULL"
            assert rows(house, live, person.id) == 0

        works = {"logs in": login(house, person.name, PASSWORD), "disables": disable(house, house.world.admin, person)}
        return Scene(works, holds)

    both = ["token.created", "user.disabled"]
    house.all_orders(prepare, {("201", "200"): both, (DISABLED, "200"): both[1:]})


def test_a_password_is_changed_and_used(house: Theatre) -> None:
    """No login by the old password outlives it."""

    def prepare() -> Scene:
        person = house.person()

        def holds(_: Outcome) -> None:
            live = "SELECT count(*) FROM tokens WHERE user_id = ? AND revoked_at IS NULL"
            assert rows(house, live, person.id) == 1  # the one that changed it

        changes = house.post(person, "/me/password", {"current": PASSWORD, "new": NEW})
        return Scene({"logs in": login(house, person.name, PASSWORD), "changes": changes}, holds)

    both = ["token.created", "user.password_changed"]
    house.all_orders(prepare, {("201", "204"): both, ("401 bad_login", "204"): both[1:]})


@pytest.mark.parametrize("same", [True, False], ids=["one login", "two logins"])
def test_two_changes_of_one_password(house: Theatre, same: bool) -> None:
    """The second does not know the password that it is by then."""

    def prepare() -> Scene:
        person = house.person()
        logins = [person, person if same else house.world.login(person.name, PASSWORD)]
        wanted = [f"{NEW} {i}" for i in range(2)]

        def holds(outcome: Outcome) -> None:
            kept = wanted[outcome.index("204")]
            assert house.world.login(person.name, kept)

        works = {
            str(i): house.post(logins[i], "/me/password", {"current": PASSWORD, "new": wanted[i]}) for i in range(2)
        }
        return Scene(works, holds)

    changed = "user.password_changed"
    wrong = either("204", "401 bad_login", changed)
    house.all_orders(prepare, wrong if same else either("204", ENDED, changed), between=wrong)


@pytest.mark.parametrize("what", ["logs out", "changes its password elsewhere"])
def test_a_login_ends_and_works(house: Theatre, what: str) -> None:
    def prepare() -> Scene:
        person = house.person()
        other = house.world.login(person.name, PASSWORD)
        ends = (
            house.delete(person, "/tokens/current")
            if what == "logs out"
            else house.post(other, "/me/password", {"current": PASSWORD, "new": NEW})
        )

        def holds(outcome: Outcome) -> None:
            """Nothing is done with a login after its end, as the audit trail tells it."""
            if outcome[0] == "201":
                end = "token.revoked" if what == "logs out" else "user.password_changed"
                query = "SELECT max(id) FROM audit_events WHERE actor_id = ? AND action = ?"
                assert rows(house, query, person.id, "mlcube.created") < rows(house, query, person.id, end)

        return Scene({"works": cube(house, person), "ends": ends}, holds)

    both = ["mlcube.created", "token.revoked" if what == "logs out" else "user.password_changed"]
    house.all_orders(prepare, {("201", "204"): both, (ENDED, "204"): both[1:]})


def test_two_ends_of_one_login(house: Theatre) -> None:
    def prepare() -> Scene:
        person = house.person()
        return Scene({who: house.delete(person, "/tokens/current") for who in "AB"}, alike=True)

    house.all_orders(prepare, either("204", ENDED, "token.revoked"))


@pytest.mark.parametrize("what", ["enables", "erases", "invites"])
def test_an_account_is_erased_and_another_admin(house: Theatre, what: str) -> None:
    second, manager = house.person(admin=True), house.person()
    where = organisation(house, manager)

    def prepare() -> Scene:
        person = house.person()
        assert house.world.admin.patch(f"/users/{person.id}", {"is_active": False}).status_code == 200
        works = {
            "enables": lambda: house.ask(second, "PATCH", f"/users/{person.id}", {"is_active": True}),
            "erases": lambda: house.delete(second, f"/users/{person.id}/personal"),
            "invites": lambda: house.post(
                manager, f"/organisations/{where}/invitations", {"username": person.name, "rights": ["operate"]}
            ),
        }

        def holds(outcome: Outcome) -> None:
            erased = outcome[0] == "200"
            kept = rows(house, "SELECT count(*) FROM audit_personal WHERE subject_id = ?", person.id)
            assert (kept == 0) == erased
            assert (rows(house, "SELECT username FROM users WHERE id = ?", person.id) == person.name) == (not erased)

        return Scene(
            {"erases": house.delete(house.world.admin, f"/users/{person.id}/personal"), "other": works[what]()}, holds
        )

    erased = "user.erased"
    house.all_orders(
        prepare,
        {
            "enables": {("200", "409 account_erased"): [erased], ("409 still_active", "200"): ["user.enabled"]},
            "erases": {("200", "200"): [erased]},
            "invites": {("200", "201"): [erased, "invitation.created"]},
        }[what],
    )
