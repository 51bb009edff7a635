# The variables of prod. infra/variables.tf describes them and has their defaults.
region = "us-east-1"
