//! `defi feast`: writes a Feast repository over the published features.

use std::collections::BTreeSet;
use std::path::PathBuf;

use arrow_schema::DataType;
use defi_shared::catalog::Registry;
use defi_shared::domain::Day;
use defi_shared::error::{Error, Result};
use defi_shared::tables::{FEATURES_HISTORY, FeatureRow, Row};

use super::{absolute, folder, quoted};
use crate::lake::{LakeOptions, ReadOptions};
use crate::output::line;

/// The options of a repository.
#[derive(Debug)]
pub struct Options {
    /// The folder to write.
    pub folder: PathBuf,
    /// The lake, and the environment.
    pub lake: LakeOptions,
    /// Read the deployed lake through Athena. Default: the files of the local lake, with DuckDB.
    pub athena: Option<Athena>,
}

/// Where Feast's queries run in Athena. What is not set is what Terraform creates with `feast = true`.
#[derive(Debug)]
pub struct Athena {
    /// The catalog of Athena.
    pub data_source: String,
    /// The region. Default: that of the credentials.
    pub region: Option<String>,
    /// The workgroup, which must not enforce where results go. Default: `defi-{env}-feast`.
    pub workgroup: Option<String>,
    /// The database for temporary tables. Default: `db_feast_{env}`.
    pub database: Option<String>,
    /// The folder in S3 for temporary objects. Default: the bucket of the results of Athena.
    pub staging: Option<String>,
}

/// The parts of a repository that depend on where Feast reads the features.
struct Store {
    offline_store: String,
    imports: &'static str,
    source: String,
}

const COMMAND: &str = "feast";

/// Writes the repository, and prints what to do next.
///
/// # Errors
/// `BadInput` if there is no lake, nothing is published, or the folder has other content, and the errors of the lake.
pub async fn write(options: &Options) -> Result<()> {
    let lake = ReadOptions { lake: options.lake.clone(), aws: options.athena.is_some() };
    let (_, registry) = crate::lake::open(&lake).await?;
    let ttl = ttl_days(&published(&registry).await?);
    let store = match &options.athena {
        Some(athena) => through_athena(athena, &options.lake).await?,
        None => files(&options.lake)?,
    };
    let files = [
        ("feature_store.yaml", configuration(options.lake.env.name(), &store)),
        ("features.py", definitions(&store, ttl)?),
    ];
    folder::write(&options.folder, COMMAND, &files)?;
    line(format_args!("{}: a Feast repository; go on there with feast apply", options.folder.display()))
}

async fn published(registry: &Registry) -> Result<Vec<Day>> {
    crate::lake::published_set(registry, None).await?;
    registry.published().await
}

/// Returns how long the row of a set counts: the longest time between two published days, at least a day, and a day more.
fn ttl_days(published: &[Day]) -> i32 {
    let gaps = published.windows(2).map(|days| days[1].epoch_days() - days[0].epoch_days());
    gaps.max().unwrap_or(1) + 1
}

fn configuration(env: &str, store: &Store) -> String {
    include_str!("feature_store.yaml")
        .replace("{mark}", &folder::mark(COMMAND))
        .replace("{project}", &format!("defi_{env}"))
        .replace("{offline_store}", &store.offline_store)
}

fn files(lake: &LakeOptions) -> Result<Store> {
    let path = format!("{}/{}/as_of=*/*.parquet", absolute(&lake.folder)?, FEATURES_HISTORY.prefix());
    Ok(Store {
        // Not the default, dask, which drops or refuses rows of wallets that have no features.
        offline_store: "offline_store:\n  type: duckdb".to_owned(),
        imports: "from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType\nfrom feast.data_format import ParquetFormat",
        source: include_str!("file_source.py").replace("{path}", &quoted(&path)),
    })
}

