//! Conformance tests that every implementation of [`Store`] and of [`Catalog`] must pass.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt, stream};

use crate::catalog::{Catalog, CatalogColumn, CatalogTable, CatalogView, Partition};
use crate::error::{Error, Kind, Result};
use crate::lake::{Entry, ObjectDigest, PutOutcome, Store};

/// A number of objects that is larger than the 1,000 of one S3 listing page.
const MANY: usize = 1_050;

/// An object size that is larger than two parts of a multipart upload.
const LARGE: usize = (32 << 20) + 17;

fn keys(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.key.as_str()).collect()
}

/// Tests an empty store.
///
/// # Errors
/// An operation of the store failed.
///
/// # Panics
/// If the store does not behave as [`Store`] specifies.
pub async fn check_store(store: Arc<dyn Store>) -> Result<()> {
    put_returns_its_effect(&*store).await?;
    list_is_sorted_and_filters_by_prefix(&*store).await?;
    suffix_is_the_end_of_an_object(&*store).await?;
    range_is_a_part_of_an_object(&*store).await?;
    range_of_a_version_is_of_no_other(&*store).await?;
    swap_replaces_only_the_expected_bytes(Arc::clone(&store)).await?;
    deleting_twice_succeeds(&*store).await?;
    digest_is_that_of_the_bytes(&*store).await?;
    large_object_is_replaced_and_read_back(&*store).await?;
    long_listing_is_complete(&*store).await?;
    concurrent_writers_leave_one_intact_object(store).await
}

async fn put_returns_its_effect(store: &dyn Store) -> Result<()> {
    // Keys of the lake contain equal signs, and objects may be empty.
    for (key, first, second) in [("a/year=2023/b.parquet", &b"1"[..], &b"2"[..]), ("empty", b"", b"no longer")] {
        let [first, second] = [first, second].map(Bytes::copy_from_slice);
        assert_eq!(store.get(key).await?, None);
        assert_eq!(store.compare(key, &first).await?, PutOutcome::Created, "compare does not write");
        assert_eq!(store.put(key, first.clone()).await?, PutOutcome::Created);
        assert_eq!(store.compare(key, &first).await?, PutOutcome::Unchanged);
        assert_eq!(store.put(key, first.clone()).await?, PutOutcome::Unchanged);
        assert_eq!(store.compare(key, &second).await?, PutOutcome::Replaced);
        assert_eq!(store.get(key).await?, Some(first));
        assert_eq!(store.put(key, second.clone()).await?, PutOutcome::Replaced);
        assert_eq!(store.get(key).await?, Some(second));
        assert!(store.location(key).ends_with(key));
    }
    Ok(())
}

