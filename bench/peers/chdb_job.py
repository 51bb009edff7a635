"""Builds the features of every wallet and the tables that they are computed from, in chDB, the embedded ClickHouse.

Prices are few: they are computed once, for each day on which they apply, so that events and positions are priced by a
hash join. One INSERT per category prices and sorts the events and writes a file per day. Positions, which are most of
the rows, are valued one day at a time. The links of an account are an array beside its health, so that a row for each
wallet is made without a second join. The snapshots of a day are aggregated from the file that was written.
"""

from itertools import groupby
from pathlib import Path

import chdb
from chdb.state.sqlitelike import Connection
from lake import CATEGORIES, MARKETS, NATIVE_ETH, POSITIONS, THREADS, WETH, day_of, file_of, files_of, number_of, run_job

# Compression as in the lake, and NULL instead of a default value where a join finds nothing.
SETTINGS = {
    "max_threads": THREADS,
    "output_format_parquet_compression_method": "'zstd'",
    "output_format_compression_level": 1,
    "join_use_nulls": 1,
    "use_hive_partitioning": 0,
}

# Days are integers (days since 1970) until they are written. A price applies on its day (age 0) and the seven after.
PRICES = f"""
CREATE TABLE prices ENGINE = Memory AS
WITH quoted AS (
    SELECT intDiv(epoch_timestamp, 86400) AS price_day, protocol, market_id, input_token_address AS token,
        input_token_decimals AS token_decimals, input_token_price_usd AS usd, maximum_ltv, liquidation_threshold
    FROM {{markets}}
    WHERE input_token_price_usd > 0 AND epoch_timestamp < {{end}} + 86400
), eth AS (
    SELECT price_day, protocol, argMin(usd, market_id) AS usd
    FROM quoted WHERE token = {WETH} OR token IN {NATIVE_ETH}
    GROUP BY price_day, protocol
), any_eth AS (
    SELECT price_day, argMin(usd, protocol) AS usd FROM eth GROUP BY price_day
)
SELECT quoted.price_day AS price_day, quoted.protocol AS protocol, market_id, token, token_decimals, maximum_ltv,
    liquidation_threshold, price_day + age AS day, age, exp10(token_decimals) AS unit,
    quoted.usd / coalesce(eth.usd, any_eth.usd) AS price_eth
FROM quoted
JOIN any_eth ON any_eth.price_day = quoted.price_day
LEFT JOIN eth ON eth.price_day = quoted.price_day AND eth.protocol = quoted.protocol
ARRAY JOIN range(8) AS age
"""
MARKET_PRICES = """
CREATE TABLE market_prices ENGINE = Memory AS
SELECT day, protocol, market_id, unit, price_eth, maximum_ltv, liquidation_threshold
FROM prices ORDER BY age LIMIT 1 BY day, protocol, market_id
"""
# The newest price of each protocol, of the smallest market id. An event uses the price of its own protocol, or else
# that of the first other one.
TOKEN_PRICES = f"""
CREATE TABLE token_prices ENGINE = Memory AS
WITH newest AS (
    SELECT * FROM prices WHERE token NOT IN {NATIVE_ETH}
    ORDER BY age, market_id LIMIT 1 BY day, protocol, token
), event_protocols AS (
    SELECT DISTINCT protocol FROM {{events}} WHERE epoch_timestamp < {{end}}
)
SELECT day, event_protocols.protocol AS protocol, token, unit, price_eth, token_decimals,
    toDate32(toInt32(newest.price_day)) AS price_day, newest.protocol AS price_protocol, market_id AS price_market_id,
    liquidation_threshold
FROM newest CROSS JOIN event_protocols
ORDER BY newest.protocol <> event_protocols.protocol, newest.protocol
LIMIT 1 BY day, protocol, token
"""
PRICED_EVENTS = f"""
SELECT {{index}} AS index_address, transaction_hash, log_index, block_number, timestamp, epoch_timestamp,
    event.protocol AS protocol, category, sender_address, account_address, market_address, token_address, quantity,
    multiIf(native, toFloat64(quantity) / 1e18, toFloat64(quantity) / unit * price.price_eth) AS quantity_eth,
    multiIf(native, 1., price.price_eth) AS price_eth,
    multiIf(native, toInt32(18), token_decimals) AS token_decimals,
    price_day, price_protocol, price_market_id, liquidation_threshold,
    liquidator_address, liquidated_token_address, quantity_liquidated
FROM (
    SELECT *, intDiv(epoch_timestamp, 86400) AS day, token_address IN {NATIVE_ETH} AS native
    FROM {{events}} WHERE epoch_timestamp < {{end}}
) AS event
LEFT ANY JOIN token_prices AS price
    ON price.day = event.day AND price.protocol = event.protocol AND price.token = event.token_address
ORDER BY index_address, transaction_hash, log_index
"""
DAILY_LINKS = """
SELECT sender_address AS wallet_address, account_address, min(timestamp) AS since,
    min(epoch_timestamp) AS since_epoch_timestamp
FROM {events} WHERE epoch_timestamp < {end}
GROUP BY wallet_address, account_address, intDiv(epoch_timestamp, 86400)
ORDER BY wallet_address, account_address
"""
LINKS = """
CREATE TABLE links ENGINE = Memory AS
SELECT sender_address AS wallet_address, account_address, min(epoch_timestamp) AS since
FROM {events}
WHERE sender_address <> account_address AND epoch_timestamp < {end}
GROUP BY wallet_address, account_address
"""
# The sums of the accounts in one file, that is, in one protocol on one day.
ACCOUNTS = """
SELECT account_address, '{protocol}' AS protocol,
    coalesce(sumIf(amount, NOT is_debt), 0) AS collateral_eth,
    coalesce(sumIf(amount * liquidation_threshold, NOT is_debt), 0) AS threshold_weighted_collateral_eth,
    coalesce(sumIf(amount * maximum_ltv, NOT is_debt), 0) AS borrow_power_eth,
    coalesce(sumIf(amount, is_debt), 0) AS debt_eth
FROM (
    SELECT account_address, side = 'BORROWER' AS is_debt, toFloat64(balance) / unit * price_eth AS amount,
        liquidation_threshold, maximum_ltv
    FROM {file} AS position
    JOIN (SELECT * FROM market_prices WHERE day = {day} AND protocol = '{protocol}') AS price USING (market_id)
    WHERE is_collateral AND liquidation_threshold > 0 OR side = 'BORROWER'
)
GROUP BY account_address
HAVING collateral_eth > 0 OR debt_eth >= 1e-9
"""
WALLET_HEALTH = """
SELECT wallet_address, account_address, protocol, toDate32({day}) AS day,
    collateral_eth, threshold_weighted_collateral_eth, borrow_power_eth, debt_eth,
    greatest(0., borrow_power_eth - debt_eth) AS available_borrows_eth,
    multiIf(
        debt_eth < 1e-9, 0.,
        threshold_weighted_collateral_eth > 0, least(debt_eth / threshold_weighted_collateral_eth, 1e6),
        1e6
    ) AS risk_factor
FROM ({accounts}) AS health
LEFT ANY JOIN (
    SELECT account_address, groupArray(wallet_address) AS wallets FROM links WHERE since < {day} * 86400
    GROUP BY account_address
) AS linked USING (account_address)
ARRAY JOIN arrayPushFront(wallets, account_address) AS wallet_address
ORDER BY wallet_address, account_address, protocol
"""
# The snapshots of all wallets on one day.
SNAPSHOTS = """
CREATE TABLE snapshots (
    wallet_address String, day Int32, collateral Float64, available Float64, risk Float64, debt Float64, weighted Float64
) ENGINE = Memory
"""
SNAPSHOTS_OF_DAY = """
INSERT INTO snapshots
SELECT wallet_address, {day}, sum(collateral_eth), sum(available_borrows_eth), max(risk_factor), sum(debt_eth),
    sum(debt_eth * risk_factor)
FROM {file}
GROUP BY wallet_address
"""
FEATURES = """
WITH wallets AS (
    SELECT DISTINCT arrayJoin([sender_address, account_address]) AS wallet_address FROM {events}
), sent AS (
    SELECT sender_address AS wallet_address,
        countIf(category = 'borrow') AS borrow_count,
        sumIf(quantity_eth, category = 'borrow') AS borrow_sum,
        avgIf(quantity_eth, category = 'borrow') AS borrow_avg,
        uniqExactIf(protocol, category = 'borrow') AS borrow_protocols,
        countIf(category = 'repay') AS repay_count,
        sumIf(quantity_eth, category = 'repay') AS repay_sum,
        avgIf(quantity_eth, category = 'repay') AS repay_avg,
        countIf(category = 'deposit') AS deposit_count,
        sumIf(quantity_eth, category = 'deposit') AS deposit_sum,
        minOrNullIf(epoch_timestamp, category = 'deposit') AS first_deposit,
        uniqExactIf(protocol, category = 'deposit') AS deposit_protocols,
        sumIf(quantity_eth, category = 'withdraw') AS withdraw_sum
    FROM {events} GROUP BY wallet_address
), liquidated AS (
    SELECT wallet_address, count() AS events, max(epoch_timestamp) AS last, sum(quantity_eth) AS eth
    FROM (
        SELECT account_address AS wallet_address, epoch_timestamp, quantity_eth FROM {seized}
        UNION ALL
        SELECT links.wallet_address AS wallet_address, epoch_timestamp, quantity_eth
        FROM {seized} AS seized JOIN links ON links.account_address = seized.account_address
        WHERE links.since <= epoch_timestamp
    )
    GROUP BY wallet_address
), history AS (
    SELECT wallet_address, avg(collateral) AS collateral_avg, avg(available) AS available_avg, avg(risk) AS risk_avg,
        max(risk) AS risk_max,
        countIf(risk > 1 / 1.2) AS days_at_risk, if(sum(debt) > 0, sum(weighted) / sum(debt), 0) AS weighted_risk,
        count() AS days, countIf(day = {as_of}) > 0 AS has_now,
        sumIf(risk, day = {as_of}) AS risk_now, sumIf(collateral, day = {as_of}) AS collateral_now,
        sumIf(available, day = {as_of}) AS available_now
    FROM snapshots GROUP BY wallet_address
)
SELECT wallet_address,
    coalesce(risk_now, 0) AS risk_factor,
    coalesce(collateral_now, 0) AS total_collateral_eth,
    coalesce(collateral_avg, 0) AS total_collateral_avg_eth,
    coalesce(available_now, 0) AS total_available_borrows_eth,
    coalesce(available_avg, 0) AS total_available_borrows_avg_eth,
    coalesce(weighted_risk, 0) AS avg_weighted_risk_factor,
    toInt64(coalesce(days_at_risk, 0)) AS risk_factor_above_threshold_daily_count,
    coalesce(risk_avg, 0) AS avg_risk_factor,
    coalesce(risk_max, 0) AS max_risk_factor,
    coalesce(borrow_sum, 0) AS borrow_amount_sum_eth,
    ifNotFinite(coalesce(borrow_avg, 0), 0) AS borrow_amount_avg_eth,
    toInt64(coalesce(sent.borrow_count, 0)) AS borrow_count,
    coalesce(repay_sum, 0) AS repay_amount_sum_eth,
    ifNotFinite(coalesce(repay_avg, 0), 0) AS repay_amount_avg_eth,
    toInt64(coalesce(sent.repay_count, 0)) AS repay_count,
    coalesce(borrow_sum, 0) - coalesce(repay_sum, 0) AS borrow_repay_diff_eth,
    toInt64(coalesce(sent.deposit_count, 0)) AS deposit_count,
    coalesce(deposit_sum, 0) AS deposit_amount_sum_eth,
    {end} - first_deposit AS time_since_first_deposit,
    coalesce(withdraw_sum, 0) AS withdraw_amount_sum_eth,
    greatest(0., coalesce(withdraw_sum, 0) - coalesce(deposit_sum, 0)) AS withdraw_deposit_diff_eth,
    toInt64(coalesce(liquidated.events, 0)) AS liquidation_count,
    {end} - liquidated.last AS time_since_last_liquidated,
    coalesce(liquidated.eth, 0) AS liquidation_amount_sum_eth,
    toInt64(coalesce(borrow_protocols, 0)) AS unique_borrow_protocol_count,
    toInt64(coalesce(deposit_protocols, 0)) AS unique_lending_protocol_count,
    CAST(coalesce(has_now, 0), 'Bool') AS has_health_now,
    toInt64(coalesce(history.days, 0)) AS health_days
FROM wallets
LEFT ANY JOIN history USING (wallet_address)
LEFT ANY JOIN sent USING (wallet_address)
LEFT ANY JOIN liquidated USING (wallet_address)
ORDER BY wallet_address
"""


