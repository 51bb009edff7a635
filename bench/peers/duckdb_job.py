"""Builds the features of every wallet and the tables that they are computed from, in DuckDB.

Prices are few: they are computed once, for each day on which they apply, so that events and positions are priced by a
hash join. One COPY per category prices the events, sorts them and writes a folder per day; the file in the folder is
then moved to its path in the lake. Positions, which are most of the rows, are valued one day at a time: hash tables and
sorts that fit into the cache are faster than one large query (measured: little over half the time of one COPY with
PARTITION_BY, and a fraction of its memory). Independent statements run on two cursors, since one small statement does
not use two threads fully. The features are computed from a few columns of the written files, again with an aggregate
for each day.
"""

import datetime
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import duckdb
from lake import CATEGORIES, MARKETS, NATIVE_ETH, POSITIONS, THREADS, WETH
from lake import day_at, day_of, file_of, files_of, number_of, run_job

# The compression level of the lake.
PARQUET = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1"

# Days are integers (days since 1970) until they are written. A price applies on its day (age 0) and the seven after.
PRICES = f"""
CREATE TABLE prices AS
WITH quoted AS (
    SELECT epoch_timestamp // 86400 AS price_day, protocol, market_id, input_token_address AS token,
        input_token_decimals AS decimals, input_token_price_usd AS usd, maximum_ltv, liquidation_threshold
    FROM read_parquet($files, hive_partitioning = false)
    WHERE input_token_price_usd > 0
), eth AS (
    SELECT price_day, protocol, arg_min(usd, market_id) AS usd
    FROM quoted WHERE token = {WETH} OR token IN {NATIVE_ETH}
    GROUP BY ALL
), any_eth AS (
    SELECT price_day, arg_min(usd, protocol) AS usd FROM eth GROUP BY ALL
)
SELECT quoted.* EXCLUDE (usd), price_day + age AS day, age, 10e0 ** decimals AS unit,
    quoted.usd / coalesce(eth.usd, any_eth.usd) AS price_eth
FROM quoted JOIN any_eth USING (price_day) LEFT JOIN eth USING (price_day, protocol) CROSS JOIN range(8) AS ages(age)
"""
MARKET_PRICES = """
CREATE TABLE market_prices AS
SELECT DISTINCT ON (day, protocol, market_id) day, protocol, market_id, unit, price_eth, maximum_ltv, liquidation_threshold
FROM prices ORDER BY age
"""
# The newest price of each protocol, of the smallest market id. An event uses the price of its own protocol, or else
# that of the first other one.
TOKEN_PRICES = f"""
CREATE TABLE token_prices AS
WITH newest AS (
    SELECT DISTINCT ON (day, protocol, token) *
    FROM prices WHERE token NOT IN {NATIVE_ETH}
    ORDER BY age, market_id
), event_protocols AS (
    SELECT DISTINCT protocol FROM read_parquet($files, hive_partitioning = false)
)
SELECT DISTINCT ON (day, event_protocols.protocol, token) day, event_protocols.protocol, token, unit, price_eth,
    decimals AS token_decimals, DATE '1970-01-01' + price_day::INTEGER AS price_day,
    newest.protocol AS price_protocol, market_id AS price_market_id, liquidation_threshold
FROM newest CROSS JOIN event_protocols
ORDER BY newest.protocol <> event_protocols.protocol, newest.protocol
"""
PRICED_EVENTS = f"""
SELECT {{index}} AS index_address, transaction_hash, log_index, block_number, timestamp, epoch_timestamp, event.protocol,
    category, sender_address, account_address, market_address, token_address, quantity,
    CASE WHEN native THEN quantity::DOUBLE / 1e18 ELSE quantity::DOUBLE / unit * price.price_eth END AS quantity_eth,
    CASE WHEN native THEN 1e0 ELSE price.price_eth END AS price_eth,
    CASE WHEN native THEN 18::INTEGER ELSE token_decimals END AS token_decimals,
    price_day, price_protocol, price_market_id, liquidation_threshold,
    liquidator_address, liquidated_token_address, quantity_liquidated,
    event.day AS file_day
FROM (
    SELECT *, epoch_timestamp // 86400 AS day, token_address IN {NATIVE_ETH} AS native
    FROM read_parquet($files, hive_partitioning = false)
) AS event
LEFT JOIN token_prices AS price
    ON price.day = event.day AND price.protocol = event.protocol AND price.token = event.token_address
"""
DAILY_LINKS = """
SELECT sender_address AS wallet_address, account_address, min(timestamp) AS since,
    min(epoch_timestamp) AS since_epoch_timestamp, epoch_timestamp // 86400 AS file_day
FROM read_parquet($files, hive_partitioning = false)
GROUP BY ALL
"""
LINKS = """
CREATE TABLE links AS
SELECT sender_address AS wallet_address, account_address, min(epoch_timestamp) AS since
FROM read_parquet($files, hive_partitioning = false)
WHERE sender_address <> account_address
GROUP BY ALL
"""
# The sums of the accounts in one file, that is, in one protocol on one day.
ACCOUNTS = """
SELECT account_address, '{protocol}' AS protocol,
    coalesce(sum(amount) FILTER (NOT is_debt), 0) AS collateral_eth,
    coalesce(sum(amount * liquidation_threshold) FILTER (NOT is_debt), 0) AS threshold_weighted_collateral_eth,
    coalesce(sum(amount * maximum_ltv) FILTER (NOT is_debt), 0) AS borrow_power_eth,
    coalesce(sum(amount) FILTER (is_debt), 0) AS debt_eth
FROM (
    SELECT account_address, side = 'BORROWER' AS is_debt, balance::DOUBLE / unit * price_eth AS amount,
        liquidation_threshold, maximum_ltv
    FROM read_parquet('{file}', hive_partitioning = false)
    JOIN (FROM market_prices WHERE day = {day} AND protocol = '{protocol}') USING (market_id)
    WHERE is_collateral AND liquidation_threshold > 0 OR side = 'BORROWER'
)
GROUP BY account_address
HAVING collateral_eth > 0 OR debt_eth >= 1e-9
"""
HEALTH = """
WITH health AS MATERIALIZED (
    SELECT account_address, protocol, DATE '1970-01-01' + {day} AS day,
        collateral_eth, threshold_weighted_collateral_eth, borrow_power_eth, debt_eth,
        greatest(0e0, borrow_power_eth - debt_eth) AS available_borrows_eth,
        CASE
            WHEN debt_eth < 1e-9 THEN 0e0
            WHEN threshold_weighted_collateral_eth > 0 THEN least(debt_eth / threshold_weighted_collateral_eth, 1e6)
            ELSE 1e6
        END AS risk_factor
    FROM ({accounts})
)
SELECT account_address AS wallet_address, * FROM health
UNION ALL
SELECT wallet_address, health.* FROM health JOIN links USING (account_address) WHERE since < {day} * 86400
ORDER BY wallet_address, account_address, protocol
"""
# The snapshots of all wallets on one day.
SNAPSHOTS = """
SELECT wallet_address, sum(collateral_eth) AS collateral, sum(available_borrows_eth) AS available, max(risk_factor) AS risk,
    sum(debt_eth) AS debt, sum(debt_eth * risk_factor) AS weighted
FROM read_parquet('{file}', hive_partitioning = false)
GROUP BY wallet_address
"""
FEATURES = """
WITH events AS MATERIALIZED (
    SELECT category, sender_address, account_address, epoch_timestamp, protocol, quantity_eth
    FROM read_parquet('{analytics}/transpose/**/*.parquet', hive_partitioning = false)
), wallets AS (
    SELECT sender_address AS wallet_address FROM events UNION SELECT account_address FROM events
), by_protocol AS (
    SELECT sender_address AS wallet_address, category, protocol, count(*) AS events, count(quantity_eth) AS priced,
        sum(quantity_eth) AS eth, min(epoch_timestamp) AS first
    FROM events GROUP BY ALL
), sent AS (
    SELECT wallet_address,
        sum(events) FILTER (category = 'borrow') AS borrow_count,
        sum(eth) FILTER (category = 'borrow') AS borrow_sum,
        sum(priced) FILTER (category = 'borrow') AS borrow_priced,
        count(*) FILTER (category = 'borrow') AS borrow_protocols,
        sum(events) FILTER (category = 'repay') AS repay_count,
        sum(eth) FILTER (category = 'repay') AS repay_sum,
        sum(priced) FILTER (category = 'repay') AS repay_priced,
        sum(events) FILTER (category = 'deposit') AS deposit_count,
        sum(eth) FILTER (category = 'deposit') AS deposit_sum,
        min(first) FILTER (category = 'deposit') AS first_deposit,
        count(*) FILTER (category = 'deposit') AS deposit_protocols,
        sum(eth) FILTER (category = 'withdraw') AS withdraw_sum
    FROM by_protocol GROUP BY ALL
), seized AS (
    SELECT account_address AS wallet_address, epoch_timestamp, quantity_eth FROM events WHERE category = 'liquidation'
), liquidated AS (
    SELECT wallet_address, count(*) AS events, max(epoch_timestamp) AS last, sum(quantity_eth) AS eth
    FROM (
        FROM seized
        UNION ALL
        SELECT links.wallet_address, epoch_timestamp, quantity_eth
        FROM seized JOIN links ON links.account_address = seized.wallet_address AND links.since <= epoch_timestamp
    )
    GROUP BY ALL
), days AS (
    {days}
), now AS (
    {now}
), history AS (
    SELECT wallet_address, avg(collateral) AS collateral, avg(available) AS available, avg(risk) AS risk, max(risk) AS max_risk,
        count(*) FILTER (risk > 1e0 / 1.2e0) AS days_at_risk,
        CASE WHEN sum(debt) > 0 THEN sum(weighted) / sum(debt) ELSE 0e0 END AS weighted_risk, count(*) AS days
    FROM days GROUP BY ALL
)
SELECT wallet_address,
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
    coalesce(borrow_count, 0)::BIGINT AS borrow_count,
    coalesce(repay_sum, 0) AS repay_amount_sum_eth,
    coalesce(repay_sum / repay_priced, 0) AS repay_amount_avg_eth,
    coalesce(repay_count, 0)::BIGINT AS repay_count,
    coalesce(borrow_sum, 0) - coalesce(repay_sum, 0) AS borrow_repay_diff_eth,
    coalesce(deposit_count, 0)::BIGINT AS deposit_count,
    coalesce(deposit_sum, 0) AS deposit_amount_sum_eth,
    {end} - first_deposit AS time_since_first_deposit,
    coalesce(withdraw_sum, 0) AS withdraw_amount_sum_eth,
    greatest(0, coalesce(withdraw_sum, 0) - coalesce(deposit_sum, 0)) AS withdraw_deposit_diff_eth,
    coalesce(liquidated.events, 0) AS liquidation_count,
    {end} - liquidated.last AS time_since_last_liquidated,
    coalesce(liquidated.eth, 0) AS liquidation_amount_sum_eth,
    coalesce(borrow_protocols, 0) AS unique_borrow_protocol_count,
    coalesce(deposit_protocols, 0) AS unique_lending_protocol_count,
    now.risk IS NOT NULL AS has_health_now,
    coalesce(history.days, 0) AS health_days
FROM wallets
LEFT JOIN now USING (wallet_address) LEFT JOIN history USING (wallet_address)
LEFT JOIN sent USING (wallet_address) LEFT JOIN liquidated USING (wallet_address)
ORDER BY wallet_address
"""


