//! How one column of a row type becomes an Arrow array and comes back.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
    StringBuilder, TimestampMillisecondArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampMillisecondType,
};

use rustc_hash::FxHashSet;

use crate::domain::{BaseUnits, Day, HexBytes, Side};
use crate::error::{Error, Result};

/// A moment: milliseconds since 1 January 1970 UTC. A column of it is `TIMESTAMP` (INT64 milliseconds, UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The moment of a time in epoch seconds.
    #[must_use]
    pub fn from_seconds(seconds: i64) -> Self {
        Timestamp(seconds.saturating_mul(1000))
    }
}

/// A type that a column can have.
pub trait Value: Sized {
    /// Whether the column may hold NULL.
    const NULLABLE: bool = false;

    /// The Arrow type of the column.
    fn data_type() -> DataType;

    /// The values as an array.
    ///
    /// # Errors
    /// A value that the Arrow type can't hold.
    fn encode<'a>(values: impl ExactSizeIterator<Item = &'a Self>) -> Result<ArrayRef>
    where
        Self: 'a;

    /// The values of an array.
    ///
    /// # Errors
    /// `CorruptData` for an array of another type, a NULL where none may be, or a text that is no value.
    fn decode(array: &dyn Array) -> Result<Vec<Self>>;
}

/// What a column can hold apart from NULL: the part of [`Value`] that differs from type to type.
trait Scalar: Sized {
    fn arrow_type() -> DataType;
    fn to_array<'a>(values: impl ExactSizeIterator<Item = Option<&'a Self>>) -> Result<ArrayRef>
    where
        Self: 'a;
    fn from_array(array: &dyn Array) -> Result<Vec<Option<Self>>>;
}

macro_rules! primitive {
    ($type:ty, $arrow:ty, $array:ty, $data_type:expr, $pack:expr, $unpack:expr) => {
        impl Scalar for $type {
            fn arrow_type() -> DataType {
                $data_type
            }

            fn to_array<'a>(values: impl ExactSizeIterator<Item = Option<&'a Self>>) -> Result<ArrayRef> {
                let array: $array = values.map(|value| value.map($pack)).collect();
                Ok(Arc::new(array.with_data_type($data_type)))
            }

            fn from_array(array: &dyn Array) -> Result<Vec<Option<Self>>> {
                let unpack = |value| $unpack(value).ok_or_else(|| Error::corrupt("a value that its column can't have"));
                array.as_primitive::<$arrow>().iter().map(|value| value.map(unpack).transpose()).collect()
            }
        }
        value!($type);
    };
}

/// A scalar type, and the same with NULLs, are values.
macro_rules! value {
    ($type:ty $(, $n:ident)?) => {
        impl $(<const $n: usize>)? Value for $type {
            fn data_type() -> DataType {
                <$type>::arrow_type()
            }

            fn encode<'a>(values: impl ExactSizeIterator<Item = &'a Self>) -> Result<ArrayRef> {
                <$type>::to_array(values.map(Some))
            }

            fn decode(array: &dyn Array) -> Result<Vec<Self>> {
                check(array, &<$type>::arrow_type())?;
                let values = <$type>::from_array(array)?;
                values.into_iter().map(|value| value.ok_or_else(|| Error::corrupt("a NULL where none may be"))).collect()
            }
        }

        impl $(<const $n: usize>)? Value for Option<$type> {
            const NULLABLE: bool = true;

            fn data_type() -> DataType {
                <$type>::arrow_type()
            }

            fn encode<'a>(values: impl ExactSizeIterator<Item = &'a Self>) -> Result<ArrayRef> {
                <$type>::to_array(values.map(Option::as_ref))
            }

            fn decode(array: &dyn Array) -> Result<Vec<Self>> {
                check(array, &<$type>::arrow_type())?;
                <$type>::from_array(array)
            }
        }
    };
}

primitive!(i64, Int64Type, Int64Array, DataType::Int64, |v| *v, Some);
primitive!(i32, Int32Type, Int32Array, DataType::Int32, |v| *v, Some);
primitive!(f64, Float64Type, Float64Array, DataType::Float64, |v| *v, Some);
primitive!(Day, Date32Type, Date32Array, DataType::Date32, |v| v.epoch_days(), Day::accepted);
primitive!(BaseUnits, Decimal128Type, Decimal128Array, DataType::Decimal128(38, 0), |v| v.0, BaseUnits::accepted);
primitive!(
    Timestamp,
    TimestampMillisecondType,
    TimestampMillisecondArray,
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
    |v| v.0,
    |v| Some(Timestamp(v))
);

