"""Builds the features of every wallet and the tables that they are computed from, in DataFusion.

Prices are few: they are computed once, for each day on which they apply, so that events and positions are priced by a
hash join. One COPY per category prices and sorts the events and writes a folder per day; the file in the folder is then
moved to its path in the lake. Positions, which are most of the rows, are valued one day at a time. What is read more
than once is a table in memory, because DataFusion computes a common table expression as often as it is named: the health
of a day's accounts, the snapshots of its wallets, and the few columns of the events that the features need.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

from datafusion import SessionConfig, SessionContext
from lake import CATEGORIES, MARKETS, NATIVE_ETH, POSITIONS, THREADS, WETH
from lake import day_at, day_of, file_of, files_of, number_of, run_job

# Compression as in the lake.
SETTINGS = {
    "datafusion.execution.parquet.compression": "zstd(1)",
    "datafusion.execution.target_partitions": str(THREADS),
}

# Days are integers (days since 1970) until they are written. A price applies on its day (age 0) and the seven after.
PRICES = f"""
CREATE TABLE prices AS
WITH quoted AS (
    SELECT epoch_timestamp / 86400 AS price_day, protocol, market_id, input_token_address AS token,
        input_token_decimals AS token_decimals, input_token_price_usd AS usd, maximum_ltv, liquidation_threshold
    FROM markets
    WHERE input_token_price_usd > 0 AND epoch_timestamp < {{end}} + 86400
), eth AS (
    SELECT price_day, protocol, first_value(usd ORDER BY market_id) AS usd
    FROM quoted WHERE token = {WETH} OR token IN {NATIVE_ETH}
    GROUP BY price_day, protocol
), any_eth AS (
    SELECT price_day, first_value(usd ORDER BY protocol) AS usd FROM eth GROUP BY price_day
)
SELECT quoted.price_day, quoted.protocol, market_id, token, token_decimals, maximum_ltv, liquidation_threshold,
    quoted.price_day + age AS day, age, power(1e1, token_decimals) AS unit,
    quoted.usd / coalesce(eth.usd, any_eth.usd) AS price_eth
FROM quoted
JOIN any_eth ON any_eth.price_day = quoted.price_day
LEFT JOIN eth ON eth.price_day = quoted.price_day AND eth.protocol = quoted.protocol
CROSS JOIN (VALUES (0), (1), (2), (3), (4), (5), (6), (7)) AS ages(age)
"""
MARKET_PRICES = """
CREATE TABLE market_prices AS
SELECT DISTINCT ON (day, protocol, market_id) day, protocol, market_id, unit, price_eth, maximum_ltv, liquidation_threshold
FROM prices ORDER BY day, protocol, market_id, age
"""
# The newest price of each protocol, of the smallest market id. An event uses the price of its own protocol, or else
# that of the first other one.
TOKEN_PRICES = f"""
CREATE TABLE token_prices AS
WITH newest AS (
    SELECT DISTINCT ON (day, protocol, token) day, protocol AS price_protocol, token, unit, price_eth, token_decimals,
        price_day, market_id AS price_market_id, liquidation_threshold
    FROM prices WHERE token NOT IN {NATIVE_ETH}
    ORDER BY day, protocol, token, age, market_id
), choices AS (
    SELECT newest.*, event_protocols.protocol, price_protocol <> event_protocols.protocol AS is_other
    FROM newest CROSS JOIN ({{event_protocols}}) AS event_protocols
)
SELECT DISTINCT ON (day, protocol, token) day, protocol, token, unit, price_eth, token_decimals,
    arrow_cast(arrow_cast(price_day, 'Int32'), 'Date32') AS price_day, price_protocol, price_market_id,
    liquidation_threshold
FROM choices ORDER BY day, protocol, token, is_other, price_protocol
"""
PRICED_EVENTS = f"""
SELECT {{index}} AS index_address, transaction_hash, log_index, block_number, timestamp, epoch_timestamp, event.protocol,
    category, sender_address, account_address, market_address, token_address, quantity,
    CASE WHEN native THEN quantity / 1e18 ELSE quantity / unit * price.price_eth END AS quantity_eth,
    CASE WHEN native THEN 1e0 ELSE price.price_eth END AS price_eth,
    CASE WHEN native THEN arrow_cast(18, 'Int32') ELSE token_decimals END AS token_decimals,
    price_day, price_protocol, price_market_id, liquidation_threshold,
    liquidator_address, liquidated_token_address, quantity_liquidated,
    event.day AS file_day
