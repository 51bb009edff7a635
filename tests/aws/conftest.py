"""What the tests share: the local AWS."""

import pytest

from aws import LocalAws


@pytest.fixture(scope="session")
def local_aws(tmp_path_factory):
    """A local AWS with nothing in it."""
    with LocalAws(tmp_path_factory.mktemp("function-logs")) as aws:
        yield aws
