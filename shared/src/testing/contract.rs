//! What every store and every catalog promises, as tests that each implementation is held to.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt, stream};

use crate::catalog::{Catalog, CatalogColumn, CatalogTable, Partition};
use crate::error::{Kind, Result};
use crate::lake::{Entry, Put, Store};

/// More than S3 lists in one page, and more than it takes in one part.
const MANY: usize = 1_050;

/// Larger than two parts of a multipart upload.
const LARGE: usize = (32 << 20) + 17;

fn keys(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.key.as_str()).collect()
}

/// Holds an empty store to what a store promises.
///
/// # Errors
/// The store's, where it promises to have none.
///
/// # Panics
/// Where it does not keep a promise.
pub async fn store(store: Arc<dyn Store>) -> Result<()> {
    a_put_says_what_it_did(&*store).await?;
    a_listing_is_in_order_and_goes_by_prefix(&*store).await?;
    deleting_twice_is_no_error(&*store).await?;
    a_large_object_is_one_object(&*store).await?;
    a_long_listing_is_whole(&*store).await?;
    writers_at_once_leave_one_whole_object(store).await
}

async fn a_put_says_what_it_did(store: &dyn Store) -> Result<()> {
    // The keys of the lake have equal signs, and a part may be empty.
    for (key, first, second) in [("a/year=2023/b.parquet", &b"1"[..], &b"2"[..]), ("empty", b"", b"no longer")] {
        let [first, second] = [first, second].map(Bytes::copy_from_slice);
        assert_eq!(store.get(key).await?, None);
        assert_eq!(store.compare(key, &first).await?, Put::Created, "comparing does not write");
        assert_eq!(store.put(key, first.clone()).await?, Put::Created);
        assert_eq!(store.compare(key, &first).await?, Put::Unchanged);
        assert_eq!(store.put(key, first.clone()).await?, Put::Unchanged);
        assert_eq!(store.compare(key, &second).await?, Put::Replaced);
        assert_eq!(store.get(key).await?, Some(first));
        assert_eq!(store.put(key, second.clone()).await?, Put::Replaced);
        assert_eq!(store.get(key).await?, Some(second));
        assert!(store.location(key).ends_with(key));
    }
    Ok(())
}

async fn a_listing_is_in_order_and_goes_by_prefix(store: &dyn Store) -> Result<()> {
    for key in ["t/x/2", "t/x/1", "t/xy/3", "t/w", "u"] {
        store.put(key, Bytes::from_static(b"12345")).await?;
    }
    assert_eq!(keys(&store.list("t/x").await?), ["t/x/1", "t/x/2", "t/xy/3"]);
    assert_eq!(keys(&store.list("t/x/").await?), ["t/x/1", "t/x/2"]);
    assert_eq!(store.list("t/w").await?, [Entry { key: "t/w".to_owned(), size: 5 }]);
    assert_eq!(store.list("").await?.iter().filter(|entry| entry.key.starts_with('t')).count(), 4);
    assert!(store.list("nothing/here").await?.is_empty());
    Ok(())
}

async fn deleting_twice_is_no_error(store: &dyn Store) -> Result<()> {
    store.put("d", Bytes::from_static(b"1")).await?;
    for _ in 0..2 {
        store.delete("d").await?;
        assert_eq!(store.get("d").await?, None);
    }
    assert_eq!(store.put("d", Bytes::from_static(b"1")).await?, Put::Created);
    Ok(())
}

async fn a_large_object_is_one_object(store: &dyn Store) -> Result<()> {
    let large = |last: u8| {
        let mut bytes: Vec<u8> = (0..LARGE).map(|i| (i / 1000) as u8).collect();
        bytes.extend([last]);
        Bytes::from(bytes)
    };
    assert_eq!(store.put("large", large(1)).await?, Put::Created);
    assert_eq!(store.put("large", large(1)).await?, Put::Unchanged);
    assert_eq!(store.put("large", large(2)).await?, Put::Replaced);
    assert_eq!(store.get("large").await?, Some(large(2)));
    assert_eq!(store.list("large").await?, [Entry { key: "large".to_owned(), size: LARGE as u64 + 1 }]);
    Ok(())
}

