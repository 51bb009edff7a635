"""infra/terraform-init installs no other provider than that of the lock file, and searches no folder for it."""

import os
import pwd
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

INFRA = Path(__file__).parents[1]
FIXED_MIRROR = "/opt/tf-plugins"
PROVIDER = "registry.terraform.io/hashicorp/aws/5.100.0/linux_amd64/terraform-provider-aws_v5.100.0_x5"

# Prints its arguments and the CLI configuration instead of running Terraform.
FAKE_TERRAFORM = """#!/bin/sh
echo "arguments: $*"
[ -z "$TF_CLI_CONFIG_FILE" ] || cat "$TF_CLI_CONFIG_FILE"
"""


def run(command: list, environment: dict) -> subprocess.CompletedProcess:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


class TerraformInit(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        for name in ("bin", "home", "infra"):
            (self.folder / name).mkdir()
        self.executable(self.folder / "bin" / "terraform", FAKE_TERRAFORM)

    def executable(self, path: Path, content: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(0o755)

    def plant(self, folder: Path) -> Path:
        """Creates a folder that looks like a mirror of the provider."""
        self.executable(folder / PROVIDER, "#!/bin/sh\n")
        return folder

    def init(self, fixed_mirror: str = "/nonexistent", **variables: str | None) -> subprocess.CompletedProcess:
        """Runs a copy of the script with another fixed folder."""
        script = (INFRA / "terraform-init").read_text()
        self.assertIn(FIXED_MIRROR, script)
        self.executable(self.folder / "terraform-init", script.replace(FIXED_MIRROR, fixed_mirror))
        path = {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}
        environment = {**path, "HOME": str(self.folder / "home"), **variables}
        environment = {name: value for name, value in environment.items() if value is not None}
        return run([self.folder / "terraform-init", self.folder / "infra"], environment)

    def test_planted_provider_is_not_found(self):
        mirrors = [self.plant(self.folder / "home" / "plugins"), self.plant(self.folder / "infra" / "plugins")]
        result = self.init()
        self.assertEqual(result.returncode, 0, result.stderr)
        for mirror in mirrors:
            self.assertNotIn(str(mirror), result.stdout)
        self.assertNotIn("filesystem_mirror", result.stdout)

    def test_terraform_searches_no_folder_of_its_own(self):
        # With provider_installation, Terraform leaves out the folders that it searches by default.
        home = Path(pwd.getpwuid(os.getuid()).pw_dir)
        without_home = [] if (home / ".terraformrc").exists() else [{"HOME": None}, {"HOME": ""}]
        for variables in ({}, *without_home):
            result = self.init(**variables)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn("provider_installation {\n  direct {}\n}", result.stdout)

    def test_configuration_of_the_user_counts_instead(self):
        (self.folder / "home" / ".terraformrc").write_text("")
        result = self.init(DEFI_TERRAFORM_MIRROR=str(self.folder))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertNotIn("provider_installation", result.stdout)

    def test_mirror_of_the_variable_is_used(self):
        mirror = self.plant(self.folder / "mirror")
        result = self.init(DEFI_TERRAFORM_MIRROR=str(mirror))
        self.assertIn(f'path    = "{mirror}"', result.stdout)
        result = self.init(DEFI_TERRAFORM_MIRROR=str(self.folder / "none"))
        self.assertEqual(result.returncode, 1)
        self.assertIn("DEFI_TERRAFORM_MIRROR", result.stderr)

    def test_fixed_mirror_that_others_can_replace_is_ignored(self):
        # Its parent, the temporary folder, can be changed by everyone or belongs to the user of the tests.
        mirror = self.plant(self.folder / "mirror")
        mirror.chmod(0o777)
        result = self.init(fixed_mirror=str(mirror))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertNotIn("filesystem_mirror", result.stdout)
        self.assertIn(f"ignored {mirror}", result.stderr)

    def test_missing_configuration_file_is_ignored(self):
        result = self.init(TF_CLI_CONFIG_FILE=str(self.folder / "none"))
        self.assertEqual(result.returncode, 0, result.stderr)
        (self.folder / "own").write_text("# a configuration of the user\n")
        result = self.init(TF_CLI_CONFIG_FILE=str(self.folder / "own"), DEFI_TERRAFORM_MIRROR=str(self.folder))
        self.assertIn("a configuration of the user", result.stdout)

    def test_lock_file_is_not_changed(self):
        self.assertIn("-lockfile=readonly", self.init().stdout)


@unittest.skipUnless(shutil.which("terraform"), "terraform is not installed")
class LockFile(unittest.TestCase):
    """The committed lock file, with the real Terraform."""

    def init(self, change=lambda lock: lock, versions: str = ">= 5.80.0, < 7.0.0") -> subprocess.CompletedProcess:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        required = (INFRA / "versions.tf").read_text().partition("\nprovider ")[0]
        self.assertIn('">= 5.80.0, < 7.0.0"', required)
        (folder / "versions.tf").write_text(required.replace(">= 5.80.0, < 7.0.0", versions))
        (folder / ".terraform.lock.hcl").write_text(change((INFRA / ".terraform.lock.hcl").read_text()))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_CLI_ARGS")}
        return run([INFRA / "terraform-init", folder, "-no-color"], environment)

    def test_provider_of_the_lock_file_is_installed(self):
        result = self.init()
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_provider_with_another_checksum_is_refused(self):
        def tampered(lock: str) -> str:
            before, h1, after = lock.partition('"h1:')
            self.assertTrue(h1)
            return before + h1 + ("B" if after[0] == "A" else "A") + after[1:]

        result = self.init(tampered)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("checksums", result.stdout + result.stderr)

    def test_lock_file_that_differs_from_the_configuration_is_refused(self):
        self.assertNotEqual(self.init(versions="~> 5.101").returncode, 0)
        self.assertNotEqual(self.init(lambda lock: "").returncode, 0)


if __name__ == "__main__":
    unittest.main()
