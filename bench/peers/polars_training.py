"""Writes one row per borrow with the features of the wallet as of just before the borrow's block, in Polars.

Running totals of each wallet are cumulative sums over its events and its daily health. An ASOF join takes the newest of
them before the block of the borrow. Only wallets that borrow have totals.
"""

import argparse
from pathlib import Path

import polars as pl
from polars import col

SENT = ("borrow", "repay", "deposit", "withdraw")
EVENT = ["wallet_address", "category", "protocol", "block_number", "epoch_timestamp", "quantity_eth"]
COLUMNS = """
    wallet_address time block_number transaction_hash log_index snapshot_day borrow_protocol borrow_token_address
    borrow_amount_eth risk_factor total_collateral_eth total_collateral_avg_eth total_available_borrows_eth
    total_available_borrows_avg_eth avg_weighted_risk_factor risk_factor_above_threshold_daily_count avg_risk_factor
    max_risk_factor borrow_amount_sum_eth borrow_amount_avg_eth borrow_count repay_amount_sum_eth repay_amount_avg_eth
    repay_count borrow_repay_diff_eth deposit_count deposit_amount_sum_eth time_since_first_deposit withdraw_amount_sum_eth
    withdraw_deposit_diff_eth liquidation_count time_since_last_liquidated liquidation_amount_sum_eth
    unique_borrow_protocol_count unique_lending_protocol_count has_health_now health_days
""".split()


def scan(lake: Path, table: str) -> pl.LazyFrame:
    """Scans a table of the lake."""
    return pl.scan_parquet(lake / table / "**/*.parquet", hive_partitioning=False)


def of_category(category: str) -> pl.Expr:
    """Returns whether an event has a category."""
    return col("category") == category


def running(values: pl.Expr) -> pl.Expr:
    """Returns the sum of a wallet's values up to each row."""
    return values.fill_null(0).cum_sum().over("wallet_address")


def events(lake: Path, wallets: pl.LazyFrame) -> pl.LazyFrame:
    """Returns the events that count for the wallets: those that they sent, and liquidations of their accounts."""
    tables = {name: scan(lake, f"analytics/transpose/transpose_{name}_events") for name in (*SENT, "liquidation")}
    sent = pl.concat(tables[name] for name in SENT).with_columns(wallet_address="sender_address")
    seized = tables["liquidation"].with_columns(wallet_address="account_address")
    links = (
        scan(lake, "analytics/features/wallet_links")
        .filter(col("wallet_address") != col("account_address"))
        .group_by("wallet_address", "account_address")
        .agg(link_since=col("since_epoch_timestamp").min())
    )
    linked = tables["liquidation"].join(links, on="account_address").filter(col("link_since") <= col("epoch_timestamp"))
    both = pl.concat([rows.select(EVENT) for rows in (sent, seized, linked)])
    return both.join(wallets, on="wallet_address", how="semi")


