"""Runs the commands in the README and docs/ unchanged and in order, in an empty folder with the command on the PATH.

Blocks marked `sh` or `python` are run, and `python croissant` by tests/croissant. Blocks that need AWS, live API keys or much time (`sh aws`, `sh live`, `sh
long`, `python aws`) are only checked: their subcommands, options and make targets must exist. The environment variable
DEFI_BIN is the folder with the command.
"""

import ast
import os
import re
import shutil
import subprocess
import textwrap
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs" / "getting-started.md"]
PAGES += sorted(path for path in (ROOT / "docs").glob("*.md") if path not in PAGES)
BLOCK = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
KINDS = {"sh", "sh aws", "sh live", "sh long", "python", "python aws", "python croissant", "json", "sql", "toml", "text", "mermaid", "graphql", ""}


def all_blocks(page):
    """Returns the code blocks of a page: the line number, the kind and the content of each."""
    text = page.read_text()
    for match in BLOCK.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, match.group(2).strip(), textwrap.dedent(match.group(3))


def blocks(page, *kinds):
    """Returns the code blocks of a page that have one of the kinds, each with its line number."""
    return [(line, content) for line, kind, content in all_blocks(page) if kind in kinds]


def missing_lines(shown, output):
    """Returns the lines of a shown output that are not in the output. Lines may be wrapped or end with `…`, and the
    seconds in the last column of a table depend on the machine."""
    output = " ".join(output.split())
    has_seconds = re.search(r" s *$", shown, re.MULTILINE) is not None
    missing = []
    for line in shown.splitlines():
        words = line.removesuffix("…").split()
        if has_seconds and words and re.fullmatch(r"[\d.]+", words[-1]):
            words.pop()
        if words and set(line.strip()) != {"─"} and " ".join(words) not in output:
            missing.append(line)
    return missing


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A folder with the files of the repository that blocks refer to."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ["docs", "infra", "shared", "tests", "Makefile", "README.md"]:
        (folder / name).symlink_to(ROOT / name)
    (folder / "target").mkdir()
    return folder


# The pages whose tools are in a virtual environment of their own, because their versions conflict.
TOOLS = {"feast.md": "feast", "dbt.md": "dbt"}


@pytest.fixture
def environment(request):
    """Environment variables with the command and Python on the PATH, and without API keys and AWS credentials."""
    kept = {name: os.environ[name] for name in ["HOME", "LANG", "LC_ALL", "TERM"] if name in os.environ}
    page = request.node.callspec.params["page"].name
    python = ROOT / ".venv" / TOOLS[page] / "bin" if page in TOOLS else Path(os.sys.executable).parent
    return {**kept, "PATH": f"{os.environ['DEFI_BIN']}:{python}:{os.environ['PATH']}"}


