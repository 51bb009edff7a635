"""The functions' packages: {step}.zip with `bootstrap` and `config.toml`, as `make package` makes them."""

import os
import shutil
import subprocess
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
BUILT = REPOSITORY / "target" / "debug"
CONFIG = REPOSITORY / "shared" / "config.toml"
STEPS = (
    "plan-run",
    "extract-daily-blocks",
    "extract-events",
    "extract-market-data",
    "extract-account-positions",
    "extract-current-positions",
    "stage-events",
    "stage-market-data",
    "stage-account-positions",
    "link-wallets",
    "price-events",
    "value-positions",
    "build-features",
    "check-features",
    "publish-features",
)


def packages(folder: Path) -> Path:
    """The folder with the packages: the one that DEFI_PACKAGES names, else those of the debug build."""
    if os.environ.get("DEFI_PACKAGES"):
        return Path(os.environ["DEFI_PACKAGES"]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda step: pack(step, folder / f"{step}.zip", CONFIG.read_text()), STEPS))
    return folder


def pack(step: str, package: Path, config: str) -> None:
    """Packs a debug build, without its debug information where a tool for that is there."""
    binary = BUILT / step
    assert binary.exists(), f"{binary} is not there: cargo build --workspace --bins --features defi-shared/aws,defi-local/sql"
    bootstrap = package.with_suffix(".bootstrap")
    if shutil.which("strip"):
        subprocess.run(["strip", "-o", bootstrap, binary], check=True)
    else:
        shutil.copy(binary, bootstrap)
    with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.write(bootstrap, "bootstrap")
        archive.writestr("config.toml", config)
    bootstrap.unlink()


def with_config(package: bytes, config: str) -> bytes:
    """The same package with another configuration."""
    import io

    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(package)) as before, zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as after:
        for entry in before.infolist():
            after.writestr(entry, config if entry.filename == "config.toml" else before.read(entry))
    return changed.getvalue()
