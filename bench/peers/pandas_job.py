"""Builds the features of every wallet and the tables that they are computed from, in pandas with PyArrow.

Positions, which are most of the rows, are processed by day, and events by category and month. The few columns that the
features need stay in memory. PyArrow reads and writes two days in parallel, since it decodes and compresses without the
interpreter lock. Accounts and markets are dictionary-encoded, so that prices are looked up once for each market and
sums are computed by code. Unchanged columns stay in Arrow. The sorts are of a few sorted runs, for which PyArrow takes
a sixth of the time of pandas.
"""

import argparse
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

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
PRICE_COLUMNS = "price_eth token_decimals price_day price_protocol price_market_id liquidation_threshold".split()
STAGE_COLUMNS = [name for name in PRICED_EVENT if name not in ("index_address", "quantity_eth", *PRICE_COLUMNS)]
MARKET_COLUMNS = ["unit", "price_eth", "liquidation_threshold", "maximum_ltv"]
ACCOUNT_SUMS = ["collateral_eth", "threshold_weighted_collateral_eth", "borrow_power_eth", "debt_eth"]
HEALTH_KEY = ["wallet_address", "account_address", "protocol"]
WALLET_HEALTH = [*HEALTH_KEY, "day", *ACCOUNT_SUMS, "available_borrows_eth", "risk_factor"]
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


def number_of(day: date) -> int:
    """Returns a day as days since 1970."""
    return (day - EPOCH).days


def files_of(lake: Path, table: str, last: date) -> list[Path]:
    """Returns the files of a stage table up to a day, in order."""
    files = sorted((lake / "stage" / table).glob("year=*/month=*/*.parquet"))
    return [file for file in files if day_of(file) <= last]


def read(file: Path, columns: list[str], categories: Iterable[str] = ()) -> pa.Table:
    """Reads columns of a file, some dictionary-encoded. On one thread, because two files are read in parallel."""
    with pq.ParquetFile(file, read_dictionary=list(categories)) as opened:
        return opened.read(columns=columns, use_threads=False)


def write(rows: pa.Table, file: Path, use_dictionary: list[str] | bool = True) -> None:
    """Writes a file of a table, with the compression of the lake."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, file, compression="zstd", compression_level=1, use_dictionary=use_dictionary)


def file_of(analytics: Path, table: str, day: date) -> Path:
    """Returns the path of a table's file of a day."""
    return analytics / table / f"{day:year=%Y/month=%m}/{day}.parquet"


def dates(numbers: pd.Series | np.ndarray) -> pa.Array:
    """Converts days since 1970 to dates."""
    return pa.array(numbers, pa.int32(), from_pandas=True).cast(pa.date32())


def sort_indices(rows: pa.Table, sorted_by: list[str]) -> np.ndarray:
    """Returns the indices that sort the rows."""
    return pc.sort_indices(rows, [(name, "ascending") for name in sorted_by]).to_numpy()


def prices(files: list[Path]) -> pd.DataFrame:
    """Returns each price for each day on which it applies: its own and the seven days after. Preferred ones first."""
    columns = (
        "market_id input_token_address input_token_decimals input_token_price_usd maximum_ltv liquidation_threshold"
    )
    tables = [read(file, [*columns.split(), "protocol", "epoch_timestamp"]) for file in files]
    quoted = pa.concat_tables(tables).to_pandas().rename(columns=lambda name: name.removeprefix("input_"))
    quoted["price_day"] = quoted.epoch_timestamp // 86400
    quoted = quoted[quoted.token_price_usd > 0].sort_values(["protocol", "market_id"])
    eth = quoted[quoted.token_address.isin(ETH)].rename(columns={"token_price_usd": "eth_usd"})
    own_eth = eth.drop_duplicates(["price_day", "protocol"])[["price_day", "protocol", "eth_usd"]]
    any_eth = own_eth.drop_duplicates("price_day")[["price_day", "eth_usd"]].rename(columns={"eth_usd": "any_usd"})
    priced = quoted.merge(any_eth, on="price_day").merge(own_eth, on=["price_day", "protocol"], how="left")
    priced["price_eth"] = priced.token_price_usd / priced.eth_usd.fillna(priced.any_usd)
    priced["unit"] = 10.0**priced.token_decimals
    priced = priced.merge(pd.DataFrame({"age": np.arange(8)}), how="cross")
    priced["day"] = priced.price_day + priced.age
    return priced.sort_values(["age", "market_id"])


