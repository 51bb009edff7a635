"""`defi verify` over a lake that is filled from a node, and over lakes in which something was changed on purpose."""

import json
import shutil
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from truth import HEALTH, POSITIONS

AAVE, COMPOUND = "aave-v2-eth", "compound-v2-eth"
USER_ACCOUNT_DATA = "0xbf92857c"


def verify(chain, lake: Path, *args: str, url: str | None = None) -> tuple[int, dict]:
    """The exit code and the report."""
    done = chain.defi("verify", "--json", *args, lake=lake, url=url)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def named(report: dict, key: str) -> dict[str, list]:
    return {protocol["protocol"]: protocol[key] for protocol in report["protocols"]}


def table_of_day(lake: Path, table: str, day: str, suffix: str = "") -> Path:
    return lake / table / f"year={day[:4]}" / f"month={day[5:7]}" / f"{day}{suffix}.parquet"


def own_rows(lake: Path, day: str, protocol: str) -> list[dict]:
    """The rows of accounts themselves, the largest first."""
    rows = pq.read_table(table_of_day(lake, HEALTH, day)).to_pylist()
    own = [row for row in rows if row["protocol"] == protocol and row["wallet_address"] == row["account_address"]]
    return sorted(own, key=lambda row: -row["collateral_eth"])


def rewrite(lake: Path, day: str, change) -> None:
    """Writes the health of a day again, with the rows that `change` returns."""
    path = table_of_day(lake, HEALTH, day)
    table = pq.read_table(path)
    pq.write_table(pa.Table.from_pylist(change(table.to_pylist()), schema=table.schema), path)


@pytest.fixture
def copy(lake, tmp_path):
    """A copy of the lake that the test may change."""
    return Path(shutil.copytree(lake, tmp_path / "lake"))


def test_all_agree(chain, lake):
    done = chain.defi("verify", lake=lake)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " values agree to 1e-6" in done.stdout and "differs" not in done.stdout, done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 160, done.stdout
    code, report = verify(chain, lake)
    quantities = {(p["protocol"], q["quantity"]): q for p in report["protocols"] for q in p["quantities"]}
    expected = [(AAVE, name) for name in ("collateral", "debt", "available", "health factor")] + [(COMPOUND, "liquidity")]
    assert code == 0 and list(quantities) == expected
    assert all(summary["compared"] >= 3 and summary["differing"] == 0 for summary in quantities.values()), quantities
    assert all(summary["digits"] >= 9 for summary in quantities.values()), quantities
    for protocol in report["protocols"]:
        assert protocol["chosen"] - protocol["chosen_without_health"] == protocol["accounts"] > 5, "fewer than 100 accounts"
        assert protocol["left_out"] == []


def test_fewer_accounts_are_chosen_deterministically(chain, lake):
    outputs = [chain.defi("verify", "--json", "--accounts", "5", lake=lake) for _ in range(2)]
    assert outputs[0].stdout == outputs[1].stdout and outputs[0].returncode == 0
    report = json.loads(outputs[0].stdout)
    assert [protocol["chosen"] for protocol in report["protocols"]] == [5, 5]


@pytest.mark.parametrize(
    "protocol,column", [(AAVE, "collateral_eth"), (AAVE, "debt_eth"), (AAVE, "borrow_power_eth"), (COMPOUND, "debt_eth")]
)
def test_a_changed_value_is_named(chain, copy, protocol, column):
    row = next(row for row in own_rows(copy, chain.as_of, protocol) if row["debt_eth"] > 0.1 and row["collateral_eth"] > 1)
    account = row["account_address"]
    # Below 1e-6 it is no difference. A whole basis point of LTV is.
    for factor, code in ((1 + 1e-7, 0), (1.01, 1)):

        def change(rows):
            hit = lambda row: row["protocol"] == protocol and row["account_address"] == account  # noqa: E731
            return [row | {column: row[column] * factor} if hit(row) else row for row in rows]

        original = table_of_day(copy, HEALTH, chain.as_of).read_bytes()
        rewrite(copy, chain.as_of, change)
        actual, report = verify(chain, copy)
        expected = {AAVE: [], COMPOUND: []} | ({protocol: [account]} if code else {})
        assert (actual, named(report, "differing")) == (code, expected), factor
        if code:
            done = chain.defi("verify", lake=copy)
            assert f"differs: {protocol} {account}" in done.stdout, done.stdout
            assert done.stderr.startswith("error: QualityFailed: ") and f"worst_account={account}" in done.stderr, done.stderr
            assert len(done.stderr.splitlines()) == 1
        table_of_day(copy, HEALTH, chain.as_of).write_bytes(original)