FROM (
    SELECT *, epoch_timestamp / 86400 AS day, token_address IN {NATIVE_ETH} AS native
    FROM {{category}}_events WHERE epoch_timestamp < {{end}}
) AS event
LEFT JOIN token_prices AS price
    ON price.day = event.day AND price.protocol = event.protocol AND price.token = event.token_address
ORDER BY file_day, index_address, transaction_hash, log_index
"""
DAILY_LINKS = """
SELECT sender_address AS wallet_address, account_address, min(timestamp) AS since,
    min(epoch_timestamp) AS since_epoch_timestamp, epoch_timestamp / 86400 AS file_day
FROM borrow_events WHERE epoch_timestamp < {end}
GROUP BY sender_address, account_address, epoch_timestamp / 86400
ORDER BY file_day, wallet_address, account_address
"""
LINKS = """
CREATE TABLE links AS
SELECT sender_address AS wallet_address, account_address, min(epoch_timestamp) AS since
FROM borrow_events
WHERE sender_address <> account_address AND epoch_timestamp < {end}
GROUP BY sender_address, account_address
"""
# The sums of the accounts in one file, that is, in one protocol on one day.
ACCOUNTS = """
SELECT account_address, '{protocol}' AS protocol,
    coalesce(sum(amount) FILTER (WHERE NOT is_debt), 0) AS collateral_eth,
    coalesce(sum(amount * liquidation_threshold) FILTER (WHERE NOT is_debt), 0) AS threshold_weighted_collateral_eth,
    coalesce(sum(amount * maximum_ltv) FILTER (WHERE NOT is_debt), 0) AS borrow_power_eth,
    coalesce(sum(amount) FILTER (WHERE is_debt), 0) AS debt_eth
FROM (
    SELECT account_address, side = 'BORROWER' AS is_debt, balance / unit * price_eth AS amount,
        liquidation_threshold, maximum_ltv
    FROM '{file}' AS position
    JOIN (SELECT * FROM market_prices WHERE day = {day} AND protocol = '{protocol}') AS price
        ON price.market_id = position.market_id
    WHERE is_collateral AND liquidation_threshold > 0 OR side = 'BORROWER'
)
GROUP BY account_address
HAVING collateral_eth > 0 OR debt_eth >= 1e-9
"""
HEALTH = """
CREATE TABLE health_{day} AS
SELECT account_address, protocol, arrow_cast(arrow_cast({day}, 'Int32'), 'Date32') AS day,
    collateral_eth, threshold_weighted_collateral_eth, borrow_power_eth, debt_eth,
    greatest(0e0, borrow_power_eth - debt_eth) AS available_borrows_eth,
    CASE
        WHEN debt_eth < 1e-9 THEN 0e0
        WHEN threshold_weighted_collateral_eth > 0 THEN least(debt_eth / threshold_weighted_collateral_eth, 1e6)
        ELSE 1e6
    END AS risk_factor
FROM ({accounts})
"""
WALLET_HEALTH = """
CREATE TABLE wallet_health_{day} AS
SELECT account_address AS wallet_address, * FROM health_{day}
UNION ALL
SELECT wallet_address, health.*
FROM health_{day} AS health JOIN links ON links.account_address = health.account_address WHERE since < {day} * 86400
"""
# The snapshots of all wallets on one day.
SNAPSHOTS = """
CREATE TABLE snapshots_{day} AS
SELECT wallet_address, sum(collateral_eth) AS collateral, sum(available_borrows_eth) AS available, max(risk_factor) AS risk,
    sum(debt_eth) AS debt, sum(debt_eth * risk_factor) AS weighted