def market_prices(quoted: pd.DataFrame) -> dict[tuple, pd.DataFrame]:
    """Returns the prices of markets for positions, by day and protocol."""
    newest = quoted.drop_duplicates(["day", "protocol", "market_id"]).set_index("market_id")
    return {key: rows[MARKET_COLUMNS] for key, rows in newest.groupby(["day", "protocol"])}


def token_prices(quoted: pd.DataFrame, protocols: set[str]) -> pd.DataFrame:
    """Returns the prices of tokens for events: that of the event's protocol, or else of the first other one."""
    newest = quoted[~quoted.token_address.isin(NATIVE_ETH)].drop_duplicates(["day", "protocol", "token_address"])
    newest = newest.rename(columns={"protocol": "price_protocol", "market_id": "price_market_id"})
    chosen = newest.merge(pd.DataFrame({"protocol": sorted(protocols)}), how="cross")
    chosen["is_other"] = chosen.price_protocol != chosen.protocol
    chosen = chosen.sort_values(["is_other", "price_protocol"]).drop_duplicates(["day", "protocol", "token_address"])
    return chosen[["day", "protocol", "token_address", "unit", *PRICE_COLUMNS]]


def priced(events: pa.Table, category: str, by_token: pd.DataFrame) -> pa.Table:
    """Returns events with their prices and amounts in ETH."""
    keys = events.select(["protocol", "token_address", "epoch_timestamp"]).to_pandas()
    keys["day"] = keys.pop("epoch_timestamp") // 86400
    price = keys.merge(by_token, on=["day", "protocol", "token_address"], how="left")
    native = keys.token_address.isin(NATIVE_ETH).to_numpy()
    quantity = events["quantity"].cast(pa.float64()).to_numpy()
    amount = np.where(native, quantity / 1e18, quantity / price.unit * price.price_eth)
    columns = {name: events[name] for name in STAGE_COLUMNS} | {
        "index_address": events["account_address" if category == "liquidation" else "sender_address"],
        "quantity_eth": pa.array(amount, from_pandas=True),
        "price_eth": pa.array(price.price_eth.mask(native, 1.0), from_pandas=True),
        "token_decimals": pa.array(price.token_decimals.mask(native, 18), pa.int32(), from_pandas=True),
        "price_day": dates(price.price_day),
        "price_protocol": pa.array(price.price_protocol, pa.string(), from_pandas=True),
        "price_market_id": pa.array(price.price_market_id, pa.string(), from_pandas=True),
        "liquidation_threshold": pa.array(price.liquidation_threshold, from_pandas=True),
    }
    return pa.table({name: columns[name] for name in PRICED_EVENT})


def price_events(files: list[Path], category: str, quoted: pd.DataFrame, analytics: Path) -> pd.DataFrame:
    """Writes a category's events of a month with their amounts in ETH. Returns the columns that the features need."""
    days = [read(file, STAGE_COLUMNS) for file in files]
    events = pa.concat_tables(days)
    rows = priced(events, category, token_prices(quoted, set(events["protocol"].unique().to_pylist())))
    start = 0
    for file, length in zip(files, map(len, days), strict=True):
        day_rows = rows.slice(start, length)
        start += length
        # The stage files of all other categories are already sorted by sender.
        if category == "liquidation":
            day_rows = day_rows.take(sort_indices(day_rows, ["index_address", "transaction_hash", "log_index"]))
        write(day_rows, file_of(analytics, f"transpose/transpose_{category}_events", day_of(file)))
    return rows.select(["sender_address", "account_address", "epoch_timestamp", "protocol", "quantity_eth"]).to_pandas()


def link_wallets(file: Path, analytics: Path) -> pd.DataFrame:
    """Writes the links that a day's borrows create. Returns those between two different addresses."""
    key = ["sender_address", "account_address"]
    times = ["timestamp", "epoch_timestamp"]
    firsts = read(file, [*key, *times]).group_by(key, use_threads=False).aggregate([(time, "min") for time in times])
    links = firsts.rename_columns(["wallet_address", "account_address", "since", "since_epoch_timestamp"])
    links = links.take(sort_indices(links, ["wallet_address", "account_address"]))
    write(links, file_of(analytics, "features/wallet_links", day_of(file)))
    links = links.drop_columns("since").to_pandas().rename(columns={"since_epoch_timestamp": "since"})
    return links[links.wallet_address != links.account_address]


