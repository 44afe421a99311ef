import pytest

from trainer.service.backups import backup, clean_up, restore, verify


@pytest.fixture
def secrets(tmp_path):
    """A folder of secrets of a service that does not run."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    for name in ("s3_access_key", "s3_secret_key", "pgpass"):
        (folder / name).write_text("value\n")
        (folder / name).chmod(0o600)
    return folder


@pytest.mark.parametrize("command", [backup, restore, verify, clean_up])
def test_service_that_never_began_is_named(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SERVICE_FOLDER", str(tmp_path / "nothing"))

    assert command.main([]) == 1
    assert f"{tmp_path}/nothing/secrets" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [backup, clean_up])
def test_service_that_does_not_run_is_named(command, secrets, tmp_path, capsys):
    where = ["--secrets", str(secrets), "--database", "127.0.0.1:1", "--s3", "127.0.0.1:1"]

    assert command.main([*where, "--backups", str(tmp_path / "backups")]) == 1
    said = capsys.readouterr().err
    assert "127.0.0.1:1" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("words", [["--days", "-1"], ["--silent-hours", "nan"]])
def test_wrong_limit_is_named(words, secrets, tmp_path, capsys):
    where = ["--secrets", str(secrets), "--backups", str(tmp_path)]

    assert clean_up.main([*where, *words]) == 1
    assert f"`{words[0].removeprefix('--')}`" in capsys.readouterr().err


@pytest.mark.parametrize("command", [restore, verify])
def test_backup_that_does_not_exist_is_named(command, secrets, tmp_path, capsys):
    where = ["--secrets", str(secrets), "--backups", str(tmp_path / "backups")]

    assert command.main(where) == 1
    assert "backup.sh" in capsys.readouterr().err
    assert command.main([*where, "2026-01-01T00-00-00Z"]) == 1
    assert "2026-01-01T00-00-00Z" in capsys.readouterr().err