def as_strings(files: Iterable[Path]) -> list[str]:
    """Returns paths as a parameter of a statement."""
    return [str(file) for file in files]


def copy_by_day(cursor: duckdb.DuckDBPyConnection, query: str, files: list[Path], folder: Path, sorted_by: str) -> None:
    """Writes the result of a query over files, partitioned by its column file_day: one sorted file per day."""
    folder.mkdir(parents=True)
    options = f"{PARQUET}, PARTITION_BY (file_day), ORDER_BY ({sorted_by})"
    cursor.execute(f"COPY ({query}) TO '{folder}' ({options})", {"files": as_strings(files)})
    for partition in folder.glob("file_day=*"):
        day = day_at(int(partition.name.partition("=")[2]))
        target = file_of(folder, day)
        for number, part in enumerate(sorted(partition.iterdir())):
            part.rename(target.with_suffix(f".{number}.parquet") if number else target)
        partition.rmdir()


def price_events(cursor: duckdb.DuckDBPyConnection, category: str, files: list[Path], analytics: Path) -> None:
    """Writes a category's events with their amounts in ETH."""
    query = PRICED_EVENTS.format(index="account_address" if category == "liquidation" else "sender_address")
    folder = analytics / f"transpose/transpose_{category}_events"
    copy_by_day(cursor, query, files, folder, "index_address, transaction_hash, log_index")


