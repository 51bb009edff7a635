"""Prints all data of one wallet as JSON, as `defi wallet --json` does, in DuckDB over the same Parquet files.

Files are sorted by wallet or account, so that DuckDB skips most row groups by their statistics.
"""

import argparse
import datetime
import json
from pathlib import Path

import duckdb

THREADS = 2

FEATURES = """
FROM read_parquet('{features}/*.parquet', hive_partitioning = false) WHERE wallet_address = $wallet
"""
LINKS = """
SELECT wallet_address, account_address, min(since_epoch_timestamp) AS since
FROM read_parquet('{analytics}/features/wallet_links/*/*/*.parquet', hive_partitioning = false)
WHERE (wallet_address = $wallet OR account_address = $wallet) AND wallet_address <> account_address
    AND since_epoch_timestamp < {end}
GROUP BY ALL ORDER BY wallet_address, account_address
"""
EVENTS = """
WITH symbols AS (
    SELECT input_token_address AS token_address, arg_max(input_token_symbol, epoch_timestamp) AS token_symbol
    FROM read_parquet('{stage}/the_graph/the_graph_historical_market_data/*/*/*.parquet', hive_partitioning = false)
    WHERE epoch_timestamp BETWEEN {end} - 7 * 86400 AND {end} + 86399
    GROUP BY ALL
), linked AS (
    SELECT unnest($accounts) AS account_address, unnest($since) AS since
), found AS (
    SELECT event.*, coalesce(since <= epoch_timestamp, false) AS is_linked
    FROM read_parquet('{analytics}/transpose/*/*/*/*.parquet', hive_partitioning = false) AS event
    LEFT JOIN linked ON linked.account_address = event.account_address
    WHERE epoch_timestamp < {end}
        AND (sender_address = $wallet OR event.account_address = $wallet OR category = 'liquidation' AND is_linked)
)
SELECT epoch_timestamp AS timestamp, block_number, transaction_hash, log_index, protocol, category, sender_address,
    account_address, found.token_address, token_symbol, quantity::VARCHAR AS quantity, quantity_eth, price_eth,
    price_day::VARCHAR AS price_day,
    CASE WHEN category = 'liquidation' THEN account_address = $wallet OR is_linked ELSE sender_address = $wallet END AS counts
FROM found LEFT JOIN symbols USING (token_address)
ORDER BY epoch_timestamp // 86400, category, index_address, transaction_hash, log_index
"""
HEALTH = """
SELECT day::VARCHAR AS day, account_address, protocol, collateral_eth, threshold_weighted_collateral_eth, borrow_power_eth,
    debt_eth, available_borrows_eth, risk_factor
FROM read_parquet('{analytics}/features/wallet_health_daily/*/*/*.parquet', hive_partitioning = false)
WHERE wallet_address = $wallet AND day <= DATE '{as_of}'
ORDER BY day, account_address, protocol
"""


def rows(database: duckdb.DuckDBPyConnection, query: str, parameters: dict) -> list[dict]:
    """Returns the rows of a query by the names of its columns."""
    found = database.execute(query, parameters)
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def wallet_data(lake: Path, wallet: str) -> dict:
    """Returns the data of a wallet as of the newest published day."""
    published = json.loads((lake / "catalog/db_analytics_dev/defi_features.json").read_text())
    as_of = published["parameters"]["as_of"]
    midnight = datetime.datetime.fromisoformat(as_of).replace(tzinfo=datetime.UTC)
    names = {
        "features": lake / published["location"],
        "analytics": lake / "analytics",
        "stage": lake / "stage",
        "as_of": as_of,
        "end": int(midnight.timestamp()),
    }
    of_wallet = {"wallet": wallet}
    with duckdb.connect(config={"threads": THREADS}) as database:
        (features,) = rows(database, FEATURES.format(**names), of_wallet)
        links = rows(database, LINKS.format(**names), of_wallet)
        accounts = {row["account_address"]: row["since"] for row in links if row["wallet_address"] == wallet}
        borrowers = {row["wallet_address"]: row["since"] for row in links if row["account_address"] == wallet}
        of_accounts = {**of_wallet, "accounts": list(accounts), "since": list(accounts.values())}
        return {
            "wallet_address": features.pop("wallet_address"),
            "as_of": as_of,
            "features": features,
            "accounts": [{"address": address, "since": since} for address, since in accounts.items()],
            "borrowers": [{"address": address, "since": since} for address, since in borrowers.items()],
            "events": rows(database, EVENTS.format(**names), of_accounts),
            "health": rows(database, HEALTH.format(**names), of_wallet),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lake", type=Path, required=True, help="the lake with the analytics tables")
    parser.add_argument("wallet", help="the address of the wallet")
    arguments = parser.parse_args()
    print(json.dumps(wallet_data(arguments.lake, arguments.wallet), indent=2))


if __name__ == "__main__":
    main()