def test_blocks_have_known_kinds():
    for page in PAGES:
        kinds = {match.group(2).strip() for match in BLOCK.finditer(page.read_text())}
        assert kinds <= KINDS, f"{page.name}: {kinds - KINDS}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_shell_blocks_run(page, clone, environment):
    """A `text` block after a `sh` block is a part of its output."""
    if page.name == "getting-started.md":  # which begins with an empty folder
        shutil.rmtree(clone / "lakehouse", ignore_errors=True)
    output = None
    for line, kind, content in all_blocks(page):
        if kind == "sh":
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", content], cwd=clone, env=environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False,
            )  # fmt: skip
            output = done.stdout
            assert done.returncode == 0, f"{page.name}:{line}\n{content}\n{output[-4000:]}"
        elif kind == "text" and output is not None:
            assert missing_lines(content, output) == [], f"{page.name}:{line}\n{output[-4000:]}"
        else:
            output = None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page, clone, environment):
    """Runs after the shell blocks, whose output the Python blocks read. Each page has its own interpreter."""
    code = [(line, script) for line, script in blocks(page, "python")]
    if not code:
        return
    # Pad with newlines, so that line numbers in a traceback are those of the page.
    script = ""
    for line, block in code:
        script += "\n" * (line - script.count("\n")) + block
    done = subprocess.run(
        ["python", "-"], input=script, cwd=clone, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )
    assert done.returncode == 0, f"{page.name}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_other_blocks_exist(page, environment):
    for line, script in blocks(page, "sh aws", "sh live", "sh long"):
        checked = subprocess.run(["bash", "-n", "-c", script], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, f"{page.name}:{line}: {checked.stderr}"
        commands = re.sub(r"\\\n", " ", script)
        commands = re.sub(r"(^|\s)#.*$", "", commands, flags=re.MULTILINE)
        for command in re.findall(r"(?:^|[\s/;|&])defi ([a-z]+[^\n|;&>]*)", commands):
            words = command.split()
            usage = subprocess.run(["defi", words[0], "--help"], env=environment, capture_output=True, text=True, check=False)
            assert usage.returncode == 0, f"{page.name}:{line}: unknown command defi {words[0]}"
            for option in re.findall(r"(?<!\S)--[a-z-]+", command):
                assert option in usage.stdout, f"{page.name}:{line}: defi {words[0]} has no option {option}"
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        for target in re.findall(r"(?:^|[\s;])make ([a-z][a-z-]*)", commands):
            assert target in targets, f"{page.name}:{line}: unknown target make {target}"
    for line, script in blocks(page, "python aws"):
        ast.parse(script, f"{page.name}:{line}")


def test_pages_have_no_placeholders():
    for page in PAGES:
        assert not re.findall(r"@[A-Z]+@", page.read_text()), page.name


def test_no_key_is_an_argument():
    """Everyone on the machine sees the arguments of a process. A key comes from standard input or the environment."""
    for page in [*PAGES, ROOT / "infra" / "README.md", ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md"]:
        for line, script in blocks(page, *KINDS):
            for value in re.findall(r"--secret-string[ =](\S+)", script):
                assert value == "file:///dev/stdin", f"{page.name}:{line}: {value}"
            # The arguments of printf are those of no process, since it is part of the shell, and <<< is standard input.
            commands = re.sub(r"printf [^|)]*[|)]|<<< .*", "", script)
            assert not re.search(r"\$\{?\w*API_KEY", commands), f"{page.name}:{line}: {commands}"


def test_no_hint_shows_a_key_as_an_argument():
    """Nor does what the command prints, such as the hint of an error."""
    folders = ["shared", "local", "functions", "simulator", "pages", "infra"]
    files = [file for folder in folders for suffix in ("rs", "tf", "toml") for file in (ROOT / folder).rglob(f"*.{suffix}")]
    shown = {file: re.findall(r"--secret-string[ =]([^\s\"'`]*)", file.read_text()) for file in files}
    assert shown[ROOT / "shared" / "src" / "aws" / "secrets.rs"] == ["file:///dev/stdin"]
    assert {value for values in shown.values() for value in values} == {"file:///dev/stdin"}, shown


def test_steps_that_hold_a_leaked_key_are_named():
    """The steps of each key in `A leaked key` are those whose roles may read its secret."""
    roles = tomllib.loads((ROOT / "infra" / "checks" / "roles.toml").read_text())
    section = (ROOT / "docs" / "operations.md").read_text().split("\n## A leaked key\n")[1].split("\n## ")[0]
    named = {key: set(re.findall(r"`([a-z-]+)`", steps)) for key, steps in re.findall(r"^\| `([a-z]+)-api-key` \| [^|]* \| ([^|]*) \|$", section, re.M)}
    holders = {}
    for step, rights in roles.items():
        for source in ("apis", "chain"):
            for secret in rights.get(source, {}).get("read-secret", []) if isinstance(rights, dict) else []:
                holders.setdefault(secret.removeprefix("secret/"), set()).add(step)
    assert named == holders


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_link_targets_exist(page):
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
