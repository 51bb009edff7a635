//! Row types: structs that define the columns of a table. The Arrow schema, the catalog's columns and the documentation
//! are generated from them.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use crate::error::Result;

/// A column: its name, type and description.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Name, in snake case.
    pub name: &'static str,
    /// Arrow type.
    pub data_type: DataType,
    /// Whether its values may be NULL.
    pub nullable: bool,
    /// Whether the column was added later. Objects without it are valid, and have NULL in all rows.
    pub null_if_absent: bool,
    /// Description, on one line.
    pub doc: String,
}

/// A row of a table, as a plain struct.
pub trait Row: Sized + Send + 'static {
    /// Returns the columns, in order.
    fn columns() -> Vec<Column>;

    /// Encodes rows as a record batch with the columns of [`Row::columns`].
    ///
    /// # Errors
    /// A value does not fit its column.
    fn encode(rows: &[Self]) -> Result<RecordBatch>;

    /// Decodes a record batch and appends its rows to `rows`. Columns are matched by name, and additional ones are
    /// ignored.
    ///
    /// # Errors
    /// `CorruptData` if a column is missing or has another type, or a value is invalid.
    fn decode(batch: &RecordBatch, rows: &mut Vec<Self>) -> Result<()>;

    /// Returns the Arrow schema.
    #[must_use]
    fn schema() -> SchemaRef {
        schema_of(&Self::columns())
    }
}

/// Returns the Arrow schema of columns.
#[must_use]
pub fn schema_of(columns: &[Column]) -> SchemaRef {
    let fields = columns.iter().map(|column| Field::new(column.name, column.data_type.clone(), column.nullable));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Defines a row type: a struct whose fields are the columns. The doc comments of the fields are the column
/// descriptions. A nullable column with `= null_if_absent` was added later: objects without it decode as NULL.
macro_rules! row {
    (
        $(#[doc = $row_doc:literal])*
        $(#[derive($($derive:path),+)])?
        pub struct $row:ident {
            $( $(#[doc = $doc:literal])+ pub $field:ident: $type:ty $(= $null_if_absent:ident)?, )+
        }
    ) => {
        $(#[doc = $row_doc])*
        #[derive(Debug, Clone, PartialEq)]
        $(#[derive($($derive),+)])?
        pub struct $row {
            $( $(#[doc = $doc])+ pub $field: $type, )+
        }

        impl $crate::tables::Row for $row {
            fn columns() -> Vec<$crate::tables::Column> {
                vec![$( $crate::tables::Column {
                    name: stringify!($field),
                    data_type: <$type as $crate::tables::Value>::data_type(),
                    nullable: <$type as $crate::tables::Value>::NULLABLE,
                    null_if_absent: !<[&str]>::is_empty(&[$(stringify!($null_if_absent))?]),
                    doc: [$($doc.trim()),+].join(" "),
                }, )+]
            }

            fn encode(rows: &[Self]) -> $crate::error::Result<arrow_array::RecordBatch> {
                let columns = vec![$( <$type as $crate::tables::Value>::encode(rows.iter().map(|row| &row.$field))?, )+];
                arrow_array::RecordBatch::try_new(<Self as $crate::tables::Row>::schema(), columns)
                    .map_err(|source| $crate::error::Error::internal("invalid record batch").with_source(source))
            }

            fn decode(batch: &arrow_array::RecordBatch, rows: &mut Vec<Self>) -> $crate::error::Result<()> {
                $(
                    let mut $field: std::vec::IntoIter<$type> =
                        $crate::tables::row::decode!(batch, $field $(, $null_if_absent)?)?.into_iter();
                )+
                rows.reserve(batch.num_rows());
                rows.extend(std::iter::from_fn(|| Some($row { $( $field: $field.next()?, )+ })));
                Ok(())
            }
        }
    };
}
pub(crate) use row;

/// Decodes the column of a field.
macro_rules! decode {
    ($batch:ident, $field:ident) => {
        $crate::tables::decode_column($batch, stringify!($field))
    };
    ($batch:ident, $field:ident, null_if_absent) => {
        $crate::tables::decode_column_if_present($batch, stringify!($field))
    };
}
pub(crate) use decode;
