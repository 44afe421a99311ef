"""The file of users, and what it changes on a server."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from trainer.core.errors import SettingsError
from trainer.service.accounts.apply import main, plan
from trainer.service.accounts.roles import ADMIN, ROLES, SERVE
from trainer.service.accounts.server import User
from trainer.service.accounts.users_file import Account, read_users

EXAMPLE = Path(__file__).parents[2] / "docker" / "users.example.yaml"


@dataclass
class Permission:
    resource_type: str
    permission: str


@dataclass
class Role:
    permissions: list[Permission]


@dataclass
class Server:
    """What the real one keeps, in memory."""

    known: dict[str, User] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=dict)
    known_roles: dict[str, Role] = field(default_factory=dict)
    sender: str = "admin"

    def roles(self):
        return self.known_roles

    def users(self):
        return self.known

    def write_role(self, name):
        self.known_roles[name] = Role([Permission(*grant) for grant in ROLES[name].grants.items()])

    def create(self, name, password, role):
        self.known[name], self.passwords[name] = User(name, frozenset({role}), {}), password

    def change_role(self, user, role):
        self.known[user.name] = User(user.name, frozenset({role}), self.known[user.name].personal)

    def revoke(self, permission):
        for user in self.known.values():
            user.personal.pop(permission, None)

    def change_password(self, name, password):
        self.passwords[name] = password

    def accepts(self, name, password):
        return self.passwords[name] == password

    def remove(self, name):
        del self.known[name]


@pytest.fixture
def server():
    return Server({"admin": User("admin", frozenset({ADMIN}), {})})


def account(name, role, folder, password=None):
    if password:
        (folder / name).write_text(password)
    return Account(name, role, folder / name, is_given=False)


def apply(wanted, server, **options):
    changes = list(plan(wanted, server, **options))
    for change in changes:
        change.apply()
    return [change.text for change in changes]


def write(folder, text):
    file = folder / "users.yaml"
    file.write_text(text)
    return file


def test_example_has_an_account_of_each_role_for_people(tmp_path):
    (tmp_path / "name5").write_text("written-by-a-person")

    read = read_users(write(tmp_path, re.sub("[<>]", "", EXAMPLE.read_text())), tmp_path)

    assert {one.role for one in read} == {ADMIN, *ROLES} - {SERVE}
    assert {one.name: one.password_file for one in read}["name2"] == tmp_path / "users" / "name2"


def test_example_makes_no_account_before_it_is_edited(tmp_path):
    with pytest.raises(SettingsError, match="name1"):
        read_users(EXAMPLE, tmp_path)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("ben: wrtier", "role.*wrtier.*writer"),
        ("ben: writer\nben: reader", "ben"),
        ("ben: writer\nBen: reader", "ben.*Ben"),
        ("12: writer", "12"),
        ("no: writer", "False"),
        ("a:b: writer", "a:b"),
        ('"../ben": writer', "ben"),
        ("ben:", "ben"),
        ("ben: {password_file: x}", "role"),
        ("ben: {role: writer, pasword_file: x}", "pasword_file.*password_file"),
        ("ben: {role: writer, password_file: missing}", "missing"),
        ("ben: {role: writer, password_file: weak}", "weak.*12"),
        ("ben: {role: writer, password_file: same}", "same"),
        ("- ben", "users.yaml"),
        ("", "users.yaml"),
        ("ben: [", "users.yaml"),
    ],
)
def test_bad_file_is_refused(tmp_path, text, named):
    (tmp_path / "weak").write_text("short-passw")
    (tmp_path / "same").write_text("passwordpassword")

    with pytest.raises(SettingsError, match=named) as error:
        read_users(write(tmp_path, text), tmp_path)

    assert "short-passw" not in str(error.value)


def test_new_accounts_get_passwords_that_only_their_owner_reads(tmp_path, server):
    wanted = [account("ben", "writer", tmp_path / "users"), account("dana", ADMIN, tmp_path / "users")]

    apply(wanted, server)

    files = [one.password_file for one in wanted]
    assert [file.stat().st_mode & 0o777 for file in files] == [0o600, 0o600]
    assert files[0].parent.stat().st_mode & 0o777 == 0o700
    passwords = [file.read_text().strip() for file in files]
    assert passwords == [server.passwords["ben"], server.passwords["dana"]]
    assert passwords[0] != passwords[1]
    assert len(passwords[0]) >= 32
    assert server.known["ben"].roles == {"writer"}


def test_same_file_again_changes_nothing(tmp_path, server):
    wanted = [account("ben", "writer", tmp_path)]
    apply(wanted, server)

    assert apply(wanted, server) == []


def test_password_file_of_an_interrupted_command_is_used(tmp_path, server):
    apply([account("ben", "writer", tmp_path, "made-before-the-stop")], server)

    assert server.passwords["ben"] == "made-before-the-stop"


def test_changed_password_file_is_set_on_the_server(tmp_path, server):
    wanted = [account("ben", "writer", tmp_path)]
    apply(wanted, server)
    wanted[0].password_file.write_text("another-long-password")

    apply(wanted, server)

    assert server.passwords["ben"] == "another-long-password"


def test_new_password_replaces_that_on_the_server(tmp_path, server):
    wanted = [account("ben", "writer", tmp_path, "the-first-password")]
    apply(wanted, server)

    apply(wanted, server, renewed=["ben"])

    assert server.passwords["ben"] == wanted[0].password_file.read_text().strip() != "the-first-password"


def test_lower_role_loses_what_a_creator_may_do(tmp_path, server):
    server.known["ben"] = User("ben", frozenset({"promoter"}), {1: "experiment", 2: "registered_model"})

    apply([account("ben", "writer", tmp_path)], server)
    assert server.known["ben"] == User("ben", frozenset({"writer"}), {1: "experiment"})

    apply([account("ben", "reader", tmp_path)], server)
    assert server.known["ben"] == User("ben", frozenset({"reader"}), {})


def test_unnamed_accounts_are_removed_on_request_alone(tmp_path, server):
    server.known["old"] = User("old", frozenset({"writer"}), {})

    assert any("old" in text for text in apply([account("ben", "writer", tmp_path)], server))
    assert "old" in server.known

    apply([account("ben", "writer", tmp_path)], server, removes=True)
    assert server.known.keys() == {"admin", "ben"}


def test_changed_permissions_of_a_role_are_restored(tmp_path, server):
    apply([], server)
    server.known_roles["reader"].permissions[0].permission = "MANAGE"

    assert len(apply([], server)) == 1
    assert apply([], server) == []


def test_bad_file_is_refused_before_any_call(tmp_path, capsys):
    file = write(tmp_path, "ben: wrtier")

    assert main([str(file), "--secrets", str(tmp_path)]) == 1
    assert "wrtier" in capsys.readouterr().err


def test_first_admin_is_no_account_of_the_file(tmp_path, capsys):
    file = write(tmp_path, "admin: reader")

    assert main([str(file), "--secrets", str(tmp_path)]) == 1
    assert "SERVICE_ADMIN" in capsys.readouterr().err
