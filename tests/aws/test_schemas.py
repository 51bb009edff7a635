"""The state machine fills the same lake from Aave's own subgraph, although the sources answer every fifth request with a fault,
as `defi run` does without faults."""

from datetime import date, timedelta

import pytest

from defi import FolderLake, ServeProcess
from faults import FaultyProxy
from packages import STEPS


@pytest.fixture
def sample():
    """Returns a server of the sample chain, whose Aave is in its own schema."""
    with ServeProcess(recording=None) as server:
        yield server


def test_lake_of_aaves_own_subgraph_is_that_of_a_local_run_under_faults(deployment, sample, tmp_path):
    last = date.fromisoformat(sample.days[1])
    days = {"from": (last - timedelta(days=3)).isoformat(), "as_of": last.isoformat()}
    deployment.empty()
    with FaultyProxy(sample.graph_url) as proxy:
        variables = {"GRAPH_URL": proxy.url, "TRANSPOSE_URL": proxy.url, "DEFI_CONFIG": str(sample.config)}
        with deployment.configured(STEPS, **variables):
            execution = deployment.run(days)
    assert execution.status == "SUCCEEDED", execution
    assert proxy.faults > 10, f"{proxy.faults} of {proxy.requests} requests"
    lake = FolderLake(tmp_path / "lake", sample)
    lake.run("--from", days["from"], "--as-of", days["as_of"])
    ours, theirs = deployment.objects(), lake.objects()
    assert sorted(ours) == sorted(theirs) and len(ours) > 50
    assert [key for key, body in ours.items() if body != theirs[key]] == []
