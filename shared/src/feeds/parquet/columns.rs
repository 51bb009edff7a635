//! Columns of files that others wrote: what they are called, which types they may have, and their values.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Schema, TimeUnit};

use crate::domain::HexBytes;
use crate::error::{Error, Result};

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A whole number that is not negative.
    Number,
    /// Bytes, or hex digits after 0x.
    Bytes,
    /// A list of bytes.
    BytesList,
    /// A time, or a number of seconds.
    Time,
}

impl Shape {
    fn accepts(self, data_type: &DataType) -> bool {
        match self {
            Shape::Number => data_type.is_integer(),
            Shape::Bytes => matches!(data_type, DataType::Utf8 | DataType::Binary | DataType::FixedSizeBinary(_)),
            Shape::BytesList => {
                matches!(data_type, DataType::List(values) if Shape::Bytes.accepts(values.data_type()))
            }
            Shape::Time => data_type.is_integer() || matches!(data_type, DataType::Timestamp(..)),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Shape::Number => "whole numbers",
            Shape::Bytes => "bytes or hex text",
            Shape::BytesList => "lists of bytes or of hex text",
            Shape::Time => "times",
        }
    }
}

/// Returns the name of the first of some columns that a file has, or `None` if it has none of them.
///
/// # Errors
/// `BadInput` if the column has another type.
pub(super) fn find<'a>(schema: &Schema, names: &[&'a str], shape: Shape) -> Result<Option<&'a str>> {
    let Some(name) = names.iter().find(|name| schema.index_of(name).is_ok()) else { return Ok(None) };
    let data_type = schema.field_with_name(name).map(|field| field.data_type().clone()).unwrap_or(DataType::Null);
    if shape.accepts(&data_type) {
        return Ok(Some(name));
    }
    Err(Error::bad_input(format!("a column of a Parquet file has another type than {}", shape.name()))
        .with("column", name)
        .with("type", data_type)
        .with_hint("use files as AWS's public data set or cryo write them"))
}

/// Like [`find`] for a column that a file must have.
///
/// # Errors
/// `BadInput` also if the file lacks it.
pub(super) fn require<'a>(schema: &Schema, names: &[&'a str], shape: Shape) -> Result<&'a str> {
    find(schema, names, shape)?.ok_or_else(|| {
        Error::bad_input("a Parquet file lacks a column")
            .with("column", names.join(" or "))
            .with_hint("use files as AWS's public data set or cryo write them")
    })
}

/// Returns whether the bytes of a column are written as text.
pub(super) fn is_text(schema: &Schema, name: &str) -> bool {
    schema.field_with_name(name).is_ok_and(|field| *field.data_type() == DataType::Utf8)
}

/// A value that can't be what its column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Returns a number. `None` is NULL.
pub(super) fn number(column: &dyn Array, row: usize) -> Result<Option<u64>, Malformed> {
    macro_rules! value {
        ($type:ty) => {
            u64::try_from(column.as_primitive::<$type>().value(row)).map(Some).map_err(|_| Malformed)
        };
    }
    if column.is_null(row) {
        return Ok(None);
    }
    match column.data_type() {
        DataType::Int8 => value!(Int8Type),
        DataType::Int16 => value!(Int16Type),
        DataType::Int32 => value!(Int32Type),
        DataType::Int64 => value!(Int64Type),
        DataType::UInt8 => value!(UInt8Type),
        DataType::UInt16 => value!(UInt16Type),
        DataType::UInt32 => value!(UInt32Type),
        DataType::UInt64 => value!(UInt64Type),
        _ => Err(Malformed),
    }
}

/// Returns the whole seconds of a time above 0. `None` for anything else: a time is used only where it is sure.
pub(super) fn seconds(column: &dyn Array, row: usize) -> Option<i64> {
    if column.is_null(row) {
        return None;
    }
    let (value, per_second) = match column.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => (column.as_primitive::<TimestampSecondType>().value(row), 1),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            (column.as_primitive::<TimestampMillisecondType>().value(row), 1_000)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            (column.as_primitive::<TimestampMicrosecondType>().value(row), 1_000_000)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            (column.as_primitive::<TimestampNanosecondType>().value(row), 1_000_000_000)
        }
        _ => (i64::try_from(number(column, row).ok()??).ok()?, 1),
    };
    (value > 0 && value % per_second == 0).then_some(value / per_second)
}

