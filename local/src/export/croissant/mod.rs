//! Croissant metadata of an exported file (<https://docs.mlcommons.org/croissant/docs/croissant-spec.html>): what the file
//! is, its digest, and every column with its type and its description.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use arrow_schema::DataType;
use defi_shared::error::{Error, Result};
use defi_shared::tables::Column;
use serde_json::{Value, json};

use crate::output::write_file;

/// An exported file.
#[derive(Debug)]
pub struct ExportedFile<'a> {
    /// Its path.
    pub path: &'a Path,
    /// Its media type.
    pub media_type: &'static str,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256 digest, in hexadecimal digits.
    pub sha256: &'a str,
    /// What its rows are.
    pub about: &'a str,
    /// Its columns.
    pub columns: &'a [Column],
}

/// The terms that Croissant's documents use, as the specification writes them.
const CONTEXT: &str = include_str!("context.json");

/// Writes the metadata beside the file, into `{file}.croissant.json`. Returns the path.
///
/// # Errors
/// `BadInput` if it can't be written.
pub fn write(file: &ExportedFile<'_>) -> Result<PathBuf> {
    let mut name = OsString::from(file.path);
    name.push(".croissant.json");
    let path = PathBuf::from(name);
    let text = serde_json::to_string_pretty(&describe(file)?);
    let text = text.map_err(|cause| Error::internal("can't serialize the metadata").with_source(cause))?;
    write_file(&path, &format!("{text}\n"))?;
    Ok(path)
}

fn describe(file: &ExportedFile<'_>) -> Result<Value> {
    let context: Value = serde_json::from_str(CONTEXT)
        .map_err(|cause| Error::internal("the context of Croissant is invalid").with_source(cause))?;
    let name = file.path.file_name().unwrap_or_default().to_string_lossy();
    let fields = file.columns.iter().map(|column| field(column, &name)).collect::<Result<Vec<_>>>()?;
    Ok(json!({
        "@context": context,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "defi-features",
        "description": file.about,
        "distribution": [{
            "@type": "cr:FileObject",
            "@id": name,
            "name": name,
            // Relative to the metadata, which is beside the file.
            "contentUrl": name,
            "contentSize": format!("{} B", file.size),
            "encodingFormat": file.media_type,
            "sha256": file.sha256,
        }],
        "recordSet": [{
            "@type": "cr:RecordSet",
            "@id": "rows",
            "name": "rows",
            "description": file.about,
            "field": fields,
        }],
    }))
}

fn field(column: &Column, file: &str) -> Result<Value> {
    let data_type = data_type(&column.data_type).map_err(|error| error.with("column", column.name))?;
    Ok(json!({
        "@type": "cr:Field",
        "@id": format!("rows/{}", column.name),
        "name": column.name,
        "description": column.doc,
        "dataType": data_type,
        "source": {"fileObject": {"@id": file}, "extract": {"column": column.name}},
    }))
}

/// Returns Croissant's name of a column's type.
fn data_type(data_type: &DataType) -> Result<&'static str> {
    match data_type {
        DataType::Boolean => Ok("sc:Boolean"),
        DataType::Date32 => Ok("sc:Date"),
        DataType::Float64 => Ok("sc:Float"),
        DataType::Int64 => Ok("sc:Integer"),
        DataType::Timestamp(..) => Ok("sc:DateTime"),
        DataType::Utf8 => Ok("sc:Text"),
        other => Err(Error::internal(format!("no type of Croissant is known for {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use defi_shared::tables::{FeatureRow, InstantKey, LabelRow, Row};
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn every_column_of_an_export_is_a_field_with_its_description() {
        let columns: Vec<_> = [InstantKey::columns(), FeatureRow::columns(), LabelRow::columns()].concat();
        let path = Path::new("folder/rows.csv");
        let file =
            ExportedFile { path, media_type: "text/csv", size: 3, sha256: "00", about: "Rows.", columns: &columns };
        let described = describe(&file).unwrap();
        let fields = described["recordSet"][0]["field"].as_array().unwrap();
        assert_eq!(fields.len(), columns.len());
        for (field, column) in fields.iter().zip(&columns) {
            assert_eq!((&field["name"], &field["description"]), (&json!(column.name), &json!(column.doc)));
        }
        assert_eq!(described["distribution"][0]["contentUrl"], "rows.csv");
        assert_eq!(described["distribution"][0]["contentSize"], "3 B");
    }

    #[test]
    fn metadata_is_written_beside_the_file() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        let file =
            ExportedFile { path: &path, media_type: "text/csv", size: 3, sha256: "00", about: "Rows.", columns: &[] };
        assert_eq!(write(&file).unwrap(), folder.path().join("rows.csv.croissant.json"));
        let text = std::fs::read_to_string(folder.path().join("rows.csv.croissant.json")).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), describe(&file).unwrap());
    }

    #[test]
    fn type_that_croissant_does_not_know_is_an_error() {
        assert!(data_type(&DataType::Int8).is_err());
    }
}
