# as_of is the partition column, a string. Feast compares times with a timestamp, and reads only the partitions of the days
# that it needs.
published_sets = AthenaSource(
    name="defi_features_history",
    query={query},
    timestamp_field="as_of_time",
    date_partition_column="as_of",
    description={about},
)
