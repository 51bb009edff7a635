"""mlcroissant validates the metadata of exports, and reads their rows with it.

The environment variable DEFI_LAKE is the folder of a lake, DEFI_BIN that of the defi command.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pandas as pd
import pytest


class WithoutJson(types.ModuleType):
    """Stands in for a package that mlcroissant imports to read JSON, and of which there is no wheel. Nothing here is JSON, so
    whoever calls it fails."""

    def __getattr__(self, name):
        error = AttributeError if name.startswith("__") else AssertionError
        raise error(f"{self.__name__}.{name} is not installed")


sys.modules["jsonpath_rw"] = WithoutJson("jsonpath_rw")
sys.modules["jsonpath_rw.lexer"] = sys.modules["jsonpath_rw"].lexer = WithoutJson("jsonpath_rw.lexer")

import mlcroissant  # noqa: E402

LAKE = Path(os.environ["DEFI_LAKE"]).resolve()
DEFI = Path(os.environ["DEFI_BIN"]).resolve() / "defi"
NOTEBOOKS = Path(__file__).parents[2] / "docs" / "notebooks.md"


def export(*arguments, check=True):
    return subprocess.run([DEFI, "features", "--lake", LAKE, *arguments], check=check, capture_output=True, text=True)


@pytest.fixture(scope="module", params=["csv", "parquet"])
def file(request, tmp_path_factory):
    file = tmp_path_factory.mktemp("export") / f"rows.{request.param}"
    export("--as-of", "all", "--format", request.param, "--output", file, "--croissant")
    return file


def metadata_of(file):
    return file.with_name(file.name + ".croissant.json")


def frame_of(file):
    return pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file)


def test_metadata_is_valid(file):
    issues = mlcroissant.Dataset(metadata_of(file)).metadata.ctx.issues
    assert not issues.errors
    # Nothing is known of the rights in the data, and equal exports have equal metadata, whenever they are written.
    assert {issue.split("Property ")[1].split('"')[1].rsplit("/", 1)[1] for issue in issues.warnings} <= {
        "citeAs", "datePublished", "license", "url", "version",
    }  # fmt: skip


def test_metadata_has_the_digest_and_the_size_of_the_file(file):
    (described,) = json.loads(metadata_of(file).read_text())["distribution"]
    assert described["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert described["contentSize"] == f"{file.stat().st_size} B"


def test_every_column_is_described(file):
    fields = json.loads(metadata_of(file).read_text())["recordSet"][0]["field"]
    assert [field["name"] for field in fields] == list(frame_of(file).columns)
    catalog = json.loads((LAKE / "catalog/db_analytics_dev/defi_features.json").read_text())
    comments = {column["name"]: column["comment"] for column in catalog["columns"]}
    assert {field["name"]: field["description"] for field in fields if field["name"] != "as_of"} == comments


def test_rows_are_read_with_the_metadata(file):
    frame = frame_of(file)
    records = list(mlcroissant.Dataset(metadata_of(file)).records("rows"))
    assert len(records) == len(frame) > 0
    for record, (_, row) in zip(records, frame.iterrows(), strict=True):
        for name, expected in row.items():
            value = record[f"rows/{name}"]
            value = value.decode() if isinstance(value, bytes) else value
            if pd.isna(expected):
                assert pd.isna(value), name
            elif name == "as_of":
                assert pd.Timestamp(value) == pd.Timestamp(expected)
            else:
                assert value == expected, name


def test_rows_with_labels_are_described(tmp_path):
    file = tmp_path / "borrows.parquet"
    export("--at-borrows", "--label", "3d", "--format", "parquet", "--output", file, "--croissant")
    dataset = mlcroissant.Dataset(metadata_of(file))
    assert not dataset.metadata.ctx.issues.errors
    assert [field.name for field in dataset.metadata.record_sets[0].fields] == list(pd.read_parquet(file).columns)


def test_code_of_the_documentation_runs(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"^```python croissant\n(.*?)^```$", NOTEBOOKS.read_text(), re.MULTILINE | re.DOTALL)
    file = tmp_path / "target" / "sets.parquet"
    file.parent.mkdir()
    export("--as-of", "all", "--format", "parquet", "--output", file, "--croissant")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert float(capsys.readouterr().out) == pd.read_parquet(file)["risk_factor"][0]


def test_arrow_and_standard_output_are_refused(tmp_path):
    for arguments, reason in [
        (["--format", "arrow", "--output", tmp_path / "rows.arrow", "--croissant"], "no Arrow files"),
        (["--croissant"], "--output"),
    ]:
        refused = export(*arguments, check=False)
        assert refused.returncode == 2 and reason in refused.stderr, refused.stderr
    assert not list(tmp_path.iterdir())
