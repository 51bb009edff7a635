"""Installs the wheel of the command into a new virtual environment, and follows the README with it.

The environment variable DEFI_WHEELS is the folder with the wheel.
"""

import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "docs"))

from test_docs import blocks  # noqa: E402 (needs the path above)

VERSION = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]


@pytest.fixture(scope="module")
def wheel():
    found = list(Path(os.environ["DEFI_WHEELS"]).glob("*.whl"))
    assert len(found) == 1, found
    return found[0]


@pytest.fixture(scope="module")
def scripts(wheel, tmp_path_factory):
    """The bin folder of a new environment with the wheel. pip finds nothing but the wheel: it needs no other package."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    install = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-index", wheel]
    subprocess.run(install, check=True, timeout=300)
    return folder / "bin"


def test_wheel_is_of_this_version_and_platform(wheel):
    name, version, python, abi, platform = wheel.stem.split("-")
    assert (name, version, python, abi) == ("defi_features", VERSION, "py3", "none")
    # Not `linux`, which says nothing of the C library that the executable needs.
    assert re.match(r"(manylinux|macosx)_", platform), platform


def test_wheel_has_the_executable_and_its_licence_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name.removeprefix(f"defi_features-{VERSION}") for name in archive.namelist()}
        metadata = archive.read(f"defi_features-{VERSION}.dist-info/METADATA").decode()
    expected = {".data/scripts/defi", ".dist-info/METADATA", ".dist-info/WHEEL", ".dist-info/RECORD"}
    assert {name for name in names if not name.startswith(".dist-info/licenses/") and "/sboms/" not in name} == expected
    assert ".dist-info/licenses/LICENSE" in names
    headers = HeaderParser().parsestr(metadata)
    assert (headers["Name"], headers["Version"], headers["License-Expression"]) == ("defi-features", VERSION, "BSD-3-Clause")
    assert "Requires-Dist" not in headers


def test_readme_works_with_the_installed_command(scripts, tmp_path):
    """As a new user: only the environment's folder and the system's are on the PATH, and the folder is empty."""
    environment = {"HOME": str(tmp_path), "PATH": f"{scripts}:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    run = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "timeout": 300}
    version = subprocess.run(["defi", "--version"], **run, check=True).stdout
    assert version.strip() == f"defi {VERSION}"
    scripts_of_readme = blocks(ROOT / "README.md", "sh")
    assert scripts_of_readme
    for line, script in scripts_of_readme:
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], **run, stdin=subprocess.DEVNULL, check=False)
        assert done.returncode == 0, f"README.md:{line}\n{script}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert list((tmp_path / "lakehouse").rglob("*.parquet"))
