"""What `defi plan`, `defi doctor` and other commands say of a node."""

import json
import subprocess

from served import served
from test_faults import first_block


def plan(chain, lake, *options: str) -> dict:
    result = chain.defi("plan", "--json", "--as-of", chain.as_of, *options, lake=lake)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_plan_is_measured_on_the_first_days_of_the_lake(small_chain, tmp_path):
    estimate = plan(small_chain, tmp_path)
    assert not any(step["measured"] for step in estimate["steps"]) and "measured_on" not in estimate
    told = small_chain.defi("plan", "--as-of", small_chain.as_of, lake=tmp_path).stdout
    assert "at least " in told and "an estimate, not measured" in told, told

    days = small_chain.days
    small_chain.run(tmp_path, as_of=days[1])
    measured = plan(small_chain, tmp_path)
    steps = {step["step"]: step for step in measured["steps"]}
    for name in ("extract-daily-blocks", "extract-logs", "extract-market-data"):
        assert steps[name]["measured"] and steps[name]["seconds"] > 0, name
    # Of both protocols, from the day of the deployment to the day before the as-of day.
    assert measured["measured_on"] == {"days": 4, "first": json_days(small_chain)[0], "last": days[0]}
    told = small_chain.defi("plan", "--as-of", small_chain.as_of, lake=tmp_path).stdout
    assert "measured on 4 days of logs in this lake" in told and "at least " not in told, told

    with served(small_chain, "seed=1") as node:
        small_chain.run(tmp_path, url=node.url)
    sent = sum(node.requests.values())
    assert 0.5 * sent < measured["requests"] < 2 * sent, (measured, sent)


def json_days(chain) -> list[str]:
    """Returns the days of the chain's contracts, by its configuration."""
    text = (chain.folder / "config.toml").read_text()
    return sorted(line.split('first_day = "')[1][:10] for line in text.splitlines() if 'first_day = "' in line)


def test_plan_of_months_is_measured_on_them(chain, tmp_path):
    first = "2021-05-03"
    told = chain.defi("plan", "--as-of", chain.as_of, "--from", first, lake=tmp_path).stdout
    assert "interrupt it when it has extracted the first months" in told, told
    chain.run(tmp_path, "--from", first, as_of="2021-05-04")
    measured = plan(chain, tmp_path)
    # The month before the first day, from the day of the deployment on, and the days of May before the as-of day.
    assert measured["measured_on"]["last"] == "2021-05-03" and measured["measured_on"]["first"] < "2021-05-01"
    assert measured["measured_on"]["days"] > 2 * 3


def findings(chain, lake, url: str | None = None) -> dict[str, dict]:
    result = chain.defi("doctor", "--json", lake=lake, url=url)
    found = {finding["what"].removeprefix("Ethereum node, "): finding for finding in json.loads(result.stdout)}
    assert result.returncode == (1 if any(finding["state"] == "fail" for finding in found.values()) else 0), result.stderr
    return found


def test_doctor_tries_the_chain_old_logs_old_states_and_contracts(small_chain, tmp_path):
    found = findings(small_chain, tmp_path)
    protocols = [f"{name}-v2-eth{what}" for name in ("aave", "compound") for what in ("", ", old logs", ", old state")]
    for name in ("chain", "final block", "contracts of [chain]", *protocols):
        assert found[name]["state"] == "ok", found[name]

    first = first_block(small_chain, small_chain.days[-1])
    with served(small_chain, f"state_pruned=1000,pruned_below={first}") as node:
        full = findings(small_chain, tmp_path, node.url)
    assert full["aave-v2-eth, old logs"]["state"] == "ok" and full["aave-v2-eth"]["state"] == "ok"
    assert full["aave-v2-eth, old state"]["state"] == "warn" and "archive node" in full["aave-v2-eth, old state"]["mend"]

    with served(small_chain, f"pruned=1000,pruned_below={first}") as node:
        pruned = findings(small_chain, tmp_path, node.url)
    assert pruned["compound-v2-eth, old logs"]["state"] == "warn", pruned["compound-v2-eth, old logs"]
    with served(small_chain, "logs_empty=1000") as node:
        empty = findings(small_chain, tmp_path, node.url)
    assert empty["aave-v2-eth, old logs"]["state"] == "warn" and ": 0 logs" in empty["aave-v2-eth, old logs"]["found"]
    with served(small_chain, "other_chain=1000") as node:
        other = findings(small_chain, tmp_path, node.url)
    assert [name for name in other if name.startswith("Ethereum node")] == ["Ethereum node"]
    assert "another chain" in other["Ethereum node"]["found"]


def test_doctor_names_contracts_that_are_not_there(small_chain, tmp_path):
    text = (small_chain.folder / "config.toml").read_text()
    wrapped = text.split('wrapped_ether = "')[1][:42]
    (tmp_path / "config.toml").write_text(text.replace(wrapped, "0x" + "12" * 20))
    command = small_chain.command("doctor", "--json", lake=tmp_path / "lake")
    environment = small_chain.environment() | {"DEFI_CONFIG": str(tmp_path / "config.toml")}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    found = {finding["what"]: finding for finding in json.loads(result.stdout)}
    contracts = found["Ethereum node, contracts of [chain]"]
    assert result.returncode == 1 and contracts["state"] == "fail" and "wrapped_ether" in contracts["found"], contracts
