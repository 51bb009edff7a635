"""`python tests/aws`: the pipeline deployed on a local AWS over the sample chain, to look at until it is interrupted."""

import shutil
import signal
import tempfile
from pathlib import Path

from deployment import Deployment

folder = Path(tempfile.mkdtemp(prefix="deployment-"))
print("Starting the local AWS and applying infra/: about a minute and a half …", flush=True)
try:
    with Deployment(folder, recording=None) as deployment:
        first, last = deployment.served.days
        environment = deployment.aws.environment()
        for name in ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            print(f"export {name}={environment[name]}")
        print(f"# lake: s3://{deployment.bucket}, logs of the functions: {deployment.folder / 'functions' / 'logs'}")
        print(f"# a run: target/debug/defi start --from {first} --as-of {last}")
        print("# Ctrl-C ends it and leaves nothing behind.", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
except KeyboardInterrupt:
    pass
finally:
    shutil.rmtree(folder, ignore_errors=True)