FROM wallet_health_{day}
GROUP BY wallet_address
"""
FEATURES = """
WITH wallets AS (
    SELECT sender_address AS wallet_address FROM events UNION SELECT account_address FROM events
), by_protocol AS (
    SELECT sender_address AS wallet_address, category, protocol, count(*) AS events, count(quantity_eth) AS priced,
        sum(quantity_eth) AS eth, min(epoch_timestamp) AS first
    FROM events GROUP BY sender_address, category, protocol
), sent AS (
    SELECT wallet_address,
        sum(events) FILTER (WHERE category = 'borrow') AS borrow_count,
        sum(eth) FILTER (WHERE category = 'borrow') AS borrow_sum,
        sum(priced) FILTER (WHERE category = 'borrow') AS borrow_priced,
        count(*) FILTER (WHERE category = 'borrow') AS borrow_protocols,
        sum(events) FILTER (WHERE category = 'repay') AS repay_count,
        sum(eth) FILTER (WHERE category = 'repay') AS repay_sum,
        sum(priced) FILTER (WHERE category = 'repay') AS repay_priced,
        sum(events) FILTER (WHERE category = 'deposit') AS deposit_count,
        sum(eth) FILTER (WHERE category = 'deposit') AS deposit_sum,
        min(first) FILTER (WHERE category = 'deposit') AS first_deposit,
        count(*) FILTER (WHERE category = 'deposit') AS deposit_protocols,
        sum(eth) FILTER (WHERE category = 'withdraw') AS withdraw_sum
    FROM by_protocol GROUP BY wallet_address
), seized AS (
    SELECT account_address, epoch_timestamp, quantity_eth FROM events WHERE category = 'liquidation'
), liquidated AS (
    SELECT wallet_address, count(*) AS events, max(epoch_timestamp) AS last, sum(quantity_eth) AS eth
    FROM (
        SELECT account_address AS wallet_address, epoch_timestamp, quantity_eth FROM seized
        UNION ALL
        SELECT links.wallet_address, epoch_timestamp, quantity_eth
        FROM seized JOIN links ON links.account_address = seized.account_address AND links.since <= epoch_timestamp
    )
    GROUP BY wallet_address
), days AS (
    {days}
), now AS (
    {now}
), history AS (
    SELECT wallet_address, avg(collateral) AS collateral, avg(available) AS available, avg(risk) AS risk, max(risk) AS max_risk,
        count(*) FILTER (WHERE risk > 1e0 / 1.2e0) AS days_at_risk,
        CASE WHEN sum(debt) > 0 THEN sum(weighted) / sum(debt) ELSE 0e0 END AS weighted_risk, count(*) AS days
    FROM days GROUP BY wallet_address
)
SELECT wallets.wallet_address,
    coalesce(now.risk, 0) AS risk_factor,
    coalesce(now.collateral, 0) AS total_collateral_eth,
    coalesce(history.collateral, 0) AS total_collateral_avg_eth,
    coalesce(now.available, 0) AS total_available_borrows_eth,
    coalesce(history.available, 0) AS total_available_borrows_avg_eth,
    coalesce(weighted_risk, 0) AS avg_weighted_risk_factor,
    coalesce(days_at_risk, 0) AS risk_factor_above_threshold_daily_count,
    coalesce(history.risk, 0) AS avg_risk_factor,
    coalesce(max_risk, 0) AS max_risk_factor,
    coalesce(borrow_sum, 0) AS borrow_amount_sum_eth,
    coalesce(borrow_sum / borrow_priced, 0) AS borrow_amount_avg_eth,
    coalesce(borrow_count, 0) AS borrow_count,
    coalesce(repay_sum, 0) AS repay_amount_sum_eth,
    coalesce(repay_sum / repay_priced, 0) AS repay_amount_avg_eth,
    coalesce(repay_count, 0) AS repay_count,
    coalesce(borrow_sum, 0) - coalesce(repay_sum, 0) AS borrow_repay_diff_eth,
    coalesce(deposit_count, 0) AS deposit_count,
    coalesce(deposit_sum, 0) AS deposit_amount_sum_eth,
    {end} - first_deposit AS time_since_first_deposit,
    coalesce(withdraw_sum, 0) AS withdraw_amount_sum_eth,
    greatest(0e0, coalesce(withdraw_sum, 0) - coalesce(deposit_sum, 0)) AS withdraw_deposit_diff_eth,
    coalesce(liquidated.events, 0) AS liquidation_count,
    {end} - liquidated.last AS time_since_last_liquidated,
    coalesce(liquidated.eth, 0) AS liquidation_amount_sum_eth,
    coalesce(borrow_protocols, 0) AS unique_borrow_protocol_count,
    coalesce(deposit_protocols, 0) AS unique_lending_protocol_count,
    now.risk IS NOT NULL AS has_health_now,
    coalesce(history.days, 0) AS health_days
