//! Encodes and decodes one column of a row type to and from an Arrow array.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMillisecondType};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
    TimestampMillisecondArray,
};
use arrow_schema::{DataType, TimeUnit};

use rustc_hash::FxHashSet;

use crate::domain::{BaseUnits, Category, Day, HexBytes, Side};
use crate::error::{Error, Result};

/// A time in milliseconds since 1 January 1970 UTC. Its column type is `TIMESTAMP` (INT64 milliseconds, UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Converts a time in epoch seconds.
    #[must_use]
    pub fn from_epoch_seconds(seconds: i64) -> Self {
        Timestamp(seconds.saturating_mul(1000))
    }
}

/// The Rust type of a column's values.
pub trait Value: Sized {
    /// Whether the column may hold NULL.
    const NULLABLE: bool = false;

    /// Returns the Arrow type of the column.
    fn data_type() -> DataType;

    /// Encodes values as an array.
    ///
    /// # Errors
    /// A value does not fit the Arrow type.
    fn encode<'a>(values: impl ExactSizeIterator<Item = &'a Self>) -> Result<ArrayRef>
    where
        Self: 'a;

    /// Decodes the values of an array.
    ///
    /// # Errors
    /// `CorruptData` if the array has another type, holds a NULL and the column is not nullable, or holds an invalid
    /// value.
    fn decode(array: &dyn Array) -> Result<Vec<Self>>;
}

/// The type of a column's non-NULL values: the part of [`Value`] that is specific to each type.
trait Scalar: Clone {
    fn arrow_type() -> DataType;

    fn to_array<'a>(values: impl ExactSizeIterator<Item = Option<&'a Self>>) -> Result<ArrayRef>
    where
        Self: 'a;

    /// Encodes values without NULLs.
    fn to_dense_array<'a>(values: impl ExactSizeIterator<Item = &'a Self>) -> Result<ArrayRef>
    where
        Self: 'a,
    {
        Self::to_array(values.map(Some))
    }

    /// Returns a function that reads the value at an index of `array`, which has the type [`Scalar::arrow_type`].
    fn reader(array: &dyn Array) -> impl FnMut(usize) -> Result<Self>;
}

/// Decodes an array without NULLs.
fn decode_dense<T: Scalar>(array: &dyn Array) -> Result<Vec<T>> {
    let mut values = Vec::with_capacity(array.len());
    let mut read = T::reader(expect_type(array, &T::arrow_type())?);
    for index in 0..array.len() {
        values.push(read(index)?);
    }
    Ok(values)
}

/// Decodes an array. `null` returns the value for a NULL. Each value of a dictionary is decoded only once.
fn decode<T: Scalar, V>(array: &dyn Array, some: fn(T) -> V, null: fn() -> Result<V>) -> Result<Vec<V>> {
    let Some(dictionary) = array.as_dictionary_opt::<Int32Type>() else {
        return decode_with(array, T::reader(expect_type(array, &T::arrow_type())?), some, null);
    };
    let (keys, values) = (dictionary.keys().values(), decode_dense::<T>(dictionary.values())?);
    let read = |index: usize| {
        let value = usize::try_from(keys[index]).ok().and_then(|key| values.get(key));
        value.cloned().ok_or_else(|| Error::corrupt("dictionary key out of range"))
    };
    decode_with(array, read, some, null)
}

fn decode_with<T, V>(
    array: &dyn Array,
    mut read: impl FnMut(usize) -> Result<T>,
    some: fn(T) -> V,
    null: fn() -> Result<V>,
) -> Result<Vec<V>> {
    let mut decoded = Vec::with_capacity(array.len());
    match array.nulls() {
        None => {
            for index in 0..array.len() {
                decoded.push(some(read(index)?));
            }
        }
        Some(nulls) => {
            for index in 0..array.len() {
                decoded.push(if nulls.is_null(index) { null()? } else { some(read(index)?) });
            }
        }
    }
    Ok(decoded)
}

fn reject_null<T>() -> Result<T> {
    Err(Error::corrupt("NULL in a column that is not nullable"))
}

macro_rules! primitive {
    ($type:ty, $arrow:ty, $array:ty, $data_type:expr, $to_native:expr, $from_native:expr) => {
        impl Scalar for $type {
            fn arrow_type() -> DataType {
                $data_type
            }

            fn to_array<'a>(values: impl ExactSizeIterator<Item = Option<&'a Self>>) -> Result<ArrayRef> {
                let array: $array = values.map(|value| value.map($to_native)).collect();
                Ok(Arc::new(array.with_data_type($data_type)))
            }

            fn to_dense_array<'a>(values: impl ExactSizeIterator<Item = &'a Self>) -> Result<ArrayRef> {
                Ok(Arc::new(<$array>::from_iter_values(values.map($to_native)).with_data_type($data_type)))
            }

            fn reader(array: &dyn Array) -> impl FnMut(usize) -> Result<Self> {
                let values = array.as_primitive::<$arrow>().values();
                |index| $from_native(values[index]).ok_or_else(|| Error::corrupt("value out of range"))
            }
        }
        value!($type);
    };
}

