//! Functions that Athena has under names that DataFusion does not know.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;
use arrow_array::{ArrayRef, BooleanArray, Int64Array};
use arrow_schema::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::functions_aggregate::min_max::min_udaf;
use datafusion::functions_aggregate::percentile_cont::percentile_cont_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use datafusion::prelude::SessionContext;
use jiff::civil::DateTime;
use jiff::tz::Offset;

/// Registers the functions in a session.
pub(super) fn register(session: &SessionContext) {
    session.register_udf(ScalarUDF::from(DateDiff::default()));
    for cast in Cast::all() {
        session.register_udf(ScalarUDF::from(cast));
    }
    session.register_udaf(AggregateUDF::from(CountIf::default()));
    // Exact, so that equal queries have equal answers.
    session.register_udaf(percentile_cont_udaf().as_ref().clone().with_aliases(["approx_percentile"]));
    // Any value that is not NULL will do, so the smallest does: equal queries have equal answers.
    session.register_udaf(min_udaf().as_ref().clone().with_aliases(["arbitrary", "any_value"]));
}

/// The type in which times are compared.
fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// Functions that cast their argument.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Cast {
    name: &'static str,
    to: DataType,
    signature: Signature,
}

impl Cast {
    fn all() -> [Self; 3] {
        let of_text = || Signature::string(1, Volatility::Immutable);
        [
            Cast { name: "date", to: DataType::Date32, signature: Signature::any(1, Volatility::Immutable) },
            Cast { name: "from_iso8601_date", to: DataType::Date32, signature: of_text() },
            Cast { name: "from_iso8601_timestamp", to: time(), signature: of_text() },
        ]
    }
}

impl ScalarUDFImpl for Cast {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [argument] = args.args.as_slice() else {
            return Err(DataFusionError::Plan(format!("{} takes one argument", self.name)));
        };
        argument.cast_to(&self.to, None)
    }
}

/// `date_diff(unit, from, to)`: the number of whole units from one time to another.
#[derive(Debug, PartialEq, Eq, Hash)]
struct DateDiff {
    signature: Signature,
}

impl Default for DateDiff {
    fn default() -> Self {
        DateDiff { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for DateDiff {
    fn name(&self) -> &str {
        "date_diff"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let is_time = |argument: &DataType| {
            matches!(argument, DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) | DataType::Null)
        };
        match arguments {
            [unit, from, to] if unit.is_string() && is_time(from) && is_time(to) => {
                Ok(vec![DataType::Utf8, time(), time()])
            }
            _ => Err(DataFusionError::Plan(
                "date_diff takes a unit and two dates or timestamps, such as date_diff('day', date '2023-01-01', date '2023-01-31')"
                    .to_owned(),
            )),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [ColumnarValue::Scalar(ScalarValue::Utf8(Some(unit))), from, to] = args.args.as_slice() else {
            return Err(DataFusionError::Plan("the unit of date_diff is a text, such as 'day'".to_owned()));
        };
        let unit = Unit::parse(unit)?;
        let is_scalar = matches!((from, to), (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let (from, to) = (from.to_array(rows)?, to.to_array(rows)?);
        let pairs =
            from.as_primitive::<TimestampMillisecondType>().iter().zip(to.as_primitive::<TimestampMillisecondType>());
        let whole = pairs.map(|(from, to)| from.zip(to).map(|(from, to)| unit.whole_between(from, to)).transpose());
        let whole = whole.collect::<Result<Int64Array>>()?;
        Ok(match is_scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&whole, 0)?),
            false => ColumnarValue::Array(Arc::new(whole)),
        })
    }
}

/// A unit of `date_diff`.
#[derive(Debug, Clone, Copy)]
enum Unit {
    /// A number of milliseconds.
    Fixed(i64),
    /// A number of months.
    Months(i64),
}

impl Unit {
    fn parse(name: &str) -> Result<Self> {
        const SECOND: i64 = 1000;
        const DAY: i64 = 24 * 3600 * SECOND;
        Ok(match name.to_ascii_lowercase().as_str() {
            "millisecond" => Unit::Fixed(1),
            "second" => Unit::Fixed(SECOND),
            "minute" => Unit::Fixed(60 * SECOND),
            "hour" => Unit::Fixed(3600 * SECOND),
            "day" => Unit::Fixed(DAY),
            "week" => Unit::Fixed(7 * DAY),
            "month" => Unit::Months(1),
            "quarter" => Unit::Months(3),
            "year" => Unit::Months(12),
            _ => {
                return Err(DataFusionError::Plan(format!(
                    "{name:?} is no unit of date_diff: choose millisecond, second, minute, hour, day, week, month, quarter or year"
                )));
            }
        })
    }

    /// Returns how many whole units are between two times in milliseconds. Negative if `to` is before `from`.
    fn whole_between(self, from: i64, to: i64) -> Result<i64> {
        match self {
            Unit::Fixed(milliseconds) => to
                .checked_sub(from)
                .map(|between| between / milliseconds)
                .ok_or_else(|| DataFusionError::Execution("date_diff overflows".to_owned())),
            Unit::Months(months) => {
                let (first, last) = (civil(from.min(to))?, civil(from.max(to))?);
                let whole = whole_months(first, last) / months;
                Ok(if from > to { -whole } else { whole })
            }
        }
    }
}

fn civil(milliseconds: i64) -> Result<DateTime> {
    let time = jiff::Timestamp::from_millisecond(milliseconds);
    let time =
        time.map_err(|cause| DataFusionError::Execution(format!("date_diff of a time out of range: {cause}")))?;
    Ok(Offset::UTC.to_datetime(time))
}

/// Returns the number of whole months between two times in their order. As in Athena, the last day of a month ends a month
/// that began on a day that this month does not have: one month lies between 31 January and 28 February.
fn whole_months(first: DateTime, last: DateTime) -> i64 {
    let months = |time: DateTime| i64::from(time.year()) * 12 + i64::from(time.month());
    let is_last_day = last.day() == last.date().days_in_month();
    let first_day = if is_last_day { first.day().min(last.day()) } else { first.day() };
    let is_short = (last.day(), last.time()) < (first_day, first.time());
    months(last) - months(first) - i64::from(is_short)
}

/// `count_if(condition)`: the number of rows for which a condition is true.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CountIf {
    signature: Signature,
}

impl Default for CountIf {
    fn default() -> Self {
        CountIf { signature: Signature::exact(vec![DataType::Boolean], Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for CountIf {
    fn name(&self) -> &str {
        "count_if"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(TrueCount::default()))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(args.name, DataType::Int64, false))])
    }