FROM wallets
LEFT JOIN now ON now.wallet_address = wallets.wallet_address
LEFT JOIN history ON history.wallet_address = wallets.wallet_address
LEFT JOIN sent ON sent.wallet_address = wallets.wallet_address
LEFT JOIN liquidated ON liquidated.wallet_address = wallets.wallet_address
ORDER BY wallets.wallet_address
"""


def run(context: SessionContext, statement: str) -> None:
    """Runs a statement without a result."""
    context.sql(statement).collect()


def copy_by_day(context: SessionContext, query: str, folder: Path) -> None:
    """Writes the result of a query, partitioned by its column file_day: one file per day."""
    run(context, f"COPY ({query}) TO '{folder}/' STORED AS PARQUET PARTITIONED BY (file_day)")
    for partition in folder.glob("file_day=*"):
        day = day_at(int(partition.name.partition("=")[2]))
        (file,) = partition.iterdir()
        file.rename(file_of(folder, day))
        partition.rmdir()


def value_positions(context: SessionContext, files: list[Path], analytics: Path) -> None:
    """Writes the health of each wallet's accounts on one day, from the files of the day, and keeps the snapshots."""
    day = number_of(day_of(files[0]))
    accounts = " UNION ALL ".join(
        ACCOUNTS.format(protocol=file.name[11:].removesuffix(".parquet"), file=file, day=day) for file in files
    )
    run(context, HEALTH.format(accounts=accounts, day=day))
    run(context, WALLET_HEALTH.format(day=day))
    file = file_of(analytics / "features/wallet_health_daily", day_of(files[0]))
    rows = f"SELECT * FROM wallet_health_{day} ORDER BY wallet_address, account_address, protocol"
    run(context, f"COPY ({rows}) TO '{file}' STORED AS PARQUET")
    run(context, SNAPSHOTS.format(day=day))
    for table in ("health", "wallet_health"):
        run(context, f"DROP TABLE {table}_{day}")


def each(pool: ThreadPoolExecutor, context: SessionContext, work: Iterable[tuple]) -> None:
    """Calls each of the functions with its arguments, two at a time."""
    list(pool.map(lambda call: call[0](context, *call[1:]), work))


def union_of(tables: Iterable[str]) -> str:
    """Returns a query with the rows of all tables."""
    return " UNION ALL ".join(f"SELECT * FROM {table}" for table in tables)


def rebuild(lake: Path, out: Path, as_of: str) -> None:
    """Builds the analytics tables and the features as of a day from the stage tables of a lake."""
    analytics, end = out / "analytics", number_of(as_of) * 86400
    context = SessionContext(SessionConfig(SETTINGS)).enable_url_table()
    context.register_parquet("markets", lake / "stage" / MARKETS)
    for category in CATEGORIES:
        context.register_parquet(f"{category}_events", lake / f"stage/transpose/transpose_{category}_events")
    run(context, PRICES.format(end=end))
    run(context, MARKET_PRICES)
    event_protocols = " UNION ".join(
        f"SELECT protocol FROM {category}_events WHERE epoch_timestamp < {end}" for category in CATEGORIES
    )
    run(context, TOKEN_PRICES.format(event_protocols=event_protocols))
    run(context, LINKS.format(end=end))
    work = [(copy_by_day, DAILY_LINKS.format(end=end), analytics / "features/wallet_links")]
    for category in CATEGORIES:
        index = "account_address" if category == "liquidation" else "sender_address"
        query = PRICED_EVENTS.format(index=index, category=category, end=end)
        work.append((copy_by_day, query, analytics / f"transpose/transpose_{category}_events"))
    days = {day: list(files) for day, files in groupby(files_of(lake, POSITIONS, as_of), key=day_of)}
    work += [(value_positions, files, analytics) for files in days.values()]
    with ThreadPoolExecutor(THREADS) as pool:
        each(pool, context, work)
    for category in CATEGORIES:
        context.register_parquet(f"priced_{category}", analytics / f"transpose/transpose_{category}_events")
    columns = "category, sender_address, account_address, epoch_timestamp, protocol, quantity_eth"
    events = " UNION ALL ".join(f"SELECT {columns} FROM priced_{category}" for category in CATEGORIES)
    run(context, f"CREATE TABLE events AS {events}")
    snapshots = [f"snapshots_{number_of(day)}" for day in days]
    now = f"SELECT * FROM snapshots_{number_of(as_of)}" if as_of in days else f"{union_of(snapshots)} LIMIT 0"
    features = FEATURES.format(days=union_of(snapshots), now=now, end=end)
    folder = analytics / f"features/defi_features/as_of={as_of}"
    folder.mkdir(parents=True)
    run(context, f"COPY ({features}) TO '{folder / '0.parquet'}' STORED AS PARQUET")


if __name__ == "__main__":
    run_job(__doc__, rebuild)