async fn a_long_listing_is_whole(store: &dyn Store) -> Result<()> {
    let puts = (0..MANY).map(|i| async move { store.put(&format!("many/{i:05}"), Bytes::new()).await });
    stream::iter(puts).buffer_unordered(16).try_collect::<Vec<_>>().await?;
    let listed = store.list("many/").await?;
    let wanted: Vec<_> = (0..MANY).map(|i| format!("many/{i:05}")).collect();
    assert_eq!(keys(&listed), wanted);
    Ok(())
}

async fn writers_at_once_leave_one_whole_object(store: Arc<dyn Store>) -> Result<()> {
    let equal = (0..8).map(|_| store.put("race", Bytes::from_static(b"the same")));
    for put in join_all(equal).await {
        put?;
    }
    assert_eq!(store.get("race").await?.as_deref(), Some(&b"the same"[..]));
    let other = |i: u8| Bytes::from(vec![i; 1000]);
    let writers: Vec<_> = (0..8)
        .map(|i| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.put("race", other(i)).await })
        })
        .collect();
    for put in join_all(writers).await.into_iter().flatten() {
        // One that was overtaken may say so.
        assert!(put.is_ok() || put.is_err_and(|error| error.kind() == Kind::AlreadyRunning));
    }
    let left = store.get("race").await?;
    assert!((0..8).any(|i| left == Some(other(i))), "one of them, whole");
    Ok(())
}

fn table(columns: &[&str], location: &str) -> CatalogTable {
    let column = |name: &&str| CatalogColumn {
        name: (*name).to_owned(),
        data_type: "decimal(38,0)".to_owned(),
        comment: "Wei.".to_owned(),
    };
    CatalogTable {
        description: "What a row is.".to_owned(),
        columns: columns.iter().map(column).collect(),
        partition_columns: vec!["year".to_owned(), "month".to_owned()],
        location: location.to_owned(),
        parameters: BTreeMap::new(),
    }
}

/// Holds a catalog without the database `db_contract` to what a catalog promises.
///
/// # Errors
/// The catalog's, where it promises to have none.
///
/// # Panics
/// Where it does not keep a promise.
pub async fn catalog(catalog: &dyn Catalog) -> Result<()> {
    const DATABASE: &str = "db_contract";
    assert_eq!(catalog.table(DATABASE, "t").await?, None);
    assert!(catalog.partitions(DATABASE, "t").await?.is_empty());
    let first = table(&["a", "b"], "raw/t");
    for put in join_all((0..4).map(|_| catalog.put_table(DATABASE, "t", &first))).await {
        put?;
    }
    assert_eq!(catalog.table(DATABASE, "t").await?.as_ref(), Some(&first));
    let mut changed = table(&["a", "b", "c"], "raw/elsewhere");
    changed.parameters.insert("as_of".to_owned(), "2023-01-01".to_owned());
    catalog.put_table(DATABASE, "t", &changed).await?;
    assert_eq!(catalog.table(DATABASE, "t").await?, Some(changed));
    assert_eq!(catalog.table(DATABASE, "other").await?, None);

    let partitions: Vec<_> = (0..250)
        .map(|i| Partition {
            values: vec![format!("{}", 2000 + i / 12), format!("{:02}", i % 12 + 1)],
            location: format!("raw/t/year={}/month={:02}", 2000 + i / 12, i % 12 + 1),
        })
        .collect();
    let (some, all) = (partitions.get(100..170).unwrap_or_default(), partitions.as_slice());
    for wanted in [some, all, all] {
        catalog.put_partitions(DATABASE, "t", wanted).await?;
        assert_eq!(catalog.partitions(DATABASE, "t").await?, wanted);
    }
    Ok(())
}