def value_positions(cursor: duckdb.DuckDBPyConnection, files: list[Path], analytics: Path) -> None:
    """Writes the health of each wallet's accounts on one day, from the files of the day."""
    day = day_of(files[0])
    accounts = " UNION ALL ".join(
        ACCOUNTS.format(protocol=file.name[11:].removesuffix(".parquet"), file=file, day=number_of(day))
        for file in files
    )
    query = HEALTH.format(accounts=accounts, day=number_of(day))
    cursor.execute(f"COPY ({query}) TO '{file_of(analytics / 'features/wallet_health_daily', day)}' ({PARQUET})")


def snapshot_queries(analytics: Path, as_of: str) -> dict[str, str]:
    """Returns queries for the snapshots of all days and of the as-of day, with one small aggregate per written file."""
    files = sorted((analytics / "features/wallet_health_daily").rglob("*.parquet"))
    days = " UNION ALL ".join(SNAPSHOTS.format(file=file) for file in files)
    now = " UNION ALL ".join(SNAPSHOTS.format(file=file) for file in files if day_of(file) == as_of)
    return {"days": days, "now": now or f"FROM ({days}) LIMIT 0"}


def on_cursors(
    database: duckdb.DuckDBPyConnection, work: Iterable[Callable[[duckdb.DuckDBPyConnection], None]]
) -> None:
    """Calls each of the functions with a new cursor, two at a time."""
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda statement: statement(database.cursor()), work))


