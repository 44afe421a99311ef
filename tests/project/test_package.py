"""`pip install -e .`, and the files of a built wheel."""

import shutil
import subprocess
import sys
import zipfile

import pytest

_PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
_LOCAL = ["--no-deps", "--no-build-isolation"]
PACKAGES = ("trainer", "tuning", "registry")


@pytest.fixture
def copy(root, tmp_path):
    """A copy of the packages, where setuptools may write, and the names of their files."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *PACKAGES]
    names = subprocess.run(listed, cwd=root, capture_output=True, text=True, check=True).stdout.splitlines()
    names = [name for name in names if (root / name).is_file()]
    for name in (*names, "pyproject.toml", "README.md", "LICENSE"):
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, tmp_path / "copy" / name)
    return tmp_path / "copy", names


def test_an_editable_install_imports_the_packages_from_anywhere(copy, tmp_path):
    folder, _ = copy
    target = tmp_path / "site"
    subprocess.run([*_PIP, "install", *_LOCAL, "--target", target, "-e", folder], check=True)
    program = f"import site; site.addsitedir({str(target)!r}); import {', '.join(PACKAGES)}; print(trainer.__file__)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(folder / "trainer" / "__init__.py")


def test_a_wheel_contains_every_file_of_the_packages(copy, tmp_path):
    folder, names = copy
    subprocess.run([*_PIP, "wheel", *_LOCAL, "--wheel-dir", tmp_path, folder], check=True)
    (wheel,) = tmp_path.glob("emotions-*.whl")
    contained = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert contained == set(names)