def account_sums(file: Path, protocol: str, book: pd.DataFrame) -> pd.DataFrame:
    """Returns the sums of each account in one protocol on one day, by account."""
    categories = ["account_address", "market_id", "side"]
    rows = read(file, [*categories, "balance", "is_collateral"], categories).combine_chunks()
    account, market, side = (rows[name].unify_dictionaries().combine_chunks() for name in categories)
    market_values = book.reindex(market.dictionary.to_pandas()).to_numpy()[market.indices.to_numpy()]
    unit, price, threshold, ltv = market_values.T
    is_debt = (side.dictionary.to_pandas() == "BORROWER").to_numpy()[side.indices.to_numpy()]
    is_collateral = rows["is_collateral"].fill_null(False).to_numpy() & (threshold > 0)
    counts = (is_debt | is_collateral) & ~np.isnan(price)
    amount = np.where(counts, rows["balance"].cast(pa.float64()).to_numpy() / unit * price, 0.0)
    collateral = np.where(is_debt | ~counts, 0.0, amount)
    weights = (collateral, collateral * threshold, collateral * ltv, amount - collateral)
    codes, accounts = account.indices.to_numpy(), account.dictionary.to_pandas()
    sums = [np.bincount(codes, np.where(counts, weight, 0.0), len(accounts)) for weight in weights]
    sums = pd.DataFrame(dict(zip(ACCOUNT_SUMS, sums, strict=True)), dtype=float)
    sums.insert(0, "account_address", accounts)
    sums.insert(1, "protocol", protocol)
    return sums[(sums.collateral_eth > 0) | (sums.debt_eth >= 1e-9)]


def value_positions(
    day: date, files: list[Path], books: dict[tuple, pd.DataFrame], links: pd.DataFrame, analytics: Path
) -> pd.DataFrame | None:
    """Writes the health of each wallet's accounts on a day. Returns the snapshots of the wallets."""
    number = number_of(day)
    named = [(file, file.name[11:].removesuffix(".parquet")) for file in files]
    priced = [account_sums(file, name, books[number, name]) for file, name in named if (number, name) in books]
    if not priced:
        return None
    accounts = pd.concat(priced, ignore_index=True)
    earlier_links = links.loc[links.since < number * 86400, ["wallet_address", "account_address"]]
    has_link = accounts.account_address.isin(earlier_links.account_address)
    linked = accounts[has_link].merge(earlier_links, on="account_address")
    health = pd.concat([accounts.assign(wallet_address=accounts.account_address), linked], ignore_index=True)
    health = health.take(sort_indices(pa.Table.from_pandas(health[HEALTH_KEY], preserve_index=False), HEALTH_KEY))
    debt, secured = health.debt_eth.to_numpy(), health.threshold_weighted_collateral_eth.to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        risk = np.where(secured > 0, np.minimum(debt / secured, 1e6), 1e6)
    health["risk_factor"] = np.where(debt < 1e-9, 0.0, risk)
    health["available_borrows_eth"] = np.maximum(0.0, health.borrow_power_eth - debt)
    rows = pa.Table.from_pandas(health, preserve_index=False)
    rows = rows.append_column("day", dates(np.full(len(health), number))).select(WALLET_HEALTH)
    # Amounts rarely repeat: the writer would abandon their dictionaries halfway.
    write(rows, file_of(analytics, "features/wallet_health_daily", day), use_dictionary=[*HEALTH_KEY, "day"])
    return snapshots(health, number)


def snapshots(health: pd.DataFrame, number: int) -> pd.DataFrame:
    """Aggregates the health of a day by wallet. The rows of a wallet are adjacent."""
    wallets = health.wallet_address
    starts = np.flatnonzero((wallets != wallets.shift()).to_numpy())
    health["weighted"] = health.debt_eth * health.risk_factor
    names = {
        "collateral_eth": "collateral",
        "available_borrows_eth": "available",
        "debt_eth": "debt",
        "weighted": "weighted",
    }
    days = {name: np.add.reduceat(health[column].to_numpy(), starts) for column, name in names.items()}
    days["risk"] = np.maximum.reduceat(health.risk_factor.to_numpy(), starts)
    return pd.DataFrame({"wallet_address": wallets.take(starts).array, "day": np.int32(number), **days})


def health_history(days: pd.DataFrame, as_of: int) -> pd.DataFrame:
    """Aggregates the daily snapshots of each wallet."""
    days["is_at_risk"] = days.risk > 1 / 1.2
    history = days.groupby("wallet_address", sort=False).agg(
        total_collateral_avg_eth=("collateral", "mean"),
        total_available_borrows_avg_eth=("available", "mean"),
        debt=("debt", "sum"),
        weighted=("weighted", "sum"),
        risk_factor_above_threshold_daily_count=("is_at_risk", "sum"),
        avg_risk_factor=("risk", "mean"),
        health_days=("risk", "size"),
        max_risk_factor=("risk", "max"),
    )
    history["avg_weighted_risk_factor"] = (history.weighted / history.debt).where(history.debt > 0, 0.0)
    now = days[days.day == as_of].set_index("wallet_address")[["risk", "collateral", "available"]]
    now.columns = ["risk_factor", "total_collateral_eth", "total_available_borrows_eth"]
    return history.join(now)


