# The variables of dev. infra/variables.tf describes them and has their defaults.
region = "us-east-1"