def relation(files: Path) -> str:
    """Returns a table function with the rows of a file, or of all files that match a pattern."""
    return f"file('{files}', 'Parquet')"


def of_table(folder: Path) -> str:
    """Returns a table function with the rows of a table."""
    return relation(folder / "**/*.parquet")


def insert_by_day(connection: Connection, query: str, folder: Path, time: str) -> None:
    """Writes the result of a query, partitioned by the day of a time: one sorted file per day."""
    partition = f"formatDateTime({time}, 'year=%Y/month=%m/%F', 'UTC')"
    target = relation(folder / "{_partition_id}.parquet")
    connection.query(f"INSERT INTO FUNCTION {target} PARTITION BY {partition} {query}")


def value_positions(connection: Connection, files: list[Path], analytics: Path) -> None:
    """Writes the health of each wallet's accounts on one day, from the files of the day, and keeps the snapshots."""
    day = day_of(files[0])
    target = file_of(analytics / "features/wallet_health_daily", day)
    accounts = " UNION ALL ".join(
        ACCOUNTS.format(protocol=file.name[11:].removesuffix(".parquet"), file=relation(file), day=number_of(day))
        for file in files
    )
    query = WALLET_HEALTH.format(accounts=accounts, day=number_of(day))
    connection.query(f"INSERT INTO FUNCTION {relation(target)} {query}")
    connection.query(SNAPSHOTS_OF_DAY.format(file=relation(target), day=number_of(day)))


