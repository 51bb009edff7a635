"""The objects of a lake."""

from pathlib import Path


def objects(lake: Path) -> dict[str, bytes]:
    """The objects of the tables."""
    files = [path for layer in ("raw", "stage", "analytics") for path in (lake / layer).rglob("*.parquet")]
    is_copy = lambda path: "builds" in path.parts  # noqa: E731
    return {str(path.relative_to(lake)): path.read_bytes() for path in files if not is_copy(path)}