    /// No row is no NULL but 0.
    fn default_value(&self, _: &DataType) -> Result<ScalarValue> {
        Ok(ScalarValue::Int64(Some(0)))
    }
}

/// The number of true values so far.
#[derive(Debug, Default)]
struct TrueCount(i64);

impl TrueCount {
    fn count(values: &[ArrayRef]) -> i64 {
        let count = |values: &ArrayRef| values.as_boolean_opt().map_or(0, BooleanArray::true_count);
        values.iter().map(|values| i64::try_from(count(values)).unwrap_or(i64::MAX)).sum()
    }
}

impl Accumulator for TrueCount {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0 += Self::count(values);
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Int64(Some(self.0)))
    }

    fn size(&self) -> usize {
        size_of::<Self>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let counts = states.iter().filter_map(|state| state.as_primitive_opt::<arrow_array::types::Int64Type>());
        self.0 += counts.flat_map(|counts| counts.iter().flatten()).sum::<i64>();
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0 -= Self::count(values);
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(unit: &str, from: &str, to: &str) -> i64 {
        let milliseconds = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        Unit::parse(unit).unwrap().whole_between(milliseconds(from), milliseconds(to)).unwrap()
    }

    #[test]
    fn only_whole_units_count_in_either_direction() {
        for (unit, from, to, expected) in [
            ("day", "2022-05-01T23:45:09Z", "2022-05-03T23:56:31Z", 2),
            ("day", "2022-05-01T23:45:09Z", "2022-05-02T03:56:31Z", 0),
            ("hour", "2022-05-01T23:45:09Z", "2022-05-02T03:56:31Z", 4),
            ("WEEK", "2023-01-01T00:00:00Z", "2023-01-14T23:59:59Z", 1),
            ("millisecond", "2023-01-01T00:00:00Z", "2023-01-01T00:00:00.123Z", 123),
            ("month", "2023-01-15T12:00:00Z", "2023-02-15T12:00:00Z", 1),
            ("month", "2023-01-15T12:00:00Z", "2023-02-15T11:59:59.999Z", 0),
            ("month", "2023-01-31T00:00:00Z", "2023-02-28T00:00:00Z", 1),
            ("month", "2023-01-31T00:00:00Z", "2023-02-27T23:59:59Z", 0),
            ("month", "2023-01-31T06:00:00Z", "2023-02-28T05:00:00Z", 0),
            ("month", "2023-01-31T00:00:00Z", "2023-03-30T00:00:00Z", 1),
            ("quarter", "2022-11-30T00:00:00Z", "2023-05-29T00:00:00Z", 1),
            ("quarter", "2022-11-30T00:00:00Z", "2023-05-30T00:00:00Z", 2),
            ("year", "2020-02-29T00:00:00Z", "2021-02-28T00:00:00Z", 1),
            ("year", "2020-02-29T00:00:00Z", "2021-02-27T00:00:00Z", 0),
            ("year", "1969-12-31T00:00:00Z", "2023-12-30T00:00:00Z", 53),
        ] {
            assert_eq!(between(unit, from, to), expected, "{unit} {from} {to}");
            assert_eq!(between(unit, to, from), -expected, "{unit} {to} {from}");
        }
    }

    #[test]
    fn unknown_units_are_named() {
        for unit in ["days", "", "decade"] {
            assert!(Unit::parse(unit).unwrap_err().to_string().contains(&format!("{unit:?}")), "{unit}");
        }
    }
}
