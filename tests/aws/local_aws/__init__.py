"""AWS on one machine, for the tests: moto's server, with corrections where its behaviour differs from AWS in a way that
matters to the project.

- `objects`, `catalog`, `state_machines`, `other_services`: corrections of moto's S3, Glue, Step Functions and other
  services, each with its reason
- `schemas`: EventBridge Schemas, which stores the shareable test events of functions
- `lambda_runtime`, `sandbox`, `log_groups`: functions, run as processes of their packages over the Lambda Runtime API
- `function_urls`: the requests to the URLs of functions
- `controls`: latency, eventual consistency and errors of S3, as tests set them
- `policies`, `calls`, `roles`: checks of requests with a role's credentials against the policies of the role

`python -m local_aws --port 0 --folder DIR` prints its endpoint once it is ready, and runs until it is stopped.
"""