def totals(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Returns the totals of each wallet after each of its events. Of one block, the last row has all of them."""
    is_first = pl.struct("wallet_address", "category", "protocol").is_first_distinct()
    columns = {}
    for category in (*SENT, "liquidation"):
        columns[f"{category}_count"] = running(of_category(category).cast(pl.Int64))
        amount = pl.when(of_category(category)).then("quantity_eth")
        columns[f"{category}_amount_sum_eth"] = running(amount)
        columns[f"{category}_priced"] = running(amount.is_not_null().cast(pl.Int64))
    time = {name: pl.when(of_category(name)).then("epoch_timestamp") for name in ("deposit", "liquidation")}
    return (
        rows.sort("block_number")
        .with_columns(is_first=is_first)
        .select(
            "wallet_address",
            "block_number",
            **columns,
            first_deposit=time["deposit"].cum_min().forward_fill().over("wallet_address"),
            last_liquidation=time["liquidation"].cum_max().forward_fill().over("wallet_address"),
            unique_borrow_protocol_count=running((of_category("borrow") & col("is_first")).cast(pl.Int64)),
            unique_lending_protocol_count=running((of_category("deposit") & col("is_first")).cast(pl.Int64)),
        )
    )


def history(health: pl.LazyFrame, blocks: pl.LazyFrame, wallets: pl.LazyFrame) -> pl.LazyFrame:
    """Returns the daily health of each wallet with its totals up to each day."""
    return (
        health.join(wallets, on="wallet_address", how="semi")
        .group_by("wallet_address", "day")
        .agg(
            collateral=col("collateral_eth").sum(),
            available=col("available_borrows_eth").sum(),
            risk=col("risk_factor").max(),
            debt=col("debt_eth").sum(),
            weighted=(col("debt_eth") * col("risk_factor")).sum(),
        )
        .join(blocks, on="day")
        .sort("block_number")
        .select(
            "wallet_address",
            "block_number",
            "collateral",
            "available",
            "risk",
            health_day="day",
            health_days=col("day").cum_count().over("wallet_address").cast(pl.Int64),
            collateral_sum=running(col("collateral")),
            available_sum=running(col("available")),
            risk_sum=running(col("risk")),
            max_risk_factor=col("risk").cum_max().over("wallet_address"),
            risk_factor_above_threshold_daily_count=running((col("risk") > 1 / 1.2).cast(pl.Int64)),
            debt_sum=running(col("debt")),
            weighted_sum=running(col("weighted")),
        )
    )


def as_of(borrows: pl.LazyFrame, rows: pl.LazyFrame, by: str | None = "wallet_address") -> pl.LazyFrame:
    """Joins to each borrow the newest of the rows before its block."""
    return borrows.join_asof(
        rows, on="block_number", by=by, strategy="backward", allow_exact_matches=False, check_sortedness=False
    )


def mean(total: str, count: str) -> pl.Expr:
    """Returns a mean, or 0 of no values."""
    return pl.when(col(count) > 0).then(col(total) / col(count)).otherwise(0.0)


def training_rows(lake: Path) -> pl.LazyFrame:
    """Returns one row per borrow, in the order of the chain."""
    borrows = (
        scan(lake, "analytics/transpose/transpose_borrow_events")
        .select(
            "block_number",
            "transaction_hash",
            "log_index",
            "epoch_timestamp",
            wallet_address="sender_address",
            time="timestamp",
            borrow_protocol="protocol",
            borrow_token_address="token_address",
            borrow_amount_eth="quantity_eth",
        )
        .sort("block_number", "log_index")
    )
    wallets = borrows.select("wallet_address").unique()
    blocks = scan(lake, "raw/transpose/ethereum_daily_blocks").select("day", "block_number").sort("block_number")
    health = history(scan(lake, "analytics/features/wallet_health_daily"), blocks, wallets)
    now = col("has_health_now")
    rows = as_of(borrows, blocks.rename({"day": "snapshot_day"}), by=None)
    rows = as_of(as_of(rows, totals(events(lake, wallets))), health)
    return (
        rows.with_columns(
            has_health_now=(col("health_day") == col("snapshot_day")).fill_null(False),
            time_since_first_deposit=col("epoch_timestamp") - col("first_deposit"),
            time_since_last_liquidated=col("epoch_timestamp") - col("last_liquidation"),
        )
        .with_columns(pl.col("^.*(_count|_sum|_sum_eth|_priced|health_days|max_risk_factor)$").fill_null(0))
        .with_columns(
            risk_factor=pl.when(now).then("risk").otherwise(0.0),
            total_collateral_eth=pl.when(now).then("collateral").otherwise(0.0),
            total_collateral_avg_eth=mean("collateral_sum", "health_days"),
            total_available_borrows_eth=pl.when(now).then("available").otherwise(0.0),
            total_available_borrows_avg_eth=mean("available_sum", "health_days"),
            avg_weighted_risk_factor=mean("weighted_sum", "debt_sum"),
            avg_risk_factor=mean("risk_sum", "health_days"),
            borrow_amount_avg_eth=mean("borrow_amount_sum_eth", "borrow_priced"),
            repay_amount_avg_eth=mean("repay_amount_sum_eth", "repay_priced"),
            borrow_repay_diff_eth=col("borrow_amount_sum_eth") - col("repay_amount_sum_eth"),
            withdraw_deposit_diff_eth=pl.max_horizontal(
                0.0, col("withdraw_amount_sum_eth") - col("deposit_amount_sum_eth")
            ),
        )
        .select(COLUMNS)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lake", type=Path, required=True, help="the lake with the analytics tables")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the Parquet file to write")
    arguments = parser.parse_args()
    training_rows(arguments.lake).collect(engine="streaming").write_parquet(arguments.out, compression_level=1)


if __name__ == "__main__":
    main()
