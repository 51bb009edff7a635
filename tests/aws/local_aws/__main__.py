"""The command that runs the local AWS."""

import argparse
import logging
import tempfile

parser = argparse.ArgumentParser(prog="local_aws", description="AWS on this machine, for tests.")
parser.add_argument("--port", type=int, default=0, help="default: 0, which chooses a free port")
parser.add_argument("--folder", help="for the output, packages and /tmp of functions; default: a new folder")
parser.add_argument("--latency-ms", type=int, default=0, help="the time that a call of S3 or Glue takes at least; default: 0")
parser.add_argument("--listing-delay", type=float, default=0, help="seconds until ListExecutions shows a start or an end; default: 0")
parser.add_argument("--description-delay", type=float, default=0, help="seconds until DescribeExecution shows an end; default: 0")
parser.add_argument("--unknown-delay", type=float, default=0, help="seconds until DescribeExecution knows of a new execution; default: 0")
parser.add_argument(
    "--retry-interval-factor", type=float, default=1, help="multiplies the intervals of a state machine's Retry rules; default: 1"
)
parser.add_argument("--concurrent-calls", type=int, default=1000, help="the account's limit of concurrent calls of functions")
parser.add_argument("--function-memory", type=int, default=10240, help="the account's limit of a function's memory in MB")
arguments = vars(parser.parse_args())
port, folder = arguments.pop("port"), arguments.pop("folder")

logging.getLogger("werkzeug").setLevel(logging.ERROR)

from .server import serve  # noqa: E402  moto takes a second to import: not for --help

serve(port, folder or tempfile.mkdtemp(prefix="local-aws-"), arguments)
