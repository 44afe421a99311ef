"""Install the programs of the service that are no Python packages, where they are missing.

`python -m trainer.service.native.install` for the service, with `--tests` for its tests too.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from trainer.core.errors import EmotionsError, SettingsError
from trainer.service.native import edge, postgres

__all__ = ["install", "main", "missing_packages"]


def missing_packages(*, tests: bool) -> list[str]:
    """Return the Debian packages of the programs that are not on this machine."""
    needed: dict[str, Callable[[], object]] = {
        "postgresql": lambda: postgres.programs(Path("none")),
        "nginx-light": edge.program,
    }
    missing = [package for package, find in needed.items() if not _is_found(find)]
    return missing + (["chromium"] if tests and not shutil.which("chromium") else [])


def install(packages: Sequence[str]) -> None:
    """Install Debian packages. Raises SettingsError without apt or the permission to use it."""
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    if not shutil.which("apt-get"):
        raise SettingsError(
            f"{', '.join(packages)} must be installed, and this machine has no apt-get. Install the same programs with "
            "its own package manager."
        )
    sudo = _sudo()
    if sudo is None:
        raise SettingsError(
            f"{', '.join(packages)} must be installed, and you have no permission to do so. Ask an administrator to "
            f"run: {' '.join(command)}"
        )
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run([*sudo, "apt-get", "update", "-qq"], env=quiet, check=False)  # the package lists may do as they are
    done = subprocess.run([*sudo, "env", "DEBIAN_FRONTEND=noninteractive", *command], env=quiet, check=False)
    if done.returncode:
        raise EmotionsError(f"apt-get could not install {', '.join(packages)}: see its message above.")
    if Path("/run/systemd/system").exists():
        print("Debian may have started servers of its own, which this service does not use. To stop them:")
        print("  sudo systemctl disable --now nginx postgresql")


def _is_found(find: Callable[[], object]) -> bool:
    try:
        find()
    except SettingsError:
        return False
    return True


def _sudo() -> list[str] | None:
    """Return the words in front of a command that root runs; None without that right."""
    if os.geteuid() == 0:
        return []
    if not shutil.which("sudo"):
        return None
    if sys.stdin.isatty():  # sudo may ask for a password
        return ["sudo"]
    return ["sudo", "-n"] if subprocess.run(["sudo", "-n", "true"], check=False).returncode == 0 else None


def main() -> int:
    """Install what is missing; 1 when that is not possible."""
    parser = argparse.ArgumentParser(prog="python -m trainer.service.native.install", description=main.__doc__)
    parser.add_argument("--tests", action="store_true", help="also what the tests of the service need")
    missing = missing_packages(tests=parser.parse_args().tests)
    try:
        if missing:
            install(missing)
    except EmotionsError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
