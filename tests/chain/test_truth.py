"""A lake that is filled from a node equals the contracts: every position to the last unit, the health of every account to
1e-9, and every event."""

import subprocess
import time

from served import served
from trees import differences, objects
from truth import Truth, event_differences, health_differences, position_differences, rows


def test_positions_equal_the_contracts(chain, lake):
    equal, differences = position_differences(lake, Truth(chain.folder))
    assert differences == []
    assert equal > 1_000


def test_health_equals_the_contracts(chain, lake):
    equal, differences = health_differences(lake, Truth(chain.folder))
    assert differences == []
    assert equal > 500


def test_events_equal_the_transactions(chain, lake):
    truth = Truth(chain.folder)
    equal, differences = event_differences(lake, chain.folder, truth, max(truth.blocks.values()) // 86_400 * 86_400)
    assert differences == []
    assert equal > 100


def test_run_through_faults_and_kills_gives_the_same_lake(chain, lake, tmp_path):
    with served(chain, "seed=1,transient=200,attempts=2") as node:
        for seconds in (2, 4):
            run = subprocess.Popen(
                chain.command("run", "--as-of", chain.as_of, lake=tmp_path),
                env=chain.environment(node.url), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            time.sleep(seconds)
            run.kill()
            run.wait()
        for _ in range(5):
            if chain.defi("run", "--as-of", chain.as_of, lake=tmp_path, url=node.url).returncode == 0:
                break
        else:
            raise AssertionError("no run came to its end")
    assert differences(objects(tmp_path), objects(lake)) == []


def test_bounded_run_has_the_rows_of_a_whole_run(chain, lake, tmp_path):
    """Balances are sums of all logs: those of the months before the first day are extracted, too, a month at a time."""
    for first in ("2021-05-02", "2021-04-28"):
        run = chain.defi("run", "--as-of", chain.as_of, "--from", first, lake=tmp_path)
        assert run.returncode == 0, run.stderr
        bounded, whole = objects(tmp_path), objects(lake)
        logs = {name.rsplit("/", 1)[1].split(".")[0] for name in bounded if "lending_logs" in name}
        assert {"2021-04", "2021-05-01"} <= logs and not any(name.startswith("2021-04-") for name in logs), logs
        staged = {name for name in bounded if name.startswith("stage/")}
        assert staged == {name for name in whole if name.startswith("stage/") and name.rsplit("/", 1)[1] >= first}
        different = [name for name in staged if bounded[name] != whole[name]]
        assert different == []


def test_lake_keeps_to_its_source(chain, lake):
    result = subprocess.run(chain.command("run", "--wallets", "5", "--days", "3", lake=lake), capture_output=True, text=True)
    assert result.returncode == 2 and "can't store" in result.stderr, result.stderr
    assert rows(lake, "raw/ethereum/ethereum_lending_logs")
