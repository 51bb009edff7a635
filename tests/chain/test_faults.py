"""Nodes that lie, stumble or have limits: a run gives the right lake, or ends with a clear error and nothing is lost.

The faults are those of `defi serve --node-faults`. Runs that fail share one lake, which a last run completes."""

import collections
import json
import math
import re
import subprocess

import pytest
from served import served
from trees import differences, objects
from truth import CATEGORIES, HEALTH, POSITIONS, rows

# The error of a run in which every log or every answer has a fault, or some have it always, and a part of its text.
# First, those that a run meets before it knows the first blocks of the days.
BEFORE_BLOCKS = [
    ("other_chain=1000", "BadInput", "serves another chain"),
    ("quota_exceeded=1000", "QuotaExceeded", ""),
    ("throttled=1000", "Throttled", ""),
    ("unavailable=1000", "SourceUnavailable", ""),
    ("too_many_requests=1000", "Throttled", "status=429"),
    ("bad_gateway=1000", "SourceUnavailable", "status=502"),
    ("html=1000", "SourceUnavailable", "not valid JSON"),
    ("cut_json=1000", "SourceUnavailable", "not valid JSON"),
    ("other_block=1000", "CorruptData", "another block"),
    ("null_block=1000", "HistoryPruned", "does not have the block"),
    # Of an old block, a node that stays behind no longer has it.
    ("behind=1000", "NotReady|HistoryPruned", ""),
    ("head_falls_back=1000", "CorruptData", "far below an earlier one"),
]
WITH_BLOCKS = [
    ("logs_empty=1000", "CorruptData", "differ from those in its receipts"),
    ("logs_empty=1000,no_block_receipts=1000", "CorruptData", "has no log of it"),
    ("logs_left_out=300", "CorruptData", ""),
    ("log_outside_range=1000", "CorruptData", "outside the range"),
    ("logs_unordered=1000", "CorruptData", "out of order"),
    ("log_removed=1000", "CorruptData", "removed"),
    ("log_of_other_address=1000", "CorruptData", "a contract that was not asked for"),
    ("too_many_topics=1000", "CorruptData", "malformed"),
    ("odd_data=1000", "CorruptData", "malformed"),
    ("two_logs_under_one_key=1000", "CorruptData", "two different logs"),
    ("block_hash_changed=1000", "CorruptData", "two block hashes"),
    ("block_hash_differs=300", "SourceUnavailable", "not the one of its header"),
    ("topic_missing=1000", "CorruptData", "differ from those in its receipts"),
    ("topic_missing=1000,no_block_receipts=1000", "CorruptData", ""),
    ("short_data=1000,no_block_receipts=1000", "CorruptData", "not a valid event"),
    ("null_receipt=1000", "HistoryPruned", "receipt of a transaction"),
]


@pytest.fixture(scope="module")
def undisturbed(small_chain, tmp_path_factory):
    lake = tmp_path_factory.mktemp("undisturbed")
    small_chain.run(lake)
    return lake


def check_error(result, faults: str, kind: str, text: str) -> None:
    assert result.returncode == (2 if kind == "BadInput" else 1), f"{faults}: {result.stdout}{result.stderr}"
    error = result.stderr.splitlines()[-1]
    is_clear = any(error.startswith(f"error: {each}: ") for each in kind.split("|")) and text in error and "; next: " in error
    assert is_clear, f"{faults}: {result.stderr}"


def test_run_with_a_fault_ends_with_a_clear_error_and_nothing_is_lost(small_chain, undisturbed, tmp_path):
    expected = objects(undisturbed)

    def check(faults: str, kind: str, text: str) -> None:
        with served(small_chain, faults) as node:
            result = small_chain.defi("run", "--as-of", small_chain.as_of, lake=tmp_path, url=node.url)
        check_error(result, faults, kind, text)
        assert node.faults, faults
        # What such a run has written is right.
        written = objects(tmp_path)
        assert {name for name in written if written[name] != expected.get(name)} == set(), faults

    for case in BEFORE_BLOCKS:
        check(*case)
    until = json.dumps({"as_of": small_chain.as_of})
    assert small_chain.defi("step", "extract-daily-blocks", until, lake=tmp_path).returncode == 0
    for case in WITH_BLOCKS:
        check(*case)
    small_chain.run(tmp_path)
    assert differences(objects(tmp_path), expected) == []


def test_node_that_is_far_behind_adds_no_days(small_chain, undisturbed, tmp_path):
    until = json.dumps({"as_of": small_chain.as_of})
    assert small_chain.defi("step", "extract-daily-blocks", until, lake=tmp_path).returncode == 0
    with served(small_chain, "head_falls_back=1000") as node:
        # The head falls back after the first answer, so it is low from the start of the second run on.
        for _ in range(2):
            result = small_chain.defi("run", "--as-of", small_chain.as_of, lake=tmp_path, url=node.url)
            assert result.returncode == 1
    check_error(result, "head_falls_back", "NotReady", "the node's final block is before the first block of a day")
    small_chain.run(tmp_path)
    assert differences(objects(tmp_path), objects(undisturbed)) == []