/// Returns a fixed number of bytes. `None` is NULL.
pub(super) fn fixed<const N: usize>(column: &dyn Array, row: usize) -> Result<Option<HexBytes<N>>, Malformed> {
    if column.is_null(row) {
        return Ok(None);
    }
    let of_bytes = |bytes: &[u8]| bytes.try_into().ok().map(HexBytes);
    let value = match column.data_type() {
        DataType::Utf8 => HexBytes::parse(column.as_string::<i32>().value(row)),
        DataType::Binary => of_bytes(column.as_binary::<i32>().value(row)),
        DataType::FixedSizeBinary(_) => of_bytes(column.as_fixed_size_binary().value(row)),
        _ => None,
    };
    value.map(Some).ok_or(Malformed)
}

/// Returns bytes. `None` is NULL.
pub(super) fn bytes(column: &dyn Array, row: usize) -> Result<Option<Vec<u8>>, Malformed> {
    if column.is_null(row) {
        return Ok(None);
    }
    match column.data_type() {
        DataType::Utf8 => {
            let digits = column.as_string::<i32>().value(row).strip_prefix("0x").ok_or(Malformed)?;
            // The decoder would skip a second prefix.
            if digits.starts_with("0x") {
                return Err(Malformed);
            }
            const_hex::decode(digits).map(Some).map_err(|_| Malformed)
        }
        DataType::Binary => Ok(Some(column.as_binary::<i32>().value(row).to_vec())),
        DataType::FixedSizeBinary(_) => Ok(Some(column.as_fixed_size_binary().value(row).to_vec())),
        _ => Err(Malformed),
    }
}

/// The values of a column in a batch of rows.
pub(super) struct Values<'a> {
    name: &'a str,
    column: &'a dyn Array,
}

impl<'a> Values<'a> {
    /// Finds a column in a batch.
    pub(super) fn of(batch: &'a RecordBatch, name: &'a str) -> Result<Self> {
        let column = batch.column_by_name(name).ok_or_else(|| Error::internal("a column was not read"))?;
        Ok(Values { name, column })
    }

    fn checked<T>(&self, value: Result<Option<T>, Malformed>) -> Result<T> {
        let problem = match value {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => "a value of a Parquet file is missing",
            Err(Malformed) => "a value of a Parquet file is malformed",
        };
        Err(Error::corrupt(problem).with("column", self.name))
    }

    /// # Errors
    /// `CorruptData` for a value that is missing or malformed, as all of these.
    pub(super) fn number(&self, row: usize) -> Result<u64> {
        self.checked(number(self.column, row))
    }

    pub(super) fn fixed<const N: usize>(&self, row: usize) -> Result<HexBytes<N>> {
        self.checked(fixed(self.column, row))
    }

    pub(super) fn fixed_or_null<const N: usize>(&self, row: usize) -> Result<Option<HexBytes<N>>> {
        if self.column.is_null(row) { Ok(None) } else { self.fixed(row).map(Some) }
    }

    pub(super) fn bytes(&self, row: usize) -> Result<Vec<u8>> {
        self.checked(bytes(self.column, row))
    }

    pub(super) fn seconds(&self, row: usize) -> Option<i64> {
        seconds(self.column, row)
    }

    /// Returns the values of a list. NULL is an empty one.
    pub(super) fn list<const N: usize>(&self, row: usize) -> Result<Vec<HexBytes<N>>> {
        if self.column.is_null(row) {
            return Ok(Vec::new());
        }
        let list = self.column.as_list_opt::<i32>().ok_or_else(|| Error::internal("a column is not a list"))?;
        let values = list.value(row);
        (0..values.len()).map(|index| self.checked(fixed(&values, index))).collect()
    }
}