def sent(events: pd.DataFrame, category: str) -> pd.DataFrame:
    """Aggregates the events of a category by sender."""
    sums = events.groupby("sender_address", sort=False).agg(
        **{
            f"{category}_amount_sum_eth": ("quantity_eth", "sum"),
            f"{category}_amount_avg_eth": ("quantity_eth", "mean"),
            f"{category}_count": ("epoch_timestamp", "size"),
            f"{category}_first": ("epoch_timestamp", "min"),
        }
    )
    # Counting the distinct pairs of wallet and protocol is faster than nunique.
    protocols = events[["sender_address", "protocol"]].drop_duplicates()
    return sums.join(protocols.sender_address.value_counts(sort=False).rename(f"{category}_protocols"))


def liquidations(seized: pd.DataFrame, links: pd.DataFrame, end: int) -> pd.DataFrame:
    """Aggregates the liquidations of each wallet's accounts, by the links in effect at the event."""
    columns = ["wallet_address", "epoch_timestamp", "quantity_eth"]
    linked = seized.merge(links, on="account_address")
    linked = linked[linked.since <= linked.epoch_timestamp]
    own = seized.rename(columns={"account_address": "wallet_address"})
    by_wallet = (
        pd.concat([own[columns], linked[columns]])
        .groupby("wallet_address", sort=False)
        .agg(
            liquidation_count=("epoch_timestamp", "size"),
            last=("epoch_timestamp", "max"),
            liquidation_amount_sum_eth=("quantity_eth", "sum"),
        )
    )
    return by_wallet.assign(time_since_last_liquidated=end - by_wallet["last"])


def features(events: dict[str, pd.DataFrame], days: pd.DataFrame, links: pd.DataFrame, as_of: date) -> pd.DataFrame:
    """Returns the features of every wallet, that is, of each sender and account of an event."""
    end = number_of(as_of) * 86400
    addresses = [
        rows[name].drop_duplicates() for rows in events.values() for name in ("sender_address", "account_address")
    ]
    wallets = pd.DataFrame(index=pd.Index(pd.concat(addresses).unique(), name="wallet_address").sort_values())
    rows = wallets.join(health_history(days, number_of(as_of)))
    rows = rows.join([sent(events[category], category) for category in ("borrow", "repay", "deposit", "withdraw")])
    rows = rows.join(liquidations(events["liquidation"], links, end))
    rows["time_since_first_deposit"] = end - rows.deposit_first
    times = rows[TIMES].astype("Int64")
    has_health_now = rows.risk_factor.notna()
    rows = rows.drop(columns=TIMES).fillna(0).join(times)
    rows["borrow_repay_diff_eth"] = rows.borrow_amount_sum_eth - rows.repay_amount_sum_eth
    rows["withdraw_deposit_diff_eth"] = (rows.withdraw_amount_sum_eth - rows.deposit_amount_sum_eth).clip(lower=0)
    rows["unique_borrow_protocol_count"] = rows.borrow_protocols
    rows["unique_lending_protocol_count"] = rows.deposit_protocols
    rows["has_health_now"] = has_health_now
    counts = [name for name in FEATURES if name.endswith("_count")] + ["health_days"]
    return rows.astype(dict.fromkeys(counts, "int64")).reset_index()[FEATURES]


def each(pool: ThreadPoolExecutor, work: Callable, arguments: Iterable[tuple]) -> list:
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
    books = market_prices(quoted)
    with ThreadPoolExecutor(THREADS) as pool:
        events = {}
        for category, of_category in files.items():
            months = groupby(of_category, key=lambda file: file.parent)
            calls = ((list(of_month), category, quoted, analytics) for _, of_month in months)
            events[category] = pd.concat(each(pool, price_events, calls), ignore_index=True)
        daily_links = pd.concat(each(pool, link_wallets, ((file, analytics) for file in files["borrow"])))
        links = daily_links.groupby(["wallet_address", "account_address"], as_index=False)["since"].min()
        by_day = groupby(files_of(lake, POSITIONS, as_of), key=day_of)
        days = each(pool, value_positions, ((day, list(of_day), books, links, analytics) for day, of_day in by_day))
    days = pd.concat([rows for rows in days if rows is not None], ignore_index=True)
    rows = pa.Table.from_pandas(features(events, days, links, as_of), preserve_index=False)
    write(rows, analytics / f"features/defi_features/as_of={as_of}/0.parquet")


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
