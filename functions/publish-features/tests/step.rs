//! Runs the step over builds in a lake.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use defi_shared::catalog::registry_in_lake;
use defi_shared::domain::fold;
use defi_shared::domain::fold::WalletState;
use defi_shared::lake::{FeatureSet, FolderStore, Lake, PassedCheck, WorkUnit};
use defi_shared::step::Context;
use defi_shared::tables::{FEATURES_BUILD, FeatureRow};
use defi_shared::testing::{AAVE, FaultyStore, Operation, TestLake, address, january, kind};
use defi_shared::{Error, Kind, Result};
use publish_features::{Input, Output, handle};

/// Builds a set of two shards as of a day of January. `borrows` is the value of one of its features.
async fn build(test_lake: &TestLake, day: i32, borrows: i64) -> Result<()> {
    for shard in 0..2 {
        let state = WalletState { is_wallet: true, ..WalletState::default() };
        let row = FeatureRow::new(address(shard), &state, january(day));
        let unit = WorkUnit::Shard(january(day), shard.into());
        test_lake.put(&FEATURES_BUILD, &unit, vec![FeatureRow { borrow_count: borrows, ..row }]).await?;
    }
    Ok(())
}

/// Records that the build of a day passed its checks. Returns its digest.
async fn pass(test_lake: &TestLake, day: i32) -> Result<String> {
    let (rows, digest) = test_lake.context.lake.features(&FeatureSet::build(january(day))).await?;
    let digest = digest.to_string();
    let record =
        PassedCheck { digest: digest.clone(), shards: 2, wallets: rows.len() as u64, fold_version: fold::VERSION };
    test_lake.context.lake.write_passed_check(january(day), &record).await?;
    Ok(digest)
}

/// Creates a test lake on 3 January with a build for each of the days that passed its checks.
async fn test_lake(days: &[i32]) -> Result<TestLake> {
    let test_lake = TestLake::new(&[AAVE], january(3))?.with_shards(2);
    for day in days {
        build(&test_lake, *day, 1).await?;
        pass(&test_lake, *day).await?;
    }
    Ok(test_lake)
}

fn as_of(day: i32) -> Input {
    Input { as_of: Some(january(day)), only_finish: false }
}

/// Returns the values of `borrow_count` in the set that the catalog shows for a day.
async fn borrows(test_lake: &TestLake, day: i32) -> Result<Vec<i64>> {
    let Some(set) = test_lake.context.registry.published_set(january(day)).await? else { return Ok(Vec::new()) };
    Ok(test_lake.context.lake.features(&set).await?.0.iter().map(|row| row.borrow_count).collect())
}

/// Returns the objects in the folder of the table.
async fn table_folder(test_lake: &TestLake) -> Result<BTreeMap<String, Bytes>> {
    test_lake.objects("analytics/features/defi_features/").await
}

#[tokio::test]
async fn published_set_is_in_the_history_and_is_the_newest() -> Result<()> {
    let test_lake = test_lake(&[3]).await?;
    let build = test_lake.objects("analytics/features/builds/").await?;
    let output = handle(test_lake.context(), Input::default()).await?;
    assert_eq!(output, Output { as_of: january(3), newest: january(3) });
    let registry = &test_lake.context.registry;
    let set = FeatureSet::published(january(3));
    assert_eq!(registry.newest_set().await?.as_ref(), Some(&set));
    assert_eq!(registry.published_sets().await?, [set]);
    assert!(registry.is_published(january(3)).await?);
    let published = table_folder(&test_lake).await?;
    assert!(published.values().eq(build.values()), "the objects are those of the build, byte for byte");
    Ok(())
}

