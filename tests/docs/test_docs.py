"""Every command that the README and docs/ show is run as it stands there, in order, by a new user: with an empty folder and the
command on the PATH.

A block marked `sh` or `python` is run. One that needs AWS, live keys or long (`sh aws`, `sh live`, `sh long`, `python aws`) is held
to what the command and the Makefile know: its subcommands, options and targets. The folder with the command is in the environment
variable DEFI_BIN.
"""

import ast
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs" / "getting-started.md"]
PAGES += sorted(path for path in (ROOT / "docs").glob("*.md") if path not in PAGES)
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KINDS = {"sh", "sh aws", "sh live", "sh long", "python", "python aws", "json", "sql", "toml", "text", "mermaid", "graphql", ""}


def blocks(page, *kinds):
    """The blocks of a page of some kinds, with the lines that they begin in."""
    text = page.read_text()
    found = [(match, match.group(1).strip()) for match in BLOCK.finditer(text)]
    return [(text.count("\n", 0, match.start()) + 1, match.group(2)) for match, kind in found if kind in kinds]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what a clone has and blocks name."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ["docs", "infra", "shared", "tests", "Makefile", "README.md"]:
        (folder / name).symlink_to(ROOT / name)
    (folder / "target").mkdir()
    return folder


@pytest.fixture(scope="module")
def environment():
    """The user's environment: the command, Python, no keys and no AWS."""
    kept = {name: os.environ[name] for name in ["HOME", "LANG", "LC_ALL", "TERM"] if name in os.environ}
    python = Path(os.sys.executable).parent
    return {**kept, "PATH": f"{os.environ['DEFI_BIN']}:{python}:{os.environ['PATH']}"}


def test_every_block_is_of_a_known_kind():
    for page in PAGES:
        kinds = {match.group(1).strip() for match in BLOCK.finditer(page.read_text())}
        assert kinds <= KINDS, f"{page.name}: {kinds - KINDS}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands(page, place, environment):
    for line, script in blocks(page, "sh"):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=place, env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=300, check=False,
        )
        assert done.returncode == 0, f"{page.name}:{line}\n{script}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python(page, place, environment, monkeypatch):
    """After the commands, since it reads what they made; of each page in an interpreter of its own."""
    code = [(line, script) for line, script in blocks(page, "python")]
    if not code:
        return
    # Line numbers in a traceback are the page's.
    script = ""
    for line, block in code:
        script += "\n" * (line - script.count("\n")) + block
    done = subprocess.run(
        ["python", "-"], input=script, cwd=place, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )
    assert done.returncode == 0, f"{page.name}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_not_run_is_known(page, environment):
    for line, script in blocks(page, "sh aws", "sh live", "sh long"):
        checked = subprocess.run(["bash", "-n", "-c", script], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, f"{page.name}:{line}: {checked.stderr}"
        commands = re.sub(r"\\\n", " ", script)
        commands = re.sub(r"(^|\s)#.*$", "", commands, flags=re.MULTILINE)
        for command in re.findall(r"(?:^|[\s/;|&])defi ([a-z]+[^\n|;&>]*)", commands):
            words = command.split()
            known = subprocess.run(["defi", words[0], "--help"], env=environment, capture_output=True, text=True, check=False)
            assert known.returncode == 0, f"{page.name}:{line}: there is no defi {words[0]}"
            for option in re.findall(r"(?<!\S)--[a-z-]+", command):
                assert option in known.stdout, f"{page.name}:{line}: defi {words[0]} has no {option}"
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        for target in re.findall(r"(?:^|[\s;])make ([a-z][a-z-]*)", commands):
            assert target in targets, f"{page.name}:{line}: there is no make {target}"
    for line, script in blocks(page, "python aws"):
        ast.parse(script, f"{page.name}:{line}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = BLOCK.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        other = (page.parent / name) if name else page
        assert other.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", other.read_text()), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{page.name}: {target}"
