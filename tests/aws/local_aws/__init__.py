"""AWS on one machine, for the tests: moto's server, mended where it lacks something that the project relies on.

- `objects`, `catalog`, `state_machines`, `mends`: what moto lacks or does otherwise than S3, Glue, Step Functions and the others,
  each with its reason
- `schemas`: EventBridge Schemas, which holds the shareable test events of functions
- `lambda_runtime`, `sandbox`, `log_groups`: functions run as processes of their own package over the Lambda Runtime API
- `policies`, `calls`, `roles`: whoever calls with a role's credentials is held to the role's policies

`python -m local_aws --port 0 --folder DIR` prints its endpoint once it answers, and runs until it is told to end.
"""
