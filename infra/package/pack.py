"""Packages functions as {step}.zip with `bootstrap` and `config.toml`. Equal files give equal bytes, so that only
changed functions are deployed. Usage: pack.py FOLDER CONFIG PACKAGES. FOLDER contains {step}/bootstrap."""

import sys
import tempfile
import zipfile
from pathlib import Path

# The earliest modification time that a zip file supports. Actual times would differ between builds.
TIME = (1980, 1, 1, 0, 0, 0)


def pack(bootstrap: bytes, config: str, package: Path, level: int = 9) -> None:
    """Writes a package. It appears, or replaces what has its name, when it is complete."""
    with tempfile.TemporaryDirectory(dir=package.parent) as folder:
        unfinished = Path(folder) / package.name
        with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
            for name, content, mode in (("bootstrap", bootstrap, 0o755), ("config.toml", config, 0o644)):
                entry = zipfile.ZipInfo(name, TIME)
                entry.create_system, entry.external_attr = 3, (0o100000 | mode) << 16
                archive.writestr(entry, content, zipfile.ZIP_DEFLATED, level)
        unfinished.replace(package)


def main(folder: Path, config: Path, packages: Path) -> None:
    packages.mkdir(parents=True, exist_ok=True)
    for bootstrap in sorted(folder.glob("*/bootstrap")):
        package = packages / f"{bootstrap.parent.name}.zip"
        pack(bootstrap.read_bytes(), config.read_text(), package)
        print(f"{package}: {package.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