impl Scalar for bool {
    fn arrow_type() -> DataType {
        DataType::Boolean
    }

    fn to_array<'a>(values: impl ExactSizeIterator<Item = Option<&'a Self>>) -> Result<ArrayRef> {
        Ok(Arc::new(values.map(Option::<&bool>::copied).collect::<BooleanArray>()))
    }

    fn from_array(array: &dyn Array) -> Result<Vec<Option<Self>>> {
        Ok(array.as_boolean().iter().collect())
    }
}
value!(bool);

impl Scalar for String {
    fn arrow_type() -> DataType {
        DataType::Utf8
    }

    fn to_array<'a>(values: impl ExactSizeIterator<Item = Option<&'a Self>>) -> Result<ArrayRef> {
        let mut builder = StringBuilder::with_capacity(values.len(), values.len() * 16);
        values.for_each(|value| builder.append_option(value));
        Ok(Arc::new(builder.finish()))
    }

    fn from_array(array: &dyn Array) -> Result<Vec<Option<Self>>> {
        Ok(array.as_string::<i32>().iter().map(|value| value.map(str::to_owned)).collect())
    }
}
value!(String);

/// Texts that many rows have, such as a market's id, are kept once; where nearly every row has its own, they are not looked for.
const SHARED_TEXTS: usize = 1024;

impl Scalar for Arc<str> {
    fn arrow_type() -> DataType {
        DataType::Utf8
    }

    fn to_array<'a>(values: impl ExactSizeIterator<Item = Option<&'a Self>>) -> Result<ArrayRef> {
        let mut builder = StringBuilder::with_capacity(values.len(), values.len() * 16);
        values.for_each(|value| builder.append_option(value));
        Ok(Arc::new(builder.finish()))
    }

    fn from_array(array: &dyn Array) -> Result<Vec<Option<Self>>> {
        let mut shared: FxHashSet<Self> = FxHashSet::default();
        let mut share = |text: &str| match shared.get(text) {
            Some(known) => Arc::clone(known),
            None => {
                let text: Self = Arc::from(text);
                if shared.len() < SHARED_TEXTS {
                    shared.insert(Arc::clone(&text));
                }
                text
            }
        };
        Ok(array.as_string::<i32>().iter().map(|value| value.map(&mut share)).collect())
    }
}
value!(Arc<str>);

impl Scalar for Side {
    fn arrow_type() -> DataType {
        DataType::Utf8
    }

    fn to_array<'a>(values: impl ExactSizeIterator<Item = Option<&'a Self>>) -> Result<ArrayRef> {
        let mut builder = StringBuilder::with_capacity(values.len(), values.len() * 8);
        values.for_each(|value| builder.append_option(value.map(|side| side.name())));
        Ok(Arc::new(builder.finish()))
    }

    fn from_array(array: &dyn Array) -> Result<Vec<Option<Self>>> {
        let parse = |text| Side::parse(text).ok_or_else(|| Error::corrupt(format!("{text:?} is no side")));
        array.as_string::<i32>().iter().map(|text| text.map(parse).transpose()).collect()
    }
}
value!(Side);

impl<const N: usize> Scalar for HexBytes<N> {
    fn arrow_type() -> DataType {
        DataType::Utf8
    }

    fn to_array<'a>(values: impl ExactSizeIterator<Item = Option<&'a Self>>) -> Result<ArrayRef> {
        use std::fmt::Write;
        let mut builder = StringBuilder::with_capacity(values.len(), values.len() * (2 * N + 2));
        for value in values {
            if let Some(value) = value {
                write!(builder, "{value}").map_err(|cause| Error::internal("hex digits").because(cause))?;
                builder.append_value("");
            } else {
                builder.append_null();
            }
        }
        Ok(Arc::new(builder.finish()))
    }

    fn from_array(array: &dyn Array) -> Result<Vec<Option<Self>>> {
        let parse = |text: &str| {
            HexBytes::parse(text).ok_or_else(|| Error::corrupt(format!("{text:?} is not 0x and {} hex digits", 2 * N)))
        };
        array.as_string::<i32>().iter().map(|text| text.map(parse).transpose()).collect()
    }
}
value!(HexBytes<N>, N);

fn check(array: &dyn Array, expected: &DataType) -> Result<()> {
    if array.data_type() == expected {
        Ok(())
    } else {
        Err(Error::corrupt(format!("a column of type {} where {expected} is expected", array.data_type())))
    }
}