@pytest.mark.parametrize(
    "faults",
    [
        "log_repeated=1000,batch_reordered=1000",
        "batch_refused=1000,no_block_receipts=1000",
        "transient=150,too_many_requests=20,bad_gateway=20,html=20,cut_json=20,attempts=2",
    ],
)
def test_run_through_passing_faults_gives_the_same_lake(small_chain, undisturbed, tmp_path, faults):
    with served(small_chain, faults) as node:
        small_chain.run(tmp_path, url=node.url)
    assert node.faults
    assert differences(objects(tmp_path), objects(undisturbed)) == []


def test_run_within_the_limits_of_a_node_gives_the_same_lake(small_chain, undisturbed, tmp_path):
    # As many logs as the largest block has: the range of a day with more is halved.
    logs = [json.loads(line) for line in (small_chain.folder / "logs.jsonl").read_text().splitlines()]
    (_, most), *_ = collections.Counter(log["blockNumber"] for log in logs).most_common(1)
    with served(small_chain, f"blocks=60,logs={most},batch=3,call_bytes=4000") as node:
        small_chain.run(tmp_path, url=node.url)
    units = list((tmp_path / "raw/ethereum/ethereum_lending_logs").rglob("*.parquet"))
    assert node.calls["eth_getLogs"] > len(units), "ranges were split"
    assert differences(objects(tmp_path), objects(undisturbed)) == []


def first_block(chain, day: str) -> int:
    blocks = [json.loads(line) for line in (chain.folder / "blocks.jsonl").read_text().splitlines()]
    return next(block["number"] for block in blocks if block.get("date") == day)


def test_node_without_old_blocks_is_refused(small_chain, undisturbed, tmp_path):
    first = first_block(small_chain, small_chain.days[2])
    with served(small_chain, f"pruned=1000,pruned_below={first}") as node:
        result = small_chain.defi("run", "--as-of", small_chain.as_of, lake=tmp_path, url=node.url)
    check_error(result, "pruned", "HistoryPruned", "")
    small_chain.run(tmp_path)
    assert differences(objects(tmp_path), objects(undisturbed)) == []


def test_days_whose_state_is_pruned_are_lost_until_a_node_has_them(small_chain, undisturbed, tmp_path):
    first = first_block(small_chain, small_chain.days[2])
    with served(small_chain, f"state_pruned=1000,pruned_below={first}") as node:
        result = small_chain.defi("run", "--as-of", small_chain.as_of, lake=tmp_path, url=node.url)
    check_error(result, "state_pruned", "QualityFailed", "no price")
    assert len(list((tmp_path / "state/lost").rglob("*.json"))) == 2 * 3, "two protocols, three days"
    result = small_chain.defi("run", "--as-of", small_chain.as_of, "--retry-lost", lake=tmp_path)
    assert result.returncode == 0, result.stderr
    assert differences(objects(tmp_path), objects(undisturbed)) == []


def test_rates_of_liquidations_whose_state_is_pruned_are_lost_until_a_node_has_them(chain, lake, tmp_path):
    lost = lambda: list((tmp_path / "state/lost/ethereum_lending_logs").glob("*.json"))  # noqa: E731
    first = first_block(chain, chain.days[-1])
    with served(chain, f"state_pruned=1000,pruned_below={first}") as node:
        chain.defi("run", "--as-of", chain.as_of, lake=tmp_path, url=node.url)
    assert lost() and all("compound-v2-eth" in path.name for path in lost())
    chain.run(tmp_path, "--retry-lost")
    assert lost() == []
    assert differences(objects(tmp_path), objects(lake)) == []


def test_accounts_without_logs_are_noticed_by_the_sums(small_chain, tmp_path):
    """The configured first block is later than that of the contracts, so nobody knows of the first supplies."""
    first = first_block(small_chain, small_chain.days[1])
    text = (small_chain.folder / "config.toml").read_text()
    late = f'first_block = {first}, first_day = "{small_chain.days[1]}"'
    text = re.sub(r'(addresses_provider = "0x[0-9a-f]+", )first_block = .*"', rf"\1{late}", text)
    assert late in text
    (tmp_path / "config.toml").write_text(text)
    command = small_chain.command("run", "--as-of", small_chain.as_of, lake=tmp_path / "lake")
    environment = small_chain.environment() | {"DEFI_CONFIG": str(tmp_path / "config.toml")}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 1 and "differing_sums_share" in result.stderr.splitlines()[-1], result.stderr
    assert "differing: " in result.stdout and " scaledTotalSupply of 0x" in result.stdout, result.stdout
    # Nothing is missing from a lake with all logs.
    whole = small_chain.defi("run", "--as-of", small_chain.as_of, lake=tmp_path / "whole")
    assert re.search(r"differing_sums_share +pass +0 ", whole.stdout) and "differing: " not in whole.stdout, whole.stdout


