"""The server: moto's services and the Schemas API, behind the check of roles and the controls of the tests."""

import os
import signal
import sys
import threading

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from . import catalog, function_urls, json_paths, lambda_runtime, other_services, objects, schemas, state_machines
from .calls import CREDENTIAL
from .controls import Controls, settings
from .roles import Gate


class Services:
    """Dispatches a request to the service that it is signed for."""

    def __init__(self):
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.schemas = schemas.Schemas()
        self.urls = function_urls.FunctionUrls()

    def __call__(self, environ, start_response):
        credential = CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
        service = self.schemas if credential and credential[3] == "schemas" else self.moto
        service = self.urls if ".lambda-url." in environ.get("HTTP_HOST", "") else service
        return service(environ, start_response)


def serve(port: int, folder: str, changed_settings: dict) -> None:
    """Serves until the process is terminated, or until its parent process ends."""
    settings.change(changed_settings)
    # The socket listens from here on. Port 0 chooses a free port.
    server = make_server("127.0.0.1", port, Controls(Gate(Services())), threaded=True)
    endpoint = f"http://127.0.0.1:{server.server_port}"
    other_services.install()
    objects.install()
    catalog.install()
    state_machines.install(endpoint)
    json_paths.install()
    functions = lambda_runtime.install(endpoint, folder)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    threading.Thread(target=end_with_parent, daemon=True).start()
    print(endpoint, flush=True)
    try:
        server.serve_forever()
    finally:
        functions.close()


def end_with_parent() -> None:
    """Terminates this process when its standard input ends, which the parent process keeps open."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    signal.raise_signal(signal.SIGTERM)
