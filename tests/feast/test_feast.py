"""Feast gives the published rows: for training by time, and online after they were loaded."""

import json
from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from feast.types import Bool, Float64, Int64, String

from conftest import defi

TYPES = {"boolean": Bool, "double": Float64, "bigint": Int64, "string": String}
UNKNOWN = "0x" + "0" * 39 + "1"
VIEW = "defi_features"


@pytest.fixture(scope="module")
def published(lake):
    """The published rows by day and wallet, read with PyArrow."""
    folders = sorted((lake / "analytics/features/defi_features").iterdir())
    by_day = {}
    for folder in folders:
        rows = ds.dataset(folder, format="parquet").to_table().to_pylist()
        by_day[date.fromisoformat(folder.name.removeprefix("as_of="))] = {row.pop("wallet_address"): row for row in rows}
    assert len(by_day) >= 4 and all(by_day.values())
    return by_day


@pytest.fixture(scope="module")
def features(published):
    return list(next(iter(next(iter(published.values())).values())))


def midnight(day):
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def historical(store, entities):
    """Returns the features of wallets as of times, in the order of the entities."""
    frame = pd.DataFrame(entities, columns=["wallet_address", "event_timestamp"])
    rows = store.get_historical_features(frame, store.get_feature_service("wallet_features")).to_arrow()
    # The order of Feast's rows is not that of its input.
    found = {(row.pop("wallet_address"), row.pop("event_timestamp")): row for row in rows.to_pylist()}
    assert len(found) == rows.num_rows == len(entities)
    return [found[entity] for entity in entities], rows.schema


def test_view_has_every_column_of_the_catalog(store, lake):
    columns = json.loads((lake / "catalog/db_analytics_dev/defi_features_history.json").read_text())["columns"]
    view = store.get_feature_view(VIEW)
    fields = {field.name: field for field in [*view.entity_columns, *view.features]}
    assert list(fields) == [column["name"] for column in columns]
    for column in columns:
        field = fields[column["name"]]
        assert (field.dtype, field.description) == (TYPES[column["type"]], column["comment"])
    assert [(entity.name, entity.description) for entity in store.list_entities()] == [("wallet_address", columns[0]["comment"])]


def test_historical_features_equal_the_published_rows(store, published, features):
    entities = [(wallet, midnight(day)) for day, rows in published.items() for wallet in rows]
    rows, schema = historical(store, entities)
    for (wallet, time), row in zip(entities, rows, strict=True):
        assert row == published[time.date()][wallet], (wallet, time)
    whole = {name for name in features if type(rows[0][name]) is int}
    assert whole and all(schema.field(name).type == pa.int64() for name in whole)
    assert any(value is None for row in rows for value in row.values()), "no NULL was compared"


def test_unknown_wallets_and_wallets_without_a_set_have_null(store, published, features):
    first = min(published)
    entities = [(UNKNOWN, midnight(day)) for day in published]
    entities += [(wallet, midnight(first) - timedelta(seconds=1)) for wallet in published[first]]
    rows, _ = historical(store, entities)
    assert all(row == dict.fromkeys(features) for row in rows)


def test_newest_set_before_the_time_counts_until_it_is_too_old(store, published, features):
    days = sorted(published)
    ttl = max(after - before for before, after in zip(days, days[1:], strict=False)) + timedelta(days=1)
    assert store.get_feature_view(VIEW).ttl == ttl
    wallet = min(published[days[0]])
    second = timedelta(seconds=1)
    for time, expected in [
        (midnight(days[1]) - second, published[days[0]][wallet]),
        (midnight(days[-1]) + ttl, published[days[-1]][wallet]),
        (midnight(days[-1]) + ttl + second, dict.fromkeys(features)),
    ]:
        assert historical(store, [(wallet, time)])[0] == [expected], time


def online(store, wallets):
    """Returns the online answers, and the day of each."""
    service = store.get_feature_service("wallet_features")
    response = store.get_online_features(service, [{"wallet_address": wallet} for wallet in wallets])
    answer = response.to_dict(include_event_timestamps=True)
    names = [name for name in answer if not name.endswith("__ts") and name != "wallet_address"]
    rows = [{name: answer[name][index] for name in names} for index in range(len(wallets))]
    times = [{answer[f"{name}__ts"][index] for name in names} for index in range(len(wallets))]
    return rows, times


def test_online_answers_equal_the_newest_published_rows(store, published, features):
    newest = max(published)
    wallets = [*published[newest], UNKNOWN]
    nothing = [dict.fromkeys(features)] * len(wallets)

    # It begins at now minus the TTL, and the sets of the sample chain are older.
    store.materialize_incremental(datetime.now(UTC))
    assert online(store, wallets)[0] == nothing

    store.materialize(midnight(min(published)), midnight(newest))
    rows, times = online(store, wallets)
    assert rows == [*published[newest].values(), nothing[-1]]
    # An answer says how old it is. However old, it is given: Feast does not check the TTL online.
    day = int(midnight(newest).timestamp())
    assert times == [{day}] * len(published[newest]) + [{0}]
    assert datetime.now(UTC) - midnight(newest) > store.get_feature_view(VIEW).ttl

    # What is loaded last is served, also if it is older.
    first = min(published)
    store.materialize(midnight(first), midnight(first))
    wallets = list(published[first])
    assert online(store, wallets)[0] == list(published[first].values())


def test_equal_calls_write_equal_files_and_keep_the_data(lake, tmp_path):
    texts = []
    for _ in range(2):
        defi("feast", tmp_path / "repository", "--lake", lake)
        files = {file.name: file.read_text() for file in (tmp_path / "repository").iterdir() if file.is_file()}
        texts.append(files)
        (tmp_path / "repository" / "data").mkdir(exist_ok=True)
        (tmp_path / "repository" / "data" / "registry.db").write_text("of Feast")
    assert texts[0] == texts[1] and sorted(texts[0]) == ["feature_store.yaml", "features.py"]
    assert (tmp_path / "repository" / "data" / "registry.db").read_text() == "of Feast"


def test_folder_with_other_content_is_refused(lake, tmp_path):
    (tmp_path / "features.py").write_text("mine")
    refused = defi("feast", tmp_path, "--lake", lake, check=False)
    assert refused.returncode == 2 and "other content" in refused.stderr and "next:" in refused.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["features.py"]
    assert (tmp_path / "features.py").read_text() == "mine"
