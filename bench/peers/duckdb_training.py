"""Writes one row per borrow with the features of the wallet as of just before the borrow's block, in DuckDB.

Running totals of each wallet are windows over its events and its daily health. An ASOF join takes the newest of them
before the block of the borrow. Only wallets that borrow have totals.
"""

import argparse
from pathlib import Path

import duckdb

THREADS = 2

# The events that count for a wallet: those that it sent, and liquidations of its accounts. The first borrow and the first
# deposit on a protocol have a second row, so that protocols are counted like events.
EVENTS = """
CREATE TABLE events AS
WITH sent AS (
    SELECT sender_address AS wallet_address, category, protocol, block_number, epoch_timestamp, quantity_eth
    FROM read_parquet($events, hive_partitioning = false)
    WHERE category <> 'liquidation' AND sender_address IN (SELECT wallet_address FROM borrows)
), seized AS (
    SELECT account_address, category, protocol, block_number, epoch_timestamp, quantity_eth
    FROM read_parquet($events, hive_partitioning = false)
    WHERE category = 'liquidation'
), links AS (
    SELECT wallet_address, account_address, min(since_epoch_timestamp) AS since
    FROM read_parquet($links, hive_partitioning = false)
    WHERE wallet_address <> account_address
    GROUP BY ALL
)
FROM sent
UNION ALL
SELECT wallet_address, category || '_protocol', protocol, min(block_number), NULL, NULL
FROM sent WHERE category IN ('borrow', 'deposit') GROUP BY ALL
UNION ALL
SELECT account_address, * EXCLUDE (account_address) FROM seized
WHERE account_address IN (SELECT wallet_address FROM borrows)
UNION ALL
SELECT wallet_address, seized.* EXCLUDE (account_address)
FROM seized JOIN links ON links.account_address = seized.account_address AND since <= epoch_timestamp
"""
BORROWS = """
CREATE TABLE borrows AS
SELECT sender_address AS wallet_address, timestamp AS time, block_number, transaction_hash, log_index,
    protocol AS borrow_protocol, token_address AS borrow_token_address, quantity_eth AS borrow_amount_eth, epoch_timestamp
FROM read_parquet($borrows, hive_partitioning = false)
"""
BLOCKS = """
CREATE TABLE blocks AS SELECT day, block_number FROM read_parquet($blocks, hive_partitioning = false)
"""
# Rows of one block have equal totals, because a window over ordered rows ends with the last row of equal order.
ROWS = """
WITH totals AS (
    SELECT wallet_address, block_number,
        count(*) FILTER (category = 'borrow') OVER so_far AS borrow_count,
        sum(quantity_eth) FILTER (category = 'borrow') OVER so_far AS borrow_sum,
        avg(quantity_eth) FILTER (category = 'borrow') OVER so_far AS borrow_avg,
        count(*) FILTER (category = 'repay') OVER so_far AS repay_count,
        sum(quantity_eth) FILTER (category = 'repay') OVER so_far AS repay_sum,
        avg(quantity_eth) FILTER (category = 'repay') OVER so_far AS repay_avg,
        count(*) FILTER (category = 'deposit') OVER so_far AS deposit_count,
        sum(quantity_eth) FILTER (category = 'deposit') OVER so_far AS deposit_sum,
        min(epoch_timestamp) FILTER (category = 'deposit') OVER so_far AS first_deposit,
        sum(quantity_eth) FILTER (category = 'withdraw') OVER so_far AS withdraw_sum,
        count(*) FILTER (category = 'liquidation') OVER so_far AS liquidation_count,
        max(epoch_timestamp) FILTER (category = 'liquidation') OVER so_far AS last_liquidation,
        sum(quantity_eth) FILTER (category = 'liquidation') OVER so_far AS liquidation_sum,
        count(*) FILTER (category = 'borrow_protocol') OVER so_far AS borrow_protocols,
        count(*) FILTER (category = 'deposit_protocol') OVER so_far AS deposit_protocols
    FROM events
    WINDOW so_far AS (PARTITION BY wallet_address ORDER BY block_number)
), days AS (
    SELECT wallet_address, day, sum(collateral_eth) AS collateral, sum(available_borrows_eth) AS available,
        max(risk_factor) AS risk, sum(debt_eth) AS debt, sum(debt_eth * risk_factor) AS weighted
    FROM read_parquet($health, hive_partitioning = false)
    WHERE wallet_address IN (SELECT wallet_address FROM borrows)
    GROUP BY ALL
), history AS (
    SELECT wallet_address, day, block_number, collateral, available, risk,
        avg(collateral) OVER so_far AS collateral_avg, avg(available) OVER so_far AS available_avg,
        avg(risk) OVER so_far AS risk_avg, max(risk) OVER so_far AS risk_max,
        count(*) FILTER (risk > 1e0 / 1.2e0) OVER so_far AS days_at_risk, count(*) OVER so_far AS days,
        sum(weighted) OVER so_far AS weighted_sum, sum(debt) OVER so_far AS debt_sum
    FROM days JOIN blocks USING (day)
    WINDOW so_far AS (PARTITION BY wallet_address ORDER BY day)
)
SELECT borrows.wallet_address, time, borrows.block_number, transaction_hash, log_index, blocks.day AS snapshot_day,
    borrow_protocol, borrow_token_address, borrow_amount_eth,
    CASE WHEN is_now THEN risk ELSE 0 END AS risk_factor,
    CASE WHEN is_now THEN collateral ELSE 0 END AS total_collateral_eth,
    coalesce(collateral_avg, 0) AS total_collateral_avg_eth,
    CASE WHEN is_now THEN available ELSE 0 END AS total_available_borrows_eth,
    coalesce(available_avg, 0) AS total_available_borrows_avg_eth,
    CASE WHEN debt_sum > 0 THEN weighted_sum / debt_sum ELSE 0 END AS avg_weighted_risk_factor,
    coalesce(days_at_risk, 0) AS risk_factor_above_threshold_daily_count,
    coalesce(risk_avg, 0) AS avg_risk_factor,
    coalesce(risk_max, 0) AS max_risk_factor,
    coalesce(borrow_sum, 0) AS borrow_amount_sum_eth,
    coalesce(borrow_avg, 0) AS borrow_amount_avg_eth,
    coalesce(borrow_count, 0) AS borrow_count,
    coalesce(repay_sum, 0) AS repay_amount_sum_eth,
    coalesce(repay_avg, 0) AS repay_amount_avg_eth,
    coalesce(repay_count, 0) AS repay_count,
    coalesce(borrow_sum, 0) - coalesce(repay_sum, 0) AS borrow_repay_diff_eth,
    coalesce(deposit_count, 0) AS deposit_count,
    coalesce(deposit_sum, 0) AS deposit_amount_sum_eth,
    epoch_timestamp - first_deposit AS time_since_first_deposit,
    coalesce(withdraw_sum, 0) AS withdraw_amount_sum_eth,
    greatest(0, coalesce(withdraw_sum, 0) - coalesce(deposit_sum, 0)) AS withdraw_deposit_diff_eth,
    coalesce(liquidation_count, 0) AS liquidation_count,
    epoch_timestamp - last_liquidation AS time_since_last_liquidated,
    coalesce(liquidation_sum, 0) AS liquidation_amount_sum_eth,
    coalesce(borrow_protocols, 0) AS unique_borrow_protocol_count,
    coalesce(deposit_protocols, 0) AS unique_lending_protocol_count,
    is_now AS has_health_now,
    coalesce(days, 0) AS health_days
FROM borrows
ASOF LEFT JOIN blocks ON borrows.block_number > blocks.block_number
ASOF LEFT JOIN totals ON totals.wallet_address = borrows.wallet_address AND borrows.block_number > totals.block_number
ASOF LEFT JOIN history ON history.wallet_address = borrows.wallet_address AND borrows.block_number > history.block_number
CROSS JOIN LATERAL (SELECT coalesce(history.day = blocks.day, false) AS is_now)
ORDER BY borrows.block_number, log_index
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lake", type=Path, required=True, help="the lake with the analytics tables")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the Parquet file to write")
    arguments = parser.parse_args()
    lake = arguments.lake
    files = {
        "events": f"{lake}/analytics/transpose/*/*/*/*.parquet",
        "borrows": f"{lake}/analytics/transpose/transpose_borrow_events/*/*/*.parquet",
        "links": f"{lake}/analytics/features/wallet_links/*/*/*.parquet",
        "health": f"{lake}/analytics/features/wallet_health_daily/*/*/*.parquet",
        "blocks": f"{lake}/raw/transpose/ethereum_daily_blocks/*/*/*.parquet",
    }
    with duckdb.connect(config={"threads": THREADS, "memory_limit": "18GB"}) as database:
        database.execute(BORROWS, {"borrows": files["borrows"]})
        database.execute(BLOCKS, {"blocks": files["blocks"]})
        database.execute(EVENTS, {name: files[name] for name in ("events", "links")})
        query = ROWS.replace("$health", f"'{files['health']}'")
        database.execute(f"COPY ({query}) TO '{arguments.out}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)")


if __name__ == "__main__":
    main()
