"""Builds the packages of the functions: {step}.zip with `bootstrap` and `config.toml`, as `make package` does."""

import os
import re
import shlex
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
BUILT = REPOSITORY / "target" / "debug"
CONFIG = REPOSITORY / "shared" / "config.toml"
RATES = "the_graph = 500\ntranspose = 500"
FUNCTIONS = tuple(sorted(folder.name for folder in (REPOSITORY / "functions").iterdir()))
# Those that belong to a run.
STEPS = tuple(name for name in FUNCTIONS if name != "get-features")


def packages(folder: Path, schema: str) -> Path:
    """Returns the folder with the packages: the one that DEFI_PACKAGES names, otherwise new packages of the debug
    build."""
    if os.environ.get("DEFI_PACKAGES"):
        return Path(os.environ["DEFI_PACKAGES"]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for step in FUNCTIONS:
        pack(step, folder / f"{step}.zip", config(schema))
    return folder


def config(schema: str = "messari") -> str:
    """Returns the built-in configuration with higher rate limits, because the source is a server on this machine, a shorter
    wait for readers, whose queries are short, and the schema of the rows of Aave: the recording's are in Messari's."""
    text, rates = re.subn(r"(?m)(?<=^\[requests_per_second\]\n)the_graph = .*\ntranspose = .*$", RATES, CONFIG.read_text())
    assert rates == 1, f"{CONFIG} has no rate limits in the expected format"
    text, waits = re.subn(r"(?m)^wait_for_readers_seconds = .*$", "wait_for_readers_seconds = 5", text)
    assert waits == 1, f"{CONFIG} has no wait for readers in the expected format"
    text, schemas = re.subn(r'(?m)^schema = "aave"$', f'schema = "{schema}"', text)
    assert schemas == 1, f"{CONFIG} has no protocol in Aave's schema"
    return text


def pack(step: str, package: Path, config: str) -> None:
    """Packages a script that starts the debug build, whose executables of 100 MB take long to compress and upload."""
    binary = BUILT / step
    assert binary.exists(), f"{binary} is missing; build it with cargo build --workspace --bins --features defi-local/sql,defi-local/aws"
    with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED) as archive:
        bootstrap = zipfile.ZipInfo("bootstrap")
        bootstrap.external_attr = 0o755 << 16
        archive.writestr(bootstrap, f"#!/bin/sh\nexec {shlex.quote(str(binary))}\n")
        archive.writestr("config.toml", config)