def rebuild(lake: Path, out: Path, as_of: str) -> None:
    """Builds the analytics tables and the features as of a day from the stage tables of a lake."""
    analytics, end = out / "analytics", number_of(as_of) * 86400
    events = {category: of_table(lake / f"stage/transpose/transpose_{category}_events") for category in CATEGORIES}
    connection = chdb.connect(":memory:")
    for name, value in SETTINGS.items():
        connection.query(f"SET {name} = {value}")
    connection.query(PRICES.format(markets=of_table(lake / "stage" / MARKETS), end=end))
    connection.query(MARKET_PRICES)
    connection.query(TOKEN_PRICES.format(events=of_table(lake / "stage/transpose"), end=end))
    connection.query(LINKS.format(events=events["borrow"], end=end))
    daily_links = DAILY_LINKS.format(events=events["borrow"], end=end)
    insert_by_day(connection, daily_links, analytics / "features/wallet_links", "since")
    for category in CATEGORIES:
        index = "account_address" if category == "liquidation" else "sender_address"
        query = PRICED_EVENTS.format(index=index, events=events[category], end=end)
        insert_by_day(connection, query, analytics / f"transpose/transpose_{category}_events", "timestamp")
    connection.query(SNAPSHOTS)
    for _, files in groupby(files_of(lake, POSITIONS, as_of), key=day_of):
        value_positions(connection, list(files), analytics)
    priced = of_table(analytics / "transpose")
    seized = of_table(analytics / "transpose/transpose_liquidation_events")
    features = FEATURES.format(events=priced, seized=seized, as_of=number_of(as_of), end=end)
    target = relation(analytics / f"features/defi_features/as_of={as_of}/0.parquet")
    connection.query(f"INSERT INTO FUNCTION {target} {features}")


if __name__ == "__main__":
    run_job(__doc__, rebuild)