async fn list_is_sorted_and_filters_by_prefix(store: &dyn Store) -> Result<()> {
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

async fn suffix_is_the_end_of_an_object(store: &dyn Store) -> Result<()> {
    assert_eq!(store.get_suffix("suffix", 1).await?, None);
    store.put("suffix", Bytes::from_static(b"12345")).await?;
    for (length, end) in [(1, &b"5"[..]), (3, b"345"), (5, b"12345"), (99, b"12345")] {
        assert_eq!(store.get_suffix("suffix", length).await?.as_deref(), Some(end));
    }
    store.put("suffix", Bytes::new()).await?;
    assert_eq!(store.get_suffix("suffix", 1).await?, Some(Bytes::new()));
    Ok(())
}

async fn range_is_a_part_of_an_object(store: &dyn Store) -> Result<()> {
    assert_eq!(store.get_range("range", 0..1).await?, None);
    assert_eq!(store.get_range("range", 0..0).await?, None);
    store.put("range", Bytes::from_static(b"12345")).await?;
    for (range, part) in [(0..5, &b"12345"[..]), (1..3, b"23"), (4..99, b"5"), (2..2, b""), (5..9, b""), (7..9, b"")] {
        assert_eq!(store.get_range("range", range.clone()).await?.as_deref(), Some(part), "{range:?}");
    }
    Ok(())
}

async fn range_of_a_version_is_of_no_other(store: &dyn Store) -> Result<()> {
    assert_eq!(store.get_tail("version", 1).await?, None);
    let mut versions = Vec::new();
    for bytes in [&b"12345"[..], b"12346", b"123456"] {
        store.put("version", Bytes::copy_from_slice(bytes)).await?;
        for length in [1, 5, 99] {
            let tail = store.get_tail("version", length).await?.ok_or_else(|| Error::internal("there is no object"))?;
            assert_eq!(
                (&tail.bytes[..], tail.size),
                (&bytes[bytes.len().saturating_sub(length)..], bytes.len() as u64)
            );
            versions.push(tail.version);
        }
        let newest = &versions[versions.len() - 1];
        assert_eq!(store.get_range_of(newest, "version", 1..3).await?.as_deref(), Some(&b"23"[..]));
        assert_eq!(store.get_range_of(newest, "version", 3..99).await?.as_deref(), Some(&bytes[3..]));
        for other in versions.iter().filter(|version| *version != newest) {
            assert_eq!(store.get_range_of(other, "version", 1..3).await?, None, "{other:?}");
        }
    }
    versions.dedup();
    assert_eq!(versions.len(), 3, "{versions:?}");
    store.delete("version").await?;
    assert_eq!(store.get_range_of(&versions[2], "version", 1..3).await?, None);
    Ok(())
}

async fn swap_replaces_only_the_expected_bytes(store: Arc<dyn Store>) -> Result<()> {
    let [one, two] = [Bytes::from_static(b"1"), Bytes::from_static(b"2")];
    assert!(!store.swap("swap", Some(&one), two.clone()).await?, "there is no object");
    assert!(store.swap("swap", None, one.clone()).await?);
    assert!(!store.swap("swap", None, two.clone()).await?, "there is an object");
    assert!(!store.swap("swap", Some(&two), one.clone()).await?, "it has other bytes");
    assert!(store.swap("swap", Some(&one), two.clone()).await?);
    assert_eq!(store.get("swap").await?, Some(two.clone()));
    let swaps = (0..8).map(|writer: u8| {
        let (store, expected) = (Arc::clone(&store), two.clone());
        async move { store.swap("swap", Some(&expected), Bytes::from(vec![b'a' + writer])).await }
    });
    let swapped: Vec<_> = join_all(swaps).await.into_iter().collect::<Result<_>>()?;
    assert_eq!(swapped.iter().filter(|swapped| **swapped).count(), 1, "{swapped:?}");
    Ok(())
}

async fn deleting_twice_succeeds(store: &dyn Store) -> Result<()> {
    store.put("d", Bytes::from_static(b"1")).await?;
    for _ in 0..2 {
        store.delete("d").await?;
        assert_eq!(store.get("d").await?, None);
    }
    assert_eq!(store.put("d", Bytes::from_static(b"1")).await?, PutOutcome::Created);
    Ok(())
}

async fn digest_is_that_of_the_bytes(store: &dyn Store) -> Result<()> {
    assert_eq!(store.digest("digest").await?, None);
    for bytes in [vec![], vec![7; 1000], vec![7; LARGE]].map(Bytes::from) {
        store.put("digest", bytes.clone()).await?;
        assert_eq!(store.digest("digest").await?, Some(ObjectDigest::of(&bytes)), "{} bytes", bytes.len());
    }
    store.delete("digest").await
}

async fn large_object_is_replaced_and_read_back(store: &dyn Store) -> Result<()> {
    let large = |last: u8| {
        let mut bytes: Vec<u8> = (0..LARGE).map(|i| (i / 1000) as u8).collect();
        bytes.extend([last]);
        Bytes::from(bytes)
    };
    assert_eq!(store.put("large", large(1)).await?, PutOutcome::Created);
    assert_eq!(store.put("large", large(1)).await?, PutOutcome::Unchanged);
    assert_eq!(store.put("large", large(2)).await?, PutOutcome::Replaced);
    assert_eq!(store.get("large").await?, Some(large(2)));
    assert_eq!(store.list("large").await?, [Entry { key: "large".to_owned(), size: LARGE as u64 + 1 }]);
    Ok(())
}

async fn long_listing_is_complete(store: &dyn Store) -> Result<()> {
    let puts = (0..MANY).map(|i| async move { store.put(&format!("many/{i:05}"), Bytes::new()).await });
    stream::iter(puts).buffer_unordered(16).try_collect::<Vec<_>>().await?;
    let listed = store.list("many/").await?;
    let expected: Vec<_> = (0..MANY).map(|i| format!("many/{i:05}")).collect();
    assert_eq!(keys(&listed), expected);
    Ok(())
}

async fn concurrent_writers_leave_one_intact_object(store: Arc<dyn Store>) -> Result<()> {
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
        // A store may detect and report the conflict.
        assert!(put.is_ok() || put.is_err_and(|error| error.kind() == Kind::AlreadyRunning));
    }
    let winner = store.get("race").await?;
    assert!((0..8).any(|i| winner == Some(other(i))), "the object is not that of one writer");
    Ok(())
}

fn table(columns: &[&str], location: &str) -> CatalogTable {
    let column = |name: &&str| CatalogColumn {
        name: (*name).to_owned(),
        data_type: "decimal(38,0)".to_owned(),
        comment: "Wei.".to_owned(),
    };
    CatalogTable {
        description: "A row.".to_owned(),
        columns: columns.iter().map(column).collect(),
        partition_columns: vec!["year".to_owned(), "month".to_owned()],
        location: location.to_owned(),
        parameters: BTreeMap::new(),
    }
}

/// Tests a catalog that has no database `db_contract`.
///
/// # Errors
/// An operation of the catalog failed.
///
/// # Panics
/// If the catalog does not behave as [`Catalog`] specifies.
pub async fn check_catalog(catalog: &dyn Catalog) -> Result<()> {
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
    for expected in [some, all, all] {
        catalog.put_partitions(DATABASE, "t", expected).await?;
        assert_eq!(catalog.partitions(DATABASE, "t").await?, expected);
    }
    let values = |year: &str| vec![year.to_owned(), "02".to_owned()];
    let found = catalog.partition(DATABASE, "t", &values("2003")).await?;
    assert_eq!(found.map(|partition| partition.location).as_deref(), Some("raw/t/year=2003/month=02"));
    assert_eq!(catalog.partition(DATABASE, "t", &values("1999")).await?, None);
    assert_eq!(catalog.partition(DATABASE, "other", &values("2003")).await?, None);

    let columns = first.columns.clone();
    let view = CatalogView { description: "a view".to_owned(), columns, sql: "SELECT a, b FROM t".to_owned() };
    for put in join_all((0..4).map(|_| catalog.put_view(DATABASE, "v", &view))).await {
        put?;
    }
    catalog.put_view(DATABASE, "v", &CatalogView { sql: "SELECT b AS a, a AS b FROM t".to_owned(), ..view }).await?;
    Ok(())
}
