"""The command that runs the local AWS."""

import argparse
import logging
import tempfile

parser = argparse.ArgumentParser(prog="local_aws", description="AWS on this machine, for tests.")
parser.add_argument("--port", type=int, default=0, help="default: 0, which chooses a free port")
parser.add_argument("--folder", help="for the output, packages and /tmp of functions; default: a new folder")
arguments = parser.parse_args()

logging.getLogger("werkzeug").setLevel(logging.ERROR)

from .server import serve  # noqa: E402  moto takes a second to import: not for --help

serve(arguments.port, arguments.folder or tempfile.mkdtemp(prefix="local-aws-"))
