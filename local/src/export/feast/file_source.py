# The files of the published days. They have no column as_of: DuckDB reads it from the names of the folders, as a date, and
# Feast makes it midnight UTC. `feast apply` warns that the path does not exist, because it does not know patterns.
published_sets = FileSource(
    name="defi_features_history",
    path={path},
    file_format=ParquetFormat(),
    timestamp_field="as_of",
    description={about},
)