def statements(lake: Path, analytics: Path, as_of: str, events: dict[str, list[Path]]) -> Iterator[Callable]:
    """Yields the statements that depend on the prices and links, but not on each other."""
    folder = analytics / "features/wallet_links"
    yield lambda cursor: copy_by_day(cursor, DAILY_LINKS, events["borrow"], folder, "wallet_address, account_address")
    for category, files in events.items():
        yield lambda cursor, category=category, files=files: price_events(cursor, category, files, analytics)
    for _, of_day in groupby(files_of(lake, POSITIONS, as_of), key=day_of):
        yield lambda cursor, files=list(of_day): value_positions(cursor, files, analytics)


def rebuild(lake: Path, out: Path, as_of: str) -> None:
    """Builds the analytics tables and the features as of a day from the stage tables of a lake."""
    analytics = out / "analytics"
    yesterday = str(datetime.date.fromisoformat(as_of) - datetime.timedelta(days=1))
    events = {category: files_of(lake, f"transpose/transpose_{category}_events", yesterday) for category in CATEGORIES}
    with duckdb.connect(
        config={"threads": THREADS, "memory_limit": "18GB", "preserve_insertion_order": False}
    ) as database:
        database.execute(PRICES, {"files": as_strings(files_of(lake, MARKETS, as_of))})
        database.execute(MARKET_PRICES)
        database.execute(TOKEN_PRICES, {"files": as_strings(file for files in events.values() for file in files)})
        database.execute(LINKS, {"files": as_strings(events["borrow"])})
        on_cursors(database, statements(lake, analytics, as_of, events))
        queries = snapshot_queries(analytics, as_of)
        features = FEATURES.format(**queries, analytics=analytics, end=number_of(as_of) * 86400)
        folder = analytics / f"features/defi_features/as_of={as_of}"
        folder.mkdir(parents=True)
        database.execute(f"COPY ({features}) TO '{folder / '0.parquet'}' ({PARQUET})")


if __name__ == "__main__":
    run_job(__doc__, rebuild)
