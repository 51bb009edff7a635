"""Builds the features of every wallet and the tables that they are computed from, in Polars.

Each query processes one day, and two days are processed in parallel. A file of the lake is one day (and protocol), so
that a query over it needs no day in its keys, and its frames fit into the cache (measured: two thirds of the time, and
less than half of the memory, of one streaming query over all days with a partitioned sink). Files are sorted by
account, and `set_sorted` tells Polars so: grouping by sorted keys needs no hash table, and the remaining sorts are of a
few sorted runs. Prices are few: they are computed once, for each day on which they apply, so that events and positions
are priced by a hash join. The few columns of each day that the features need stay in memory; for those, the streaming
engine is faster.
"""

import argparse
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from itertools import groupby
from pathlib import Path

import polars as pl
from polars import col

THREADS = 2
CATEGORIES = ("borrow", "deposit", "liquidation", "repay", "withdraw")
MARKETS = "the_graph/the_graph_historical_market_data"
POSITIONS = "the_graph/the_graph_historical_account_positions"
EPOCH = date(1970, 1, 1)
NATIVE_ETH = ["0x0000000000000000000000000000000000000000", "0xeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"]
ETH = ["0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2", *NATIVE_ETH]
PRICED_EVENT = """
    index_address transaction_hash log_index block_number timestamp epoch_timestamp protocol category sender_address
    account_address market_address token_address quantity quantity_eth price_eth token_decimals price_day price_protocol
    price_market_id liquidation_threshold liquidator_address liquidated_token_address quantity_liquidated
""".split()
WALLET_HEALTH = """
    wallet_address account_address protocol day collateral_eth threshold_weighted_collateral_eth borrow_power_eth debt_eth
    available_borrows_eth risk_factor
""".split()
FEATURES = """
    wallet_address risk_factor total_collateral_eth total_collateral_avg_eth total_available_borrows_eth
    total_available_borrows_avg_eth avg_weighted_risk_factor risk_factor_above_threshold_daily_count avg_risk_factor
    max_risk_factor borrow_amount_sum_eth borrow_amount_avg_eth borrow_count repay_amount_sum_eth repay_amount_avg_eth
    repay_count borrow_repay_diff_eth deposit_count deposit_amount_sum_eth time_since_first_deposit withdraw_amount_sum_eth
    withdraw_deposit_diff_eth liquidation_count time_since_last_liquidated liquidation_amount_sum_eth
    unique_borrow_protocol_count unique_lending_protocol_count has_health_now health_days
""".split()
TIMES = ["time_since_first_deposit", "time_since_last_liquidated"]


def day_of(file: Path) -> date:
    """Returns the day of a file of the lake."""
    return date.fromisoformat(file.name[:10])


def start_of(day: date) -> int:
    """Returns the start of a day in epoch seconds."""
    return (day - EPOCH).days * 86400


def files_of(lake: Path, table: str, last: date) -> list[Path]:
    """Returns the files of a stage table up to a day, in order."""
    files = sorted((lake / "stage" / table).glob("year=*/month=*/*.parquet"))
    return [file for file in files if day_of(file) <= last]


def scan(files: Path | list[Path]) -> pl.LazyFrame:
    """Scans files of the lake."""
    return pl.scan_parquet(files, hive_partitioning=False)


def collect(query: pl.LazyFrame) -> pl.DataFrame:
    """Collects a query in memory. The start of the streaming engine does not pay off for the rows of one day."""
    return query.collect(engine="in-memory")


def write(rows: pl.DataFrame, analytics: Path, table: str, day: date) -> None:
    """Writes the file of a table and day, with the compression of the lake."""
    rows.write_parquet(analytics / table / f"{day:year=%Y/month=%m}/{day}.parquet", compression_level=1, mkdir=True)


