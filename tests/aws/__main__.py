"""`python tests/aws`: deploys the pipeline to a local AWS, with the sample chain as its source, until interrupted."""

import shutil
import signal
import tempfile
from pathlib import Path

from defi import ServeProcess
from deployment import Deployment

folder = Path(tempfile.mkdtemp(prefix="deployment-"))
print("Starting the local AWS and applying infra/: about a minute …", flush=True)
try:
    with Deployment(folder, ServeProcess(recording=None)) as deployment:
        first, last = deployment.server.days
        environment = deployment.aws.environment()
        for name in ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            print(f"export {name}={environment[name]}")
        print(f"# lake: s3://{deployment.bucket}, logs of the functions: {deployment.folder / 'functions' / 'logs'}")
        print(f"# a run: target/debug/defi start --from {first} --as-of {last}")
        print("# Ctrl-C stops the local AWS and deletes its files.", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
except KeyboardInterrupt:
    pass
finally:
    shutil.rmtree(folder, ignore_errors=True)
