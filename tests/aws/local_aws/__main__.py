"""The local AWS as a command."""

import argparse
import logging
import tempfile

parser = argparse.ArgumentParser(prog="local_aws", description="AWS on this machine, for tests.")
parser.add_argument("--port", type=int, default=0, help="0, the default, is any free one")
parser.add_argument("--folder", help="for what functions print, their packages and their /tmp; default: a new one")
arguments = parser.parse_args()

logging.getLogger("werkzeug").setLevel(logging.ERROR)

from .server import serve  # noqa: E402  moto takes a second to import: not for --help

serve(arguments.port, arguments.folder or tempfile.mkdtemp(prefix="local-aws-"))