def prices(files: list[Path]) -> pl.DataFrame:
    """Returns each price for each day on which it applies: its own and the seven days after. Preferred ones first."""
    quoted = collect(
        scan(files)
        .filter(col("input_token_price_usd") > 0)
        .select(
            (col("epoch_timestamp") // 86400).cast(pl.Int32).cast(pl.Date).alias("price_day"),
            "protocol",
            "market_id",
            "maximum_ltv",
            "liquidation_threshold",
            token="input_token_address",
            token_decimals="input_token_decimals",
            usd="input_token_price_usd",
        )
        .sort("protocol", "market_id")
    )
    eth = quoted.filter(col("token").is_in(ETH)).rename({"usd": "eth_usd"})
    own_eth = eth.unique(["price_day", "protocol"], keep="first", maintain_order=True)
    any_eth = own_eth.unique(["price_day"], keep="first", maintain_order=True)
    return (
        quoted.join(any_eth.select("price_day", any_usd="eth_usd"), on="price_day")
        .join(own_eth.select("price_day", "protocol", "eth_usd"), on=["price_day", "protocol"], how="left")
        .join(pl.DataFrame({"age": range(8)}), how="cross")
        .with_columns(
            day=col("price_day") + pl.duration(days="age"),
            unit=10.0 ** col("token_decimals"),
            price_eth=col("usd") / pl.coalesce("eth_usd", "any_usd"),
        )
        .sort("age", "market_id")
    )


def market_prices(quoted: pl.DataFrame) -> dict[tuple, pl.DataFrame]:
    """Returns the prices of markets for positions, by day and protocol."""
    newest = quoted.unique(["day", "protocol", "market_id"], keep="first", maintain_order=True)
    chosen = newest.select("day", "protocol", "market_id", "unit", "price_eth", "maximum_ltv", "liquidation_threshold")
    return chosen.partition_by("day", "protocol", include_key=False, as_dict=True)


def token_prices(quoted: pl.DataFrame, protocols: pl.DataFrame) -> dict[tuple, pl.DataFrame]:
    """Returns the prices of tokens for events, by day: that of the event's protocol, or else of the first other one."""
    newest = quoted.filter(~col("token").is_in(NATIVE_ETH)).unique(
        ["day", "protocol", "token"], keep="first", maintain_order=True
    )
    chosen = (
        newest.rename({"protocol": "price_protocol", "market_id": "price_market_id"})
        .join(protocols, how="cross")
        .sort(col("price_protocol") != col("protocol"), "price_protocol")
        .unique(["day", "protocol", "token"], keep="first", maintain_order=True)
    )
    columns = ["token_decimals", "unit", "price_eth", "price_day", "price_protocol", "price_market_id"]
    chosen = chosen.select("day", "protocol", "token", *columns, "liquidation_threshold")
    return chosen.partition_by("day", include_key=False, as_dict=True)


def price_events(file: Path, category: str, book: pl.DataFrame, analytics: Path) -> pl.DataFrame:
    """Writes a category's events of a day with their amounts in ETH. Returns the columns that the features need."""
    native = col("token_address").is_in(NATIVE_ETH)
    quantity = col("quantity").cast(pl.Float64)
    index = "account_address" if category == "liquidation" else "sender_address"
    query = (
        scan(file)
        .join(
            book.lazy(),
            left_on=["protocol", "token_address"],
            right_on=["protocol", "token"],
            how="left",
            maintain_order="left",
        )
        .with_columns(
            index_address=index,
            quantity_eth=pl.when(native).then(quantity / 1e18).otherwise(quantity / col("unit") * col("price_eth")),
            price_eth=pl.when(native).then(1.0).otherwise("price_eth"),
            token_decimals=pl.when(native).then(pl.lit(18, pl.Int32)).otherwise("token_decimals"),
        )
        .select(PRICED_EVENT)
    )
    # The stage files of all other categories are already sorted by sender.
    if category == "liquidation":
        query = query.sort("index_address", "transaction_hash", "log_index")
    rows = collect(query)
    write(rows, analytics, f"transpose/transpose_{category}_events", day_of(file))
    return rows.select("sender_address", "account_address", "epoch_timestamp", "protocol", "quantity_eth")


def link_wallets(file: Path, analytics: Path) -> pl.DataFrame:
    """Writes and returns the links that a day's borrows create."""
    rows = collect(
        scan(file)
        .group_by(wallet_address="sender_address", account_address="account_address")
        .agg(since=col("timestamp").min(), since_epoch_timestamp=col("epoch_timestamp").min())
        .sort("wallet_address", "account_address")
    )
    write(rows, analytics, "features/wallet_links", day_of(file))
    return rows


def account_sums(file: Path, protocol: str, book: pl.DataFrame) -> pl.LazyFrame:
    """Returns the sums of each account in one protocol on one day, sorted by account."""
    is_debt = col("side") == "BORROWER"
    supply = pl.when(~is_debt & (col("liquidation_threshold") > 0)).then("amount").otherwise(0.0)
    return (
        scan(file)
        .filter(is_debt | col("is_collateral"))
        .join(book.lazy(), on="market_id", maintain_order="left")
        .select(
            col("account_address").set_sorted(),
            "maximum_ltv",
            "liquidation_threshold",
            "side",
            amount=col("balance").cast(pl.Float64) / col("unit") * col("price_eth"),
        )
        .group_by("account_address", maintain_order=True)
        .agg(
            pl.lit(protocol).first().alias("protocol"),
            collateral_eth=supply.sum(),
            threshold_weighted_collateral_eth=(supply * col("liquidation_threshold")).sum(),
            borrow_power_eth=(supply * col("maximum_ltv")).sum(),
            debt_eth=pl.when(is_debt).then("amount").otherwise(0.0).sum(),
        )
        .filter((col("collateral_eth") > 0) | (col("debt_eth") >= 1e-9))
    )


def value_positions(
    day: date, files: list[Path], books: dict[tuple, pl.DataFrame], links: pl.DataFrame, analytics: Path
) -> pl.DataFrame:
    """Writes the health of each wallet's accounts on a day. Returns the snapshots of the wallets."""
    named = [(file, file.name[11:].removesuffix(".parquet")) for file in files]
    priced = [account_sums(file, name, books[day, name]) for file, name in named if (day, name) in books]
    if not priced:
        return pl.DataFrame()
    secured = col("threshold_weighted_collateral_eth")
    health = pl.concat(priced).with_columns(
        day=pl.lit(day),
        available_borrows_eth=pl.max_horizontal(0.0, col("borrow_power_eth") - col("debt_eth")),
        risk_factor=pl.when(col("debt_eth") < 1e-9)
        .then(0.0)
        .when(secured > 0)
        .then(pl.min_horizontal(col("debt_eth") / secured, 1e6))
        .otherwise(1e6),
    )
    earlier_links = links.lazy().filter(col("since") < start_of(day)).select("wallet_address", "account_address")
    own = health.with_columns(wallet_address="account_address")
    linked = health.join(earlier_links, on="account_address")
    both = pl.concat([own.select(WALLET_HEALTH), linked.select(WALLET_HEALTH)])
    rows = collect(both.sort("wallet_address", "account_address", "protocol"))
    write(rows, analytics, "features/wallet_health_daily", day)
    return collect(
        rows.lazy()
        .with_columns(col("wallet_address").set_sorted())
        .group_by("wallet_address")
        .agg(
            col("day").first(),
            collateral=col("collateral_eth").sum(),
            available=col("available_borrows_eth").sum(),
            risk=col("risk_factor").max(),
            debt=col("debt_eth").sum(),
            weighted=(col("debt_eth") * col("risk_factor")).sum(),
        )
    )


def health_history(days: pl.LazyFrame, as_of: date) -> pl.LazyFrame:
    """Aggregates the daily snapshots of each wallet."""
    now = col("day") == as_of
    return days.group_by("wallet_address").agg(
        has_health_now=now.any(),
        health_days=pl.len().cast(pl.Int64),
        risk_factor=col("risk").filter(now).sum(),
        total_collateral_eth=col("collateral").filter(now).sum(),
        total_collateral_avg_eth=col("collateral").mean(),
        total_available_borrows_eth=col("available").filter(now).sum(),
        total_available_borrows_avg_eth=col("available").mean(),
        avg_weighted_risk_factor=pl.when(col("debt").sum() > 0)
        .then(col("weighted").sum() / col("debt").sum())
        .otherwise(0.0),
        risk_factor_above_threshold_daily_count=(col("risk") > 1 / 1.2).sum().cast(pl.Int64),
        avg_risk_factor=col("risk").mean(),
        max_risk_factor=col("risk").max(),
    )


def sent(events: pl.LazyFrame, category: str) -> pl.LazyFrame:
    """Aggregates the events of a category by sender."""
    return events.group_by(wallet_address="sender_address").agg(
        col("quantity_eth").sum().alias(f"{category}_amount_sum_eth"),
        col("quantity_eth").mean().alias(f"{category}_amount_avg_eth"),
        pl.len().cast(pl.Int64).alias(f"{category}_count"),
        col("epoch_timestamp").min().alias(f"{category}_first"),
        col("protocol").n_unique().cast(pl.Int64).alias(f"{category}_protocols"),
    )


def liquidations(seized: pl.LazyFrame, links: pl.LazyFrame, end: int) -> pl.LazyFrame:
    """Aggregates the liquidations of each wallet's accounts, by the links in effect at the event."""
    columns = ["wallet_address", "epoch_timestamp", "quantity_eth"]
    linked = seized.join(links, on="account_address").filter(col("since") <= col("epoch_timestamp"))
    own = seized.with_columns(wallet_address="account_address")
    return (
        pl.concat([own.select(columns), linked.select(columns)])
        .group_by("wallet_address")
        .agg(
            liquidation_count=pl.len().cast(pl.Int64),
            time_since_last_liquidated=end - col("epoch_timestamp").max(),
            liquidation_amount_sum_eth=col("quantity_eth").sum(),
        )
    )


def features(events: dict[str, pl.LazyFrame], days: pl.LazyFrame, links: pl.LazyFrame, as_of: date) -> pl.DataFrame:
    """Returns the features of every wallet, that is, of each sender and account of an event."""
    addresses = [
        rows.select(wallet_address=name) for rows in events.values() for name in ("sender_address", "account_address")
    ]
    query = pl.concat(addresses).unique().join(health_history(days, as_of), on="wallet_address", how="left")
    for category in ("borrow", "repay", "deposit", "withdraw"):
        query = query.join(sent(events[category], category), on="wallet_address", how="left")
    query = query.join(liquidations(events["liquidation"], links, start_of(as_of)), on="wallet_address", how="left")
    return (
        query.with_columns(time_since_first_deposit=start_of(as_of) - col("deposit_first"))
        .with_columns(pl.all().exclude("wallet_address", "has_health_now", *TIMES).fill_null(0))
        .with_columns(
            col("has_health_now").fill_null(False),
            borrow_repay_diff_eth=col("borrow_amount_sum_eth") - col("repay_amount_sum_eth"),
            withdraw_deposit_diff_eth=pl.max_horizontal(
                0.0, col("withdraw_amount_sum_eth") - col("deposit_amount_sum_eth")
            ),
            unique_borrow_protocol_count="borrow_protocols",
            unique_lending_protocol_count="deposit_protocols",
        )
        .select(FEATURES)
        .sort("wallet_address")
        .collect(engine="streaming")
    )


def each(pool: ThreadPoolExecutor, work: Callable[..., pl.DataFrame], arguments: Iterable[tuple]) -> list[pl.DataFrame]:
    """Calls `work` with each tuple of arguments, two calls at a time."""
    return list(pool.map(lambda args: work(*args), arguments))


def rebuild(lake: Path, out: Path, as_of: date) -> None:
    """Builds the analytics tables and the features as of a day from the stage tables of a lake."""
    analytics = out / "analytics"
    files = {
        category: files_of(lake, f"transpose/transpose_{category}_events", as_of - timedelta(days=1))
        for category in CATEGORIES
    }
    quoted = prices(files_of(lake, MARKETS, as_of))
    protocols = collect(
        scan([file for of_category in files.values() for file in of_category]).select(col("protocol").unique())
    )
    by_token, by_market = token_prices(quoted, protocols), market_prices(quoted)
    no_prices = next(iter(by_token.values())).clear()
    with ThreadPoolExecutor(THREADS) as pool:
        events = {
            category: pl.concat(
                each(
                    pool,
                    price_events,
                    ((file, category, by_token.get((day_of(file),), no_prices), analytics) for file in of_category),
                )
            ).lazy()
            for category, of_category in files.items()
        }
        daily_links = pl.concat(each(pool, link_wallets, ((file, analytics) for file in files["borrow"])))
        links = (
            daily_links.filter(col("wallet_address") != col("account_address"))
            .group_by("wallet_address", "account_address")
            .agg(since=col("since_epoch_timestamp").min())
        )
        snapshots = groupby(files_of(lake, POSITIONS, as_of), key=day_of)
        days = each(
            pool, value_positions, ((day, list(of_day), by_market, links, analytics) for day, of_day in snapshots)
        )
    all_days = pl.concat(rows for rows in days if rows.width).lazy()
    folder = analytics / f"features/defi_features/as_of={as_of}"
    folder.mkdir(parents=True)
    features(events, all_days, links.lazy(), as_of).write_parquet(folder / "0.parquet", compression_level=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lake", type=Path, required=True, help="the lake with the stage tables")
    parser.add_argument("--out", type=Path, required=True, help="the output folder of the analytics tables")
    parser.add_argument(
        "--as-of", type=date.fromisoformat, required=True, metavar="DAY", help="the as-of day of the features"
    )
    arguments = parser.parse_args()
    rebuild(arguments.lake, arguments.out, arguments.as_of)


if __name__ == "__main__":
    main()
