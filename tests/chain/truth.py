"""Compares a lake with what the contracts said of every user on every day, and with what the transactions did."""

import collections
import csv
import json
import math
from pathlib import Path

import pyarrow.parquet as pq

POSITIONS = "stage/the_graph/the_graph_historical_account_positions"
HEALTH = "analytics/features/wallet_health_daily"
CATEGORIES = ("borrow", "deposit", "liquidation", "repay", "withdraw")
AAVE_KINDS = {"aToken": "supply", "stableDebt": "stable", "variableDebt": "variable"}
COMPOUND_KINDS = {"cTokens": "supply", "borrowStored": "borrow"}
WAD = 10**18


def rows(lake: Path, table: str) -> list[dict]:
    return [row for path in sorted((lake / table).rglob("*.parquet")) for row in pq.read_table(path).to_pylist()]


class Truth:
    """What the contracts said at the end of each day's first block."""

    def __init__(self, folder: Path):
        self.addresses = json.loads((folder / "addresses.json").read_text())
        self.reserves = {name: reserve["aToken"].lower() for name, reserve in self.addresses["reserves"].items()}
        self.c_tokens = {name: token["address"].lower() for name, token in self.addresses["cTokens"].items()}
        self.snapshots = collections.defaultdict(dict)
        self.blocks = {}
        with (folder / "truth.csv").open() as file:
            for row in csv.DictReader(file):
                block = int(row["block"])
                self.blocks[block] = int(row["timestamp"])
                self.snapshots[block][row["user"].lower(), row["key"]] = row["value"]

    def users(self, block: int) -> set[str]:
        # cTokens that a cToken itself holds are no position.
        return {user for user, _ in self.snapshots[block]} - {"market"} - set(self.c_tokens.values())

    def positions(self, block: int) -> dict[str, tuple[int, bool | None]]:
        """The balance of each position above 0, and whether it is used as collateral, by id."""
        values, positions = self.snapshots[block], {}
        for user in self.users(block):
            for name, a_token in self.reserves.items():
                for key, kind in AAVE_KINDS.items():
                    flag = values[user, f"aave.{name}.usageAsCollateral"] in ("true", "1")
                    positions[f"{user}-{a_token}-{kind}"] = (int(values[user, f"aave.{name}.{key}"]), flag)
            for name, c_token in self.c_tokens.items():
                rate = int(values["market", f"compound.{name}.exchangeRateStored"])
                flag = values[user, f"compound.{name}.member"] in ("true", "1")
                for key, kind in COMPOUND_KINDS.items():
                    balance = int(values[user, f"compound.{name}.{key}"])
                    balance = balance * rate // WAD if kind == "supply" else balance
                    positions[f"{user}-{c_token}-{kind}"] = (balance, flag)
        is_supply = lambda id: id.endswith("-supply")  # noqa: E731
        open_positions = {id: value for id, value in positions.items() if value[0] > 0}
        return {id: (balance, flag if is_supply(id) else None) for id, (balance, flag) in open_positions.items()}


def position_differences(lake: Path, truth: Truth) -> tuple[int, list[str]]:
    """The number of values that are equal, zeros included, and a line for each that is not."""
    by_block = collections.defaultdict(dict)
    for row in rows(lake, POSITIONS):
        by_block[row["block_number"]][row["id"]] = (int(row["balance"]), row["is_collateral"])
    equal, differences = 0, []
    for block in truth.snapshots:
        expected, users = truth.positions(block), truth.users(block)
        actual = {id: value for id, value in by_block[block].items() if id.split("-")[0] in users}
        for id in expected.keys() | actual.keys():
            if expected.get(id) == actual.get(id):
                equal += 1
            else:
                differences.append(f"block {block}: {id} is {actual.get(id)}, expected {expected.get(id)}")
    return equal, differences