def test_a_missing_account_is_a_difference(chain, copy):
    account = own_rows(copy, chain.as_of, AAVE)[0]["account_address"]
    rewrite(copy, chain.as_of, lambda rows: [row for row in rows if row["account_address"] != account])
    positions = pq.read_table(table_of_day(copy, POSITIONS, chain.as_of, f".{AAVE}")).column("account_address").to_pylist()
    assert account in positions
    code, report = verify(chain, copy)
    assert code == 1 and account in named(report, "differing")[AAVE]


def test_a_snapshot_with_other_parameters_differs(chain, copy):
    """As of an API whose liquidation thresholds are those of another day."""
    lower = lambda row: row | {"threshold_weighted_collateral_eth": row["threshold_weighted_collateral_eth"] * 0.95}  # noqa: E731
    rewrite(copy, chain.as_of, lambda rows: [lower(row) if row["protocol"] == AAVE else row for row in rows])
    code, report = verify(chain, copy)
    quantities = next(protocol["quantities"] for protocol in report["protocols"] if protocol["protocol"] == AAVE)
    differing = {summary["quantity"]: (summary["differing"], summary["compared"]) for summary in quantities}
    assert code == 1 and differing["health factor"][0] == differing["health factor"][1] > 0, differing
    assert differing["collateral"][0] == differing["available"][0] == 0, differing


@contextmanager
def faulty(chain, lake: Path, faults: str):
    """The URL of a server that adds faults to the node."""
    command = [*chain.command(lake=lake)[:1], "serve", "--port", "0", "--node-url", chain.url, "--node-faults", faults]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield server.stdout.readline().split()[-1]
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=10)


def test_a_rejected_call_leaves_its_account_out(chain, lake):
    account = own_rows(lake, chain.as_of, AAVE)[0]["account_address"]
    call = USER_ACCOUNT_DATA + account.removeprefix("0x").rjust(64, "0")
    with faulty(chain, lake, f"call_reverts=1000,call={call}") as url:
        code, report = verify(chain, lake, url=url)
    left_out = named(report, "left_out")
    assert (code, [one["account"] for one in left_out[AAVE]], left_out[COMPOUND]) == (0, [account], [])
    with faulty(chain, lake, f"call_reverts=1000,call={USER_ACCOUNT_DATA}") as url:
        done = chain.defi("verify", lake=lake, url=url)
    assert done.returncode == 1 and f"no account of {AAVE} could be compared" in done.stderr, done.stderr


def test_a_pruned_node_is_an_error_with_a_hint(chain, lake):
    with faulty(chain, lake, "pruned=1000,pruned_below=1000000000") as url:
        done = chain.defi("verify", lake=lake, url=url)
    assert done.returncode == 1 and done.stderr.startswith("error: HistoryPruned: "), done.stderr
    assert "archive node" in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_a_lake_of_another_chain_is_refused(chain, tmp_path):
    sample = chain.command("run", "--wallets", "5", "--days", "3", lake=tmp_path)
    environment = {name: value for name, value in chain.environment().items() if name not in ("DEFI_CONFIG", "ETHEREUM_RPC_URL")}
    done = subprocess.run(sample, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    done = chain.defi("verify", lake=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("error: NotReady: "), done.stderr
    assert "node of the chain that the lake was filled from" in done.stderr and chain.url not in done.stderr, done.stderr


def test_another_first_block_than_that_of_the_node_is_refused(chain, copy):
    (blocks,) = copy.glob(f"raw/*/ethereum_daily_blocks/**/{chain.as_of}.parquet")
    table = pq.read_table(blocks)
    changed = [row | {"block_hash": "0x" + "ab" * 32} for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(changed, schema=table.schema), blocks)
    done = chain.defi("verify", lake=copy)
    assert done.returncode == 2 and "another one than that of the node" in done.stderr, done.stderr
