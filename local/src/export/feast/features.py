# {mark}. The command replaces this file when it runs again.
"""The features of wallets, one row per wallet and published day: the state at 00:00 UTC of that day."""

from datetime import timedelta

{imports}

wallet_address = Entity(
    name="wallet_address",
    value_type=ValueType.STRING,
    description={wallet},
)

{source}

defi_features = FeatureView(
    name="defi_features",
    description={about},
    entities=[wallet_address],
    # The longest time between two published days, and a day. An older row counts as missing. Feast does not check this in
    # the online store.
    ttl=timedelta(days={ttl}),
    source=published_sets,
    schema=[
{fields}
    ],
)

# All of the features: store.get_historical_features(entity_df, store.get_feature_service("wallet_features")).
wallet_features = FeatureService(name="wallet_features", features=[defi_features])