def health_differences(lake: Path, truth: Truth) -> tuple[int, list[str]]:
    """The number of accounts and days that agree to 1e-9, and a line for each that does not."""
    blocks = {day_of(time): block for block, time in truth.blocks.items()}
    health = {(blocks.get(str(row["day"])), row["account_address"], row["protocol"]): row for row in rows(lake, HEALTH)}
    empty = collections.defaultdict(float)
    equal, differences = 0, []
    for block, values in truth.snapshots.items():
        for user in truth.users(block):
            actual = health.get((block, user, "aave-v2-eth"), empty)
            value = lambda key: int(values[user, f"aave.{key}"])  # noqa: E731
            problems = aave_problems(actual, value)
            actual = health.get((block, user, "compound-v2-eth"), empty)
            expected = (int(values[user, "compound.liquidity"]) - int(values[user, "compound.shortfall"])) / WAD
            difference = actual["borrow_power_eth"] - actual["debt_eth"] - expected
            scale = max(actual["borrow_power_eth"], actual["debt_eth"], 1e-6)
            if abs(difference) > 1e-9 * scale:
                problems.append(f"liquidity differs by {difference} of {scale}")
            equal += not problems
            differences += [f"block {block}: {user}: {problem}" for problem in problems]
    return equal, differences


def aave_problems(actual, value) -> list[str]:
    """Compares with getUserAccountData. The contract cuts the averages of LTV and threshold to whole basis points, so that
    is done here, too."""
    collateral, debt = actual["collateral_eth"], actual["debt_eth"]
    problems = []

    def compare(name: str, mine: float, theirs: float, scale: float) -> None:
        # Amounts below 1e-9 ETH are dust that the features leave out.
        if abs(mine - theirs) > 1e-9 * max(scale, abs(theirs)) and abs(mine - theirs) > 1e-9:
            problems.append(f"{name} is {mine}, expected {theirs}")

    compare("collateral", collateral, value("collateralETH") / WAD, 0)
    compare("debt", debt, value("debtETH") / WAD, 0)
    cut = lambda weighted: math.floor(weighted / collateral * 1e4 + 1e-6) / 1e4 if collateral else 0  # noqa: E731
    available = max(0.0, collateral * cut(actual["borrow_power_eth"]) - debt)
    compare("available", available, value("availableBorrowsETH") / WAD, collateral)
    if debt >= 1e-6:
        weighted = collateral * cut(actual["threshold_weighted_collateral_eth"])
        risk = min(debt / weighted, 1e6) if weighted else 1e6
        factor = value("healthFactor") / WAD
        compare("risk", risk, min(1 / factor, 1e6) if factor else 1e6, 0)
    return problems


def day_of(time: int) -> str:
    import datetime

    return str(datetime.datetime.fromtimestamp(time, datetime.UTC).date())


def topic(log: dict) -> str:
    return log["topics"][0] if log["topics"] else ""


# The first topic of each event of a category, by contract: the same topic means another event elsewhere.
POOL_TOPICS = {
    "0xde6857219544bb5b7746f48ed30be6386fefc61b2f864cacf559893bf50fd951": "deposit",
    "0x3115d1449a7b732c986cba18244e897a450f61e1bb8d589cd2e69e6c8924f9f7": "withdraw",
    "0xc6a898309e823ee50bac64e45ca8adba6690e99e7841c45d754e2a38e9019d9b": "borrow",
    "0x4cdde6e09bb755c9a5589ebaec640bbfedff1362d4b255ebf8339782b9942faa": "repay",
    "0xe413a321e8681d831f4dbccbca790d2952b56f977908e45be37335533e005286": "liquidation",
}
C_TOKEN_TOPICS = {
    "0x4c209b5fc8ad50758f13e2e1088ba56a560dff690a1c6fef26394f4c03821c4f": "deposit",
    "0xe5b754fb1abb7f01b499791d0b820ae3b6af3424ac1c59768edb53f4ec31a929": "withdraw",
    "0x13ed6866d4e1ee6da46f845c46d7e54120883d75c5ea9a2dacc1c4ca8984ab80": "borrow",
    "0x1a2a22cb034d26d1854bdc6666a5b91fe25efbbb5dcad3b0355478d6f5c362a1": "repay",
    "0x298637f684da70674f26509b10f07ec2fbc77a335ab1e7d6215a4b2484d8bb52": "liquidation",
}


