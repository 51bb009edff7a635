"""The supply chain: what the checks and the make targets do if something is missing."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
LOCKED = sorted(path.with_suffix(".txt") for folder in ("tests", "infra", "bench") for path in (REPOSITORY / folder).rglob("requirements.in"))


class Scripts(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def run_with(self, command: str, fake: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
        """Runs a script with a fake command on the path."""
        path = self.folder / command
        path.write_text(f"#!/bin/sh\n{fake}\n")
        path.chmod(0o755)
        environment = {"PATH": f"{self.folder}:{os.environ['PATH']}", **variables}
        return subprocess.run([REPOSITORY / "checks" / arguments[0], *arguments[1:]], env=environment, capture_output=True, text=True)

    def test_advisories_that_can_not_be_checked_fail_only_where_they_are_required(self):
        unreachable = '[ "$2" != fetch ] || exit 1; echo "checked $*"'
        arguments = ("advisories", "cargo-deny", "--locked")
        result = self.run_with("cargo-deny", unreachable, *arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stdout.splitlines()[-1], "advisories: not checked, because the database is unreachable")
        result = self.run_with("cargo-deny", unreachable, *arguments, DEFI_REQUIRE_ADVISORIES="1")
        self.assertEqual(result.returncode, 1)
        self.assertIn("DEFI_REQUIRE_ADVISORIES", result.stderr)

    def test_advisories_are_checked_with_the_database(self):
        for outcome in (0, 1):
            result = self.run_with("cargo-deny", f'[ "$2" = fetch ] || exit {outcome}', "advisories", "cargo-deny", "--locked")
            self.assertEqual(result.returncode, outcome)

    def test_apt_get_is_announced(self):
        result = self.run_with("apt-get", 'echo "apt-get $*" >&2; [ "$2" = update ] || echo output', "apt-install", "chromium")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stdout, "^chromium is not installed: installing it with apt-get")
        self.assertIn("install chromium", result.stderr)
        calls = re.findall(r"^\t.*apt-get.*$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
        self.assertEqual(calls, [], "call checks/apt-install instead")


class Workflow(unittest.TestCase):
    def test_public_workflow_requires_the_advisories_and_pins_the_compiler(self):
        workflow = (REPOSITORY / ".github" / "workflows" / "ci.yml").read_text()
        self.assertRegex(workflow, r'DEFI_REQUIRE_ADVISORIES: "?\w')
        self.assertRegex(workflow, r"RUST_VERSION: \d+\.\d+\.\d+")
        self.assertRegex(workflow, r"terraform_version: \d+\.\d+\.\d+")

    def test_actions_are_fixed_by_the_hash_of_their_commit(self):
        files = sorted((REPOSITORY / ".github" / "workflows").iterdir())
        used = [action for file in files for action in re.findall(r"uses: *(.*)", file.read_text())]
        self.assertTrue(used)
        for action in used:
            self.assertRegex(action, r"^[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")


class Requirements(unittest.TestCase):
    def test_every_python_package_has_a_version_and_hashes(self):
        self.assertGreaterEqual(len(LOCKED), 6)
        for path in LOCKED:
            text = path.read_text()
            entries = re.split(r"\n(?=[a-zA-Z0-9])", re.sub(r"(?m)^ *#.*\n?", "", text))
            for entry in entries:
                self.assertRegex(entry, r"^[A-Za-z0-9._-]+(\[[a-z,]+\])?==[^ ]+ (; .*)?\\\n", path)
                self.assertRegex(entry, r"--hash=sha256:[0-9a-f]{64}", path)
            self.assertNotIn("://", text, f"{path} names an index")

    def test_requirements_are_those_of_the_input(self):
        for path in LOCKED:
            asked = re.findall(r"(?m)^[^#\n]+", path.with_suffix(".in").read_text())
            locked = {re.sub(r"[-_.]+", "-", name).lower(): number for name, number in re.findall(r"(?m)^([A-Za-z0-9._-]+)(?:\[.*\])?==([^ ]+)", path.read_text())}
            for line in asked:
                name, _, number = line.partition("==")
                self.assertEqual(locked[re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower()], number, path)

    def test_packages_are_installed_with_hashes_and_never_built(self):
        makefile = (REPOSITORY / "Makefile").read_text()
        installs = re.findall(r"^\t.*pip .*install.*$", makefile, re.MULTILINE)
        self.assertTrue(installs)
        for install in installs:
            self.assertIn("--require-hashes --only-binary :all:", install)

    def test_npm_packages_run_no_scripts(self):
        for file, number in (("Makefile", 2), ("infra/checks/run", 1)):
            installs = re.findall(r"npm (?:ci|install)\b.*", (REPOSITORY / file).read_text())
            self.assertEqual(len(installs), number, installs)
            for install in installs:
                self.assertIn(" --ignore-scripts ", install)


if __name__ == "__main__":
    unittest.main()
