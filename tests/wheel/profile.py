"""Prints the profile of the tests as Cargo's configuration of the dev profile: the wheel is then built with the dependencies that
the tests have built."""

import tomllib
from pathlib import Path

packages = tomllib.loads((Path(__file__).parents[2] / "Cargo.toml").read_text())["profile"]["test"]["package"]
for name, settings in packages.items():
    print(f"profile.dev.package.{name}.opt-level = {settings['opt-level']}")
