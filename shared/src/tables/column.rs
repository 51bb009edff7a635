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

use crate::domain::{BaseUnits, Category, Day, HexBytes, Side};
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
trait Scalar: Clone {
    fn arrow_type() -> DataType;

    fn to_array<'a>(values: impl ExactSizeIterator<Item = Option<&'a Self>>) -> Result<ArrayRef>
    where
        Self: 'a;

    /// The same without NULLs.
    fn to_dense_array<'a>(values: impl ExactSizeIterator<Item = &'a Self>) -> Result<ArrayRef>
    where
        Self: 'a,
    {
        Self::to_array(values.map(Some))
    }

    /// What reads the value at a place of an array of [`Scalar::arrow_type`].
    fn reader(array: &dyn Array) -> impl FnMut(usize) -> Result<Self>;
}

/// The values of an array without NULLs.
fn values<T: Scalar>(array: &dyn Array) -> Result<Vec<T>> {
    let mut values = Vec::with_capacity(array.len());
    let mut read = T::reader(checked(array, &T::arrow_type())?);
    for place in 0..array.len() {
        values.push(read(place)?);
    }
    Ok(values)
}

/// The values of an array, NULLs as `null` has them. Those of a dictionary are read once each, however many rows refer to them.
fn decode<T: Scalar, V>(array: &dyn Array, some: fn(T) -> V, null: fn() -> Result<V>) -> Result<Vec<V>> {
    let Some(dictionary) = array.as_dictionary_opt::<Int32Type>() else {
        return all(array, T::reader(checked(array, &T::arrow_type())?), some, null);
    };
    let (keys, known) = (dictionary.keys().values(), values::<T>(dictionary.values())?);
    let read = |place: usize| {
        let value = usize::try_from(keys[place]).ok().and_then(|key| known.get(key));
        value.cloned().ok_or_else(|| Error::corrupt("a value that is not in its dictionary"))
    };
    all(array, read, some, null)
}

fn all<T, V>(
    array: &dyn Array,
    mut read: impl FnMut(usize) -> Result<T>,
    some: fn(T) -> V,
    null: fn() -> Result<V>,
) -> Result<Vec<V>> {
    let mut decoded = Vec::with_capacity(array.len());
    match array.nulls() {
        None => {
            for place in 0..array.len() {
                decoded.push(some(read(place)?));
            }
        }
        Some(nulls) => {
            for place in 0..array.len() {
                decoded.push(if nulls.is_null(place) { null()? } else { some(read(place)?) });
            }
        }
    }
    Ok(decoded)
}

fn no_null<T>() -> Result<T> {
    Err(Error::corrupt("a NULL where none may be"))
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

            fn to_dense_array<'a>(values: impl ExactSizeIterator<Item = &'a Self>) -> Result<ArrayRef> {
                Ok(Arc::new(<$array>::from_iter_values(values.map($pack)).with_data_type($data_type)))
            }

            fn reader(array: &dyn Array) -> impl FnMut(usize) -> Result<Self> {
                let values = array.as_primitive::<$arrow>().values();
                |place| $unpack(values[place]).ok_or_else(|| Error::corrupt("a value that its column can't have"))
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
                <$type>::to_dense_array(values)
            }

            fn decode(array: &dyn Array) -> Result<Vec<Self>> {
                decode::<$type, $type>(array, |value| value, no_null)
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

    fn reader(array: &dyn Array) -> impl FnMut(usize) -> Result<Self> {
        let array = array.as_boolean();
        |place| Ok(array.value(place))
    }
}
value!(bool);

/// Texts as an array.
fn texts<T: AsRef<str>>(values: impl ExactSizeIterator<Item = Option<T>>) -> ArrayRef {
    let mut builder = StringBuilder::with_capacity(values.len(), values.len() * 16);
    values.for_each(|value| builder.append_option(value));
    Arc::new(builder.finish())
}

impl Scalar for String {
    fn arrow_type() -> DataType {
        DataType::Utf8
    }

    fn to_array<'a>(values: impl ExactSizeIterator<Item = Option<&'a Self>>) -> Result<ArrayRef> {
        Ok(texts(values))
    }

    fn reader(array: &dyn Array) -> impl FnMut(usize) -> Result<Self> {
        let array = array.as_string::<i32>();
        |place| Ok(array.value(place).to_owned())
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
        Ok(texts(values))
    }

    fn reader(array: &dyn Array) -> impl FnMut(usize) -> Result<Self> {
        let array = array.as_string::<i32>();
        let mut shared: FxHashSet<Self> = FxHashSet::default();
        move |place| {
            let text = array.value(place);
            if let Some(known) = shared.get(text) {
                return Ok(Arc::clone(known));
            }
            let text: Self = Arc::from(text);
            if shared.len() < SHARED_TEXTS {
                shared.insert(Arc::clone(&text));
            }
            Ok(text)
        }
    }
}
value!(Arc<str>);

/// A type whose few values have names: a column of them is texts.
macro_rules! named {
    ($type:ty, $what:literal) => {
        impl Scalar for $type {
            fn arrow_type() -> DataType {
                DataType::Utf8
            }

            fn to_array<'a>(values: impl ExactSizeIterator<Item = Option<&'a Self>>) -> Result<ArrayRef> {
                Ok(texts(values.map(|value| value.map(|value| value.name()))))
            }

            fn reader(array: &dyn Array) -> impl FnMut(usize) -> Result<Self> {
                let array = array.as_string::<i32>();
                |place| {
                    let text = array.value(place);
                    <$type>::parse(text).ok_or_else(|| Error::corrupt(format!("{text:?} is no {}", $what)))
                }
            }
        }
        value!($type);
    };
}

named!(Side, "side");
named!(Category, "category of events");

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
        // Rows that are sorted by an address have the same one again and again.
        let mut last = ("", HexBytes::FIRST);
        move |place| {
            let text = array.value(place);
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

fn checked<'a>(array: &'a dyn Array, expected: &DataType) -> Result<&'a dyn Array> {
    if array.data_type() == expected {
        Ok(array)
    } else {
        Err(Error::corrupt(format!("a column of type {} where {expected} is expected", array.data_type())))
    }
}
