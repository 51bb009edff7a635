//! Runs the step over feature sets in a lake.

use defi_shared::lake::WorkUnit;
use defi_shared::tables::{FEATURES_HISTORY, FeatureRow};
use defi_shared::testing::{AAVE, TestLake, january, kind};
use defi_shared::{Kind, Result};
use publish_features::{Input, Output, handle};

/// Creates a test lake on 3 January with a set of two shards for each of the days.
async fn test_lake(days: &[i32]) -> Result<TestLake> {
    let test_lake = TestLake::new(&[AAVE], january(3))?.with_shards(2);
    for (day, shard) in days.iter().flat_map(|day| [(*day, 0), (*day, 1)]) {
        test_lake.put(&FEATURES_HISTORY, &WorkUnit::Shard(january(day), shard), Vec::<FeatureRow>::new()).await?;
    }
    Ok(test_lake)
}

fn as_of(day: i32) -> Input {
    Input { as_of: Some(january(day)) }
}

#[tokio::test]
async fn published_set_is_in_the_history_and_is_the_newest() -> Result<()> {
    let test_lake = test_lake(&[3]).await?;
    let output = handle(test_lake.context(), Input::default()).await?;
    assert_eq!(output, Output { as_of: january(3), newest: january(3) });
    assert_eq!(test_lake.context.registry.published().await?, [january(3)]);
    assert_eq!(test_lake.context.registry.newest_published().await?, Some(january(3)));
    Ok(())
}

#[tokio::test]
async fn set_with_a_missing_shard_is_not_ready() -> Result<()> {
    let test_lake = test_lake(&[2, 3]).await?;
    handle(test_lake.context(), as_of(2)).await?;
    test_lake.context.lake.store().delete(&WorkUnit::Shard(january(3), 1).key(&FEATURES_HISTORY)).await?;
    assert_eq!(kind(handle(test_lake.context(), as_of(3)).await), Some(Kind::NotReady));
    assert_eq!(test_lake.context.registry.published().await?, [january(2)]);
    assert_eq!(test_lake.context.registry.newest_published().await?, Some(january(2)));
    Ok(())
}

#[tokio::test]
async fn older_set_joins_the_history_but_is_not_the_newest() -> Result<()> {
    let test_lake = test_lake(&[2, 3]).await?;
    handle(test_lake.context(), as_of(3)).await?;
    assert_eq!(handle(test_lake.context(), as_of(2)).await?, Output { as_of: january(2), newest: january(3) });
    assert_eq!(test_lake.context.registry.published().await?, [january(2), january(3)]);
    assert_eq!(test_lake.context.registry.newest_published().await?, Some(january(3)));
    Ok(())
}

#[tokio::test]
async fn publishing_twice_changes_no_byte() -> Result<()> {
    let test_lake = test_lake(&[2, 3]).await?;
    for day in [2, 3] {
        handle(test_lake.context(), as_of(day)).await?;
    }
    let before = test_lake.objects("").await?;
    for day in [2, 3] {
        handle(test_lake.context(), as_of(day)).await?;
    }
    assert!(test_lake.objects("").await? == before);
    Ok(())
}

#[tokio::test]
async fn rejects_days_in_the_future() -> Result<()> {
    let test_lake = test_lake(&[4]).await?;
    assert_eq!(kind(handle(test_lake.context(), as_of(4)).await), Some(Kind::BadInput));
    assert!(test_lake.objects("catalog/").await?.is_empty());
    Ok(())
}