def event_differences(lake: Path, folder: Path, truth: Truth, until: int) -> tuple[int, list[str]]:
    """Compares the events before a time with the logs and the transactions: each log of an event is a row of its category,
    whose sender sent the transaction. Of what users did themselves, the account is the user."""
    pool, c_tokens = truth.addresses["lendingPool"].lower(), set(truth.c_tokens.values())
    read = lambda name: [json.loads(line) for line in (folder / name).read_text().splitlines()]  # noqa: E731
    senders = {transaction["hash"]: transaction["from"].lower() for transaction in read("transactions.jsonl")}
    expected = {}
    liquidations = collections.Counter()
    logs = [log for log in read("logs.jsonl") if int(log["blockTimestamp"], 16) < until]
    for log in logs:
        if log["address"] in c_tokens and C_TOKEN_TOPICS.get(topic(log)) == "liquidation":
            liquidations[log["transactionHash"], log["address"]] += 1
    for log in logs:
        topics = POOL_TOPICS if log["address"] == pool else C_TOKEN_TOPICS if log["address"] in c_tokens else {}
        if category := topics.get(topic(log)):
            expected[log["transactionHash"], int(log["logIndex"], 16)] = (category, log["address"])
    rows_of = {category: rows(lake, f"stage/transpose/transpose_{category}_events") for category in CATEGORIES}
    actual = {(row["transaction_hash"], row["log_index"]): row for each in rows_of.values() for row in each}
    differences = []
    for key in actual.keys() - expected.keys():
        differences.append(f"{key} is no log of an event")
    missing = collections.Counter()
    for key, (category, contract) in expected.items():
        row = actual.get(key)
        if row is None and category == "repay" and contract in c_tokens:
            # The repayment of a liquidation is no event of its own.
            missing[key[0], contract] += 1
        elif row is None or (row["category"], row["sender_address"]) != (category, senders[key[0]]):
            differences.append(f"{key} is {row}, expected {category} of {senders[key[0]]}")
    if missing != liquidations:
        differences.append(f"repayments of liquidations: {missing} instead of {liquidations}")
    differences += account_differences(folder, rows_of)
    return len(expected), differences


# What users did for themselves, without a contract of their own: the category and the number of its events.
OWN_ACTIONS = {
    "deposit": "deposit", "depositETH": "deposit", "borrowVar": "borrow", "borrowStable": "borrow", "borrowETH": "borrow",
    "repay": "repay", "repayMax": "repay", "withdraw": "withdraw", "withdrawAll": "withdraw", "withdrawTo": "withdraw",
    "withdrawETH": "withdraw", "c.mint": "deposit", "c.borrow": "borrow", "c.repay": "repay", "c.redeem": "withdraw",
    "c.redeemAll": "withdraw", "c.redeemUnderlying": "withdraw",
}  # fmt: skip


def account_differences(folder: Path, rows_of: dict[str, list[dict]]) -> list[str]:
    by_transaction = collections.defaultdict(list)
    for each in rows_of.values():
        for row in each:
            by_transaction[row["transaction_hash"]].append(row)
    differences, first_days = [], {row["transaction_hash"] for each in rows_of.values() for row in each}
    with (folder / "actions.csv").open() as file:
        for action in csv.DictReader(file):
            category, user = OWN_ACTIONS.get(action["type"]), action["user"].lower()
            if category is None or action["hash"] not in first_days:
                continue
            found = [(row["category"], row["account_address"]) for row in by_transaction[action["hash"]]]
            if action["status"] != "1" or found != [(category, user)]:
                differences.append(f"{action} gave {found}")
    return differences