#[cfg(feature = "aws")]
async fn through_athena(athena: &Athena, lake: &LakeOptions) -> Result<Store> {
    let env = lake.env.name();
    let Athena { data_source, region, workgroup, database, staging } = athena;
    let (bucket, default_region) = crate::aws::bucket_and_region(lake.env).await?;
    let region = region.clone().or(default_region).ok_or_else(|| {
        Error::bad_input("no region is configured").with_hint("set AWS_REGION, or name it with --region")
    })?;
    let staging = staging.clone().unwrap_or_else(|| format!("s3://{bucket}-athena"));
    if !staging.starts_with("s3://") {
        return Err(
            Error::bad_input(format!("--staging {staging} is no place in S3")).with_hint("write s3://BUCKET/PREFIX")
        );
    }
    let settings = [
        ("type", "athena".to_owned()),
        ("data_source", quoted(data_source)),
        ("region", quoted(&region)),
        ("workgroup", quoted(workgroup.as_deref().unwrap_or(&format!("defi-{env}-feast")))),
        ("database", quoted(database.as_deref().unwrap_or(&format!("db_feast_{env}")))),
        // Without a slash at the end: Feast adds one.
        ("s3_staging_location", quoted(staging.trim_end_matches('/'))),
    ];
    let settings: Vec<_> = settings.into_iter().map(|(name, value)| format!("  {name}: {value}")).collect();
    let table = [data_source, &FEATURES_HISTORY.database(env), FEATURES_HISTORY.name].map(quoted).join(".");
    let query = format!("SELECT *, CAST(as_of AS timestamp) AS as_of_time FROM {table}");
    Ok(Store {
        offline_store: format!("offline_store:\n{}", settings.join("\n")),
        imports: "from feast import Entity, FeatureService, FeatureView, Field, ValueType\nfrom feast.infra.offline_stores.contrib.athena_offline_store.athena_source import AthenaSource",
        source: include_str!("athena_source.py").replace("{query}", &quoted(&query)),
    })
}

#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, reason = "builds with AWS support need async")]
async fn through_athena(_: &Athena, _: &LakeOptions) -> Result<Store> {
    Err(Error::bad_input("this build has no AWS support").with_hint("build with AWS support: make build"))
}

/// Returns the Python file: the entity, the source and the view with every column.
fn definitions(store: &Store, ttl: i32) -> Result<String> {
    let columns = FeatureRow::columns();
    let mut types = BTreeSet::new();
    let mut fields = Vec::new();
    for column in &columns {
        let dtype = feast_type(&column.data_type).map_err(|error| error.with("column", column.name))?;
        let (name, about) = (quoted(column.name), quoted(&column.doc));
        fields.push(format!("        Field(name={name}, dtype={dtype}, description={about}),"));
        types.insert(dtype);
    }
    let types: Vec<_> = types.into_iter().collect();
    let wallet = columns.first().map(|column| quoted(&column.doc)).unwrap_or_default();
    Ok(include_str!("features.py")
        .replace("{mark}", &folder::mark(COMMAND))
        .replace("{imports}", &format!("{}\nfrom feast.types import {}", store.imports, types.join(", ")))
        .replace("{source}", store.source.trim_end())
        .replace("{wallet}", &wallet)
        .replace("{about}", &quoted(FEATURES_HISTORY.doc.trim()))
        .replace("{ttl}", &ttl.to_string())
        .replace("{fields}", &fields.join("\n")))
}

/// Returns the name in `feast.types` of a column's type.
fn feast_type(data_type: &DataType) -> Result<&'static str> {
    match data_type {
        DataType::Boolean => Ok("Bool"),
        DataType::Float64 => Ok("Float64"),
        DataType::Int64 => Ok("Int64"),
        DataType::Utf8 => Ok("String"),
        other => Err(Error::internal(format!("no type of Feast is known for {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::env::Env;

    fn day(number: i32) -> Day {
        Day::from_epoch_days(19_358 + number)
    }

    #[test]
    fn rows_count_for_the_longest_gap_and_a_day() {
        for (days, expected) in [(vec![0], 2), (vec![0, 1, 2], 2), (vec![0, 3, 4, 12], 9)] {
            let days: Vec<_> = days.into_iter().map(day).collect();
            assert_eq!(ttl_days(&days), expected, "{days:?}");
        }
    }

    #[test]
    fn every_column_is_a_field_with_its_description() {
        let lake = LakeOptions { folder: Path::new("/a lake").to_owned(), env: Env::Dev };
        let text = definitions(&files(&lake).unwrap(), 2).unwrap();
        for column in FeatureRow::columns() {
            let field = format!("Field(name={}, dtype=", quoted(column.name));
            let field = text.lines().find(|line| line.contains(&field)).unwrap();
            assert!(field.contains(&quoted(&column.doc)), "{field}");
        }
        assert!(text.contains("path=\"/a lake/analytics/features/defi_features/as_of=*/*.parquet\""), "{text}");
        assert!(!text.contains(['{', '}']), "a placeholder is left: {text}");
    }

    #[test]
    fn type_that_feast_does_not_know_is_an_error() {
        assert!(feast_type(&DataType::Date32).is_err());
    }
}