/// Implements [`Value`] for a scalar type and for an [`Option`] of it.
macro_rules! value {
    ($type:ty $(, $n:ident)?) => {
        impl $(<const $n: usize>)? Value for $type {
            fn data_type() -> DataType {
                <$type>::arrow_type()
            }

            fn encode<'a>(values: impl ExactSizeIterator<Item = &'a Self>) -> Result<ArrayRef> {
                <$type>::to_dense_array(values)
            }

            fn decode(array: &dyn Array) -> Result<Vec<Self>> {
                decode::<$type, $type>(array, |value| value, reject_null)
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
                decode::<$type, Self>(array, Some, || Ok(None))
            }
        }
    };
}

primitive!(i64, Int64Type, Int64Array, DataType::Int64, |v| *v, Some);
primitive!(i32, Int32Type, Int32Array, DataType::Int32, |v| *v, Some);
primitive!(f64, Float64Type, Float64Array, DataType::Float64, |v| *v, Some);
primitive!(Day, Date32Type, Date32Array, DataType::Date32, |v| v.epoch_days(), Day::try_from_epoch_days);
primitive!(BaseUnits, Decimal128Type, Decimal128Array, DataType::Decimal128(38, 0), |v| v.0, BaseUnits::new);
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

    fn reader(array: &dyn Array) -> impl FnMut(usize) -> Result<Self> {
        let array = array.as_boolean();
        |index| Ok(array.value(index))
    }
}
value!(bool);

fn string_array<T: AsRef<str>>(values: impl ExactSizeIterator<Item = Option<T>>) -> ArrayRef {
    let mut builder = StringBuilder::with_capacity(values.len(), values.len() * 16);
    values.for_each(|value| builder.append_option(value));
    Arc::new(builder.finish())
}

impl Scalar for String {
    fn arrow_type() -> DataType {
        DataType::Utf8
    }

    fn to_array<'a>(values: impl ExactSizeIterator<Item = Option<&'a Self>>) -> Result<ArrayRef> {
        Ok(string_array(values))
    }

    fn reader(array: &dyn Array) -> impl FnMut(usize) -> Result<Self> {
        let array = array.as_string::<i32>();
        |index| Ok(array.value(index).to_owned())
    }
}
value!(String);

/// The maximum number of distinct strings of a column that rows share. A column with more has few repeated strings, so
/// further ones are not shared.
const MAX_SHARED_STRINGS: usize = 1024;

impl Scalar for Arc<str> {
    fn arrow_type() -> DataType {
        DataType::Utf8
    }

    fn to_array<'a>(values: impl ExactSizeIterator<Item = Option<&'a Self>>) -> Result<ArrayRef> {
        Ok(string_array(values))
    }

    fn reader(array: &dyn Array) -> impl FnMut(usize) -> Result<Self> {
        let array = array.as_string::<i32>();
        let mut shared: FxHashSet<Self> = FxHashSet::default();
        move |index| {
            let text = array.value(index);
            if let Some(existing) = shared.get(text) {
                return Ok(Arc::clone(existing));
            }
            let text: Self = Arc::from(text);
            if shared.len() < MAX_SHARED_STRINGS {
                shared.insert(Arc::clone(&text));
            }
            Ok(text)
        }
    }
}
value!(Arc<str>);

/// Implements [`Scalar`] and [`Value`] for an enum. Its column holds the names of the variants as strings.
macro_rules! named_enum {
    ($type:ty, $description:literal) => {
        impl Scalar for $type {
            fn arrow_type() -> DataType {
                DataType::Utf8
            }

            fn to_array<'a>(values: impl ExactSizeIterator<Item = Option<&'a Self>>) -> Result<ArrayRef> {
                Ok(string_array(values.map(|value| value.map(|value| value.name()))))
            }

            fn reader(array: &dyn Array) -> impl FnMut(usize) -> Result<Self> {
                let array = array.as_string::<i32>();
                |index| {
                    let text = array.value(index);
                    <$type>::parse(text).ok_or_else(|| Error::corrupt(format!("unknown {} {text:?}", $description)))
                }
            }
        }
        value!($type);
    };
}

named_enum!(Side, "side");
named_enum!(Category, "event category");

impl<const N: usize> Scalar for HexBytes<N> {
    fn arrow_type() -> DataType {
        DataType::Utf8
    }

    fn to_array<'a>(values: impl ExactSizeIterator<Item = Option<&'a Self>>) -> Result<ArrayRef> {
        let mut builder = StringBuilder::with_capacity(values.len(), values.len() * (2 * N + 2));
        let mut digits = const_hex::Buffer::<N, true>::new();
        values.for_each(|value| builder.append_option(value.map(|value| digits.format(&value.0))));
        Ok(Arc::new(builder.finish()))
    }

    fn reader(array: &dyn Array) -> impl FnMut(usize) -> Result<Self> {
        let array = array.as_string::<i32>();
        // In rows sorted by an address, equal addresses are adjacent.
        let mut last = ("", HexBytes::MIN);
        move |index| {
            let text = array.value(index);
            if text != last.0 {
                let value = HexBytes::parse(text);
                let value =
                    value.ok_or_else(|| Error::corrupt(format!("{text:?} is not 0x and {} hex digits", 2 * N)))?;
                last = (text, value);
            }
            Ok(last.1)
        }
    }
}
value!(HexBytes<N>, N);

fn expect_type<'a>(array: &'a dyn Array, expected: &DataType) -> Result<&'a dyn Array> {
    if array.data_type() == expected {
        Ok(array)
    } else {
        Err(Error::corrupt(format!("the column has type {}, expected {expected}", array.data_type())))
    }
}
