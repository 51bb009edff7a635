"""The objects of lakes, and where two lakes differ."""

from pathlib import Path


def objects(lake: Path) -> dict[str, bytes]:
    """The objects of the tables."""
    files = [path for layer in ("raw", "stage", "analytics") for path in (lake / layer).rglob("*.parquet")]
    return {str(path.relative_to(lake)): path.read_bytes() for path in files if "builds" not in path.parts}


def all_objects(lake: Path) -> dict[str, bytes]:
    """All files but the records of runs."""
    files = [path for path in lake.rglob("*") if path.is_file() and path.relative_to(lake).parts[0] != "runs"]
    return {str(path.relative_to(lake)): path.read_bytes() for path in files}


def differences(actual: dict[str, bytes], expected: dict[str, bytes]) -> list[str]:
    """The objects that are missing, are not expected, or have other bytes: a line each, with the lengths."""
    length = lambda objects, name: len(objects[name]) if name in objects else None  # noqa: E731
    return [
        f"{name}: {length(actual, name)} bytes, expected {length(expected, name)}"
        for name in sorted(actual.keys() | expected.keys())
        if actual.get(name) != expected.get(name)
    ]