# getUnderlyingPrice(address)
PRICE = "0xfc57d4df"


def test_prices_of_days_without_a_price_of_eth_are_those_of_the_days_before(small_chain, undisturbed, tmp_path):
    c_eth = json.loads((small_chain.folder / "addresses.json").read_text())["cTokens"]["cETH"]["address"].lower()
    days = small_chain.days
    priced, without = days[1], days[2:4]
    small_chain.run(tmp_path, as_of=priced)
    with served(small_chain, f"call_reverts=1000,call={PRICE}{c_eth[2:]:0>64}") as node:
        small_chain.run(tmp_path, url=node.url, as_of=without[-1])
    assert node.faults["call_reverts"] > 0
    small_chain.run(tmp_path)

    # All rows are there, and only the price is missing.
    markets = lambda lake: {(str(row["block_timestamp"].date()), row["market_id"]): row for row in rows(lake, MARKETS)}  # noqa: E731
    expected, actual = markets(undisturbed), markets(tmp_path)
    for day in without:
        expected[day, c_eth] |= {"input_token_price_usd": None}
    unit = lambda row: {name: value for name, value in row.items() if name != "price_unit"}  # noqa: E731
    assert {key: unit(row) for key, row in actual.items()} == {key: unit(row) for key, row in expected.items()}
    for table in (POSITIONS, *(f"stage/transpose/transpose_{category}_events" for category in CATEGORIES)):
        assert rows(tmp_path, table) == rows(undisturbed, table)

    compare_health(undisturbed, tmp_path, expected, priced, without)
    compare_events(undisturbed, tmp_path, priced, without)


MARKETS = "stage/the_graph/the_graph_historical_market_data"


def compare_health(undisturbed, lake, markets, priced: str, without: list[str]) -> None:
    """Compound's accounts have the prices of the day before, and all others are as they are."""
    health = lambda lake: {(str(row["day"]), row["account_address"], row["protocol"]): row for row in rows(lake, HEALTH)}  # noqa: E731
    expected, actual = health(undisturbed), health(lake)
    assert expected.keys() == actual.keys()
    debts = collections.defaultdict(float)
    for row in rows(lake, POSITIONS):
        day, market = str(row["block_timestamp"].date()), markets.get((priced, row["market_id"]))
        if day in without and row["protocol"] == "compound-v2-eth" and row["side"] == "BORROWER":
            amount = int(row["balance"]) / 10 ** market["input_token_decimals"]
            debts[day, row["account_address"]] += amount * market["input_token_price_usd"]
    changed = 0
    for (day, account, protocol), row in actual.items():
        if protocol == "compound-v2-eth" and day in without:
            assert math.isclose(row["debt_eth"], debts[day, account], rel_tol=1e-9, abs_tol=1e-9), (day, account)
            changed += row["debt_eth"] != expected[day, account, protocol]["debt_eth"]
        else:
            assert row == expected[day, account, protocol]
    assert changed > 0


def compare_events(undisturbed, lake, priced: str, without: list[str]) -> None:
    changed = 0
    for category in CATEGORIES:
        table = f"analytics/transpose/transpose_{category}_events"
        key = lambda row: (row["transaction_hash"], row["log_index"])  # noqa: E731
        expected, actual = ({key(row): row for row in rows(each, table)} for each in (undisturbed, lake))
        assert expected.keys() == actual.keys()
        for log, row in actual.items():
            is_native = row["token_address"] == "0x" + 20 * "ee"
            if row["protocol"] == "compound-v2-eth" and str(row["timestamp"].date()) in without and not is_native:
                assert (str(row["price_day"]), row["price_protocol"]) == (priced, "compound-v2-eth")
                changed += row["price_eth"] != expected[log]["price_eth"]
            else:
                assert row == expected[log]
    assert changed > 0


# Requests for logs, block times and senders.
NOT_LIMITED = {"eth_getLogs", "eth_getBlockByNumber", "eth_getTransactionReceipt"}
# The blocks of a day and protocol that are compared with their receipts, at most.
COMPARED = 20


def test_daily_run_needs_at_most_60_requests_a_protocol(small_chain, tmp_path):
    small_chain.run(tmp_path, as_of=small_chain.days[-2])
    with served(small_chain, "") as node:
        small_chain.run(tmp_path, url=node.url)
    requests = {method: count for method, count in node.requests.items() if method not in NOT_LIMITED}
    protocols = ["aave-v2-eth", "compound-v2-eth"]
    assert requests["eth_call"] > 0 and node.calls["eth_getLogs"] == len(protocols), node.calls
    # A day on mainnet has more blocks.
    assert 0 < requests["eth_getBlockReceipts"] <= COMPARED * len(protocols)
    requests["eth_getBlockReceipts"] = COMPARED * len(protocols)
    assert sum(requests.values()) <= 60 * len(protocols), node.requests