#[tokio::test]
async fn checked_copy_stays_until_another_set_is_published() -> Result<()> {
    let test_lake = test_lake(&[2]).await?;
    let digest = pass(&test_lake, 2).await?;
    handle(test_lake.context(), as_of(2)).await?;
    let copies = test_lake.objects("analytics/features/checked/").await?;
    let checked = FeatureSet::checked(january(2), &digest);
    assert!(copies.keys().eq(&[checked.key(0), checked.key(1)]), "{:?}", copies.keys());
    build(&test_lake, 3, 1).await?;
    let digest = pass(&test_lake, 3).await?;
    handle(test_lake.context(), as_of(3)).await?;
    let copies = test_lake.objects("analytics/features/checked/").await?;
    let checked = FeatureSet::checked(january(3), &digest);
    assert!(copies.keys().eq(&[checked.key(0), checked.key(1)]), "{:?}", copies.keys());
    assert!(test_lake.objects("analytics/features/builds/").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn build_without_a_passed_check_is_refused() -> Result<()> {
    let test_lake = test_lake(&[]).await?;
    build(&test_lake, 3, 1).await?;
    assert_eq!(kind(handle(test_lake.context(), as_of(3)).await), Some(Kind::QualityFailed));
    assert!(test_lake.objects("catalog/").await?.is_empty() && table_folder(&test_lake).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn build_that_is_not_the_checked_one_is_refused() -> Result<()> {
    let test_lake = test_lake(&[3]).await?;
    handle(test_lake.context(), as_of(3)).await?;
    let before = table_folder(&test_lake).await?;
    build(&test_lake, 3, 2).await?;
    assert_eq!(kind(handle(test_lake.context(), as_of(3)).await), Some(Kind::QualityFailed));
    assert!(table_folder(&test_lake).await? == before && borrows(&test_lake, 3).await? == [1, 1]);
    pass(&test_lake, 3).await?;
    handle(test_lake.context(), as_of(3)).await?;
    assert_eq!(borrows(&test_lake, 3).await?, [2, 2]);
    Ok(())
}

#[tokio::test]
async fn record_without_a_set_is_not_ready() -> Result<()> {
    let test_lake = test_lake(&[3]).await?;
    test_lake.context.lake.delete_builds(None).await?;
    assert_eq!(kind(handle(test_lake.context(), as_of(3)).await), Some(Kind::NotReady));
    Ok(())
}

#[tokio::test]
async fn older_set_joins_the_history_but_is_not_the_newest() -> Result<()> {
    let test_lake = test_lake(&[3]).await?;
    handle(test_lake.context(), as_of(3)).await?;
    build(&test_lake, 2, 1).await?;
    pass(&test_lake, 2).await?;
    assert_eq!(handle(test_lake.context(), as_of(2)).await?, Output { as_of: january(2), newest: january(3) });
    assert_eq!(test_lake.context.registry.published().await?, [january(2), january(3)]);
    assert_eq!(test_lake.context.registry.newest_published().await?, Some(january(3)));
    Ok(())
}

#[tokio::test]
async fn equal_build_moves_nothing() -> Result<()> {
    let test_lake = test_lake(&[3]).await?;
    handle(test_lake.context(), as_of(3)).await?;
    let before = test_lake.objects("").await?;
    handle(test_lake.context(), as_of(3)).await?;
    assert!(test_lake.objects("").await? == before, "published again");
    build(&test_lake, 3, 1).await?;
    pass(&test_lake, 3).await?;
    handle(test_lake.context(), as_of(3)).await?;
    assert!(test_lake.objects("").await? == before, "built again");
    Ok(())
}

/// Points the catalog to a copy of the build of 3 January, as a publication does that is interrupted with one of two
/// objects copied.
async fn interrupt_publication(test_lake: &TestLake) -> Result<FeatureSet> {
    let (lake, build) = (&test_lake.context.lake, FeatureSet::build(january(3)));
    let (_, digest) = lake.features(&build).await?;
    let copy = FeatureSet::checked(january(3), &digest.to_string());
    lake.copy_set(&build, &digest, &copy).await?;
    test_lake.context.registry.point_to(&copy).await?;
    let first = lake.store().get(&copy.key(0)).await?.unwrap_or_default();
    lake.store().put(&FeatureSet::published(january(3)).key(0), first).await?;
    Ok(copy)
}

#[tokio::test]
async fn interrupted_publication_is_finished_although_the_day_is_built_again() -> Result<()> {
    let test_lake = test_lake(&[3]).await?;
    handle(test_lake.context(), as_of(3)).await?;
    build(&test_lake, 3, 2).await?;
    pass(&test_lake, 3).await?;
    interrupt_publication(&test_lake).await?;
    build(&test_lake, 3, 9).await?;
    assert_eq!(borrows(&test_lake, 3).await?, [2, 2]);
    test_lake.context.finish_publications().await?;
    assert_eq!(test_lake.context.registry.published_sets().await?, [FeatureSet::published(january(3))]);
    assert_eq!(borrows(&test_lake, 3).await?, [2, 2], "the folder of the table has the checked set");
    Ok(())
}

#[tokio::test]
async fn copy_that_the_catalog_points_to_but_that_passed_no_check_is_refused() -> Result<()> {
    let test_lake = test_lake(&[3]).await?;
    handle(test_lake.context(), as_of(3)).await?;
    // The folder of the copy has the name of its digest, but the record is that of another set, or there is none.
    build(&test_lake, 3, 2).await?;
    let copy = interrupt_publication(&test_lake).await?;
    let unchanged = table_folder(&test_lake).await?;
    for has_record in [true, false] {
        if !has_record {
            test_lake.context.lake.delete_passed_check(january(3)).await?;
        }
        let error = test_lake.context.finish_publications().await.err();
        assert_eq!(error.map(|error| error.kind()), Some(Kind::CorruptData), "{has_record}");
        assert!(table_folder(&test_lake).await? == unchanged);
        assert_eq!(test_lake.context.registry.published_sets().await?, std::slice::from_ref(&copy));
    }
    Ok(())
}

#[tokio::test]
async fn only_finish_publishes_no_build() -> Result<()> {
    let test_lake = test_lake(&[2]).await?;
    let (lake, registry) = (&test_lake.context.lake, &test_lake.context.registry);
    handle(test_lake.context(), as_of(2)).await?;
    // Interrupted after the catalog pointed to the checked copy, with one of two objects copied.
    build(&test_lake, 2, 2).await?;
    let checked = FeatureSet::checked(january(2), &pass(&test_lake, 2).await?);
    let (_, digest) = lake.features(&FeatureSet::build(january(2))).await?;
    lake.copy_set(&FeatureSet::build(january(2)), &digest, &checked).await?;
    registry.point_to(&checked).await?;
    let first = lake.store().get(&checked.key(0)).await?.unwrap_or_default();
    lake.store().put(&FeatureSet::published(january(2)).key(0), first).await?;
    // Another day that passed its checks, and one that did not.
    build(&test_lake, 3, 1).await?;
    pass(&test_lake, 3).await?;
    build(&test_lake, 1, 1).await?;
    let finish = || Input { only_finish: true, ..Input::default() };
    for _ in 0..2 {
        assert_eq!(handle(test_lake.context(), finish()).await?, Output { as_of: january(3), newest: january(2) });
        assert_eq!(registry.published_sets().await?, [FeatureSet::published(january(2))]);
        assert_eq!(borrows(&test_lake, 2).await?, [2, 2]);
        assert!(!test_lake.context.has_unfinished_publications().await?);
    }
    Ok(())
}

/// Publishes a second set over a store that fails from its n-th write on, for each n, and asserts what readers see at
/// that moment.
#[tokio::test]
async fn readers_see_one_set_or_the_other_after_each_write() -> Result<()> {
    let mut writes = 0;
    loop {
        let test_lake = test_lake(&[3]).await?;
        handle(test_lake.context(), as_of(3)).await?;
        build(&test_lake, 3, 2).await?;
        pass(&test_lake, 3).await?;
        let (limit, count) = (writes, AtomicUsize::new(0));
        let fail_later = move |operation: Operation, _| match operation {
            Operation::Put | Operation::Delete if count.fetch_add(1, Ordering::Relaxed) >= limit => {
                Err(Error::new(Kind::SourceUnavailable, "the store is gone"))
            }
            _ => Ok(()),
        };
        let lake = Lake::new(FaultyStore::new(FolderStore::new(test_lake.folder()), fail_later));
        let registry = registry_in_lake(&lake, "dev");
        let published = handle(Context { lake, registry, ..test_lake.context() }, as_of(3)).await;
        let seen = borrows(&test_lake, 3).await?;
        assert!(seen == [1, 1] || seen == [2, 2], "by the catalog after {writes} writes: {seen:?}");
        let (rows, _) = test_lake.context.lake.features(&FeatureSet::published(january(3))).await?;
        let in_folder: Vec<_> = rows.iter().map(|row| row.borrow_count).collect();
        assert!(in_folder.len() == 2 && in_folder.iter().all(|value| [1, 2].contains(value)), "{in_folder:?}");
        if published.is_ok() {
            break;
        }
        handle(test_lake.context(), as_of(3)).await?;
        assert_eq!(borrows(&test_lake, 3).await?, [2, 2], "continued after {writes} writes");
        assert!(test_lake.context.registry.is_published(january(3)).await?);
        writes += 1;
    }
    // At least two objects twice, four pointers, and two objects of the build and two of the older copy to delete.
    assert!(writes >= 12, "{writes}");
    Ok(())
}

#[tokio::test]
async fn folder_of_a_published_day_stays_while_its_readers_finish() -> Result<()> {
    let test_lake = test_lake(&[3]).await?;
    handle(test_lake.context(), as_of(3)).await?;
    let before = table_folder(&test_lake).await?;
    build(&test_lake, 3, 2).await?;
    let checked = FeatureSet::checked(january(3), &pass(&test_lake, 3).await?);
    let forever = Context { wait_for_readers: Duration::from_secs(86_400), ..test_lake.context() };
    let pointed = async {
        while test_lake.context.registry.published_set(january(3)).await? != Some(checked.clone()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // A publication that does not wait ends meanwhile.
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok::<_, Error>(())
    };
    tokio::select! {
        published = handle(forever, as_of(3)) => panic!("did not wait: {published:?}"),
        pointed = pointed => pointed?,
    }
    assert!(table_folder(&test_lake).await? == before, "queries that started before read it");
    test_lake.context.finish_publications().await?;
    assert!(table_folder(&test_lake).await? != before && borrows(&test_lake, 3).await? == [2, 2]);
    Ok(())
}

#[tokio::test]
async fn fewer_shards_than_before_leave_no_object() -> Result<()> {
    let test_lake = test_lake(&[3]).await?;
    handle(test_lake.context(), as_of(3)).await?;
    let test_lake = test_lake.with_shards(1);
    test_lake.put(&FEATURES_BUILD, &WorkUnit::Shard(january(3), 0), Vec::<FeatureRow>::new()).await?;
    pass(&test_lake, 3).await?;
    handle(test_lake.context(), as_of(3)).await?;
    assert!(table_folder(&test_lake).await?.keys().eq(&[FeatureSet::published(january(3)).key(0)]));
    Ok(())
}

#[tokio::test]
async fn pointer_after_today_to_no_objects_or_to_another_day_is_refused() -> Result<()> {
    let other_day = FeatureSet { as_of: january(3), ..FeatureSet::build(january(2)) };
    for pointer in [FeatureSet::published("2199-01-01".parse()?), FeatureSet::published(january(3)), other_day] {
        let test_lake = test_lake(&[2]).await?;
        test_lake.context.registry.point_to(&pointer).await?;
        let error = handle(test_lake.context(), as_of(2)).await.err();
        let error = error.unwrap_or_else(|| panic!("{pointer:?}"));
        assert_eq!(error.kind(), Kind::CorruptData);
        assert!(error.to_string().contains(&pointer.as_of.to_string()), "{error}");
        assert_eq!(test_lake.context.registry.published().await?, [pointer.as_of]);
    }
    Ok(())
}

#[tokio::test]
async fn set_whose_objects_were_deleted_is_published_again() -> Result<()> {
    let test_lake = test_lake(&[3]).await?;
    handle(test_lake.context(), as_of(3)).await?;
    let expected = table_folder(&test_lake).await?;
    for key in expected.keys() {
        test_lake.context.lake.store().delete(key).await?;
    }
    build(&test_lake, 3, 1).await?;
    handle(test_lake.context(), as_of(3)).await?;
    assert!(table_folder(&test_lake).await? == expected);
    Ok(())
}

#[tokio::test]
async fn rejects_days_in_the_future() -> Result<()> {
    let test_lake = test_lake(&[4]).await?;
    assert_eq!(kind(handle(test_lake.context(), as_of(4)).await), Some(Kind::BadInput));
    assert!(test_lake.objects("catalog/").await?.is_empty());
    Ok(())
}
