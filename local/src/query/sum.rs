//! `sum` with a check of its result. DataFusion's own wraps around when it overflows.

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray};
use arrow_cast::{CastOptions, cast, cast_with_options};
use arrow_schema::{DataType, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature};

/// `sum` of exact numbers: DataFusion's, over the next wider type. The sum is an error if the type of the result can't
/// hold it. As in Athena, the result has at most 38 digits.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct CheckedSum(Sum);

/// Returns the type to add numbers in, or `None` for a type that does not overflow or has no wider one.
fn wider(result: &DataType) -> Option<DataType> {
    match result {
        DataType::Int64 | DataType::UInt64 => Some(DataType::Decimal128(38, 0)),
        DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) | DataType::Decimal128(_, scale) => {
            Some(DataType::Decimal256(76, *scale))
        }
        _ => None,
    }
}

/// The types of one sum.
#[derive(Debug, Clone)]
struct Types {
    wide: DataType,
    result: DataType,
}

impl Types {
    /// Returns the types of a sum, and the field of the result in the wide type.
    fn of(result: &FieldRef) -> Option<(Types, FieldRef)> {
        let wide = wider(result.data_type())?;
        let field = Arc::new(result.as_ref().clone().with_data_type(wide.clone()));
        Some((Types { wide, result: result.data_type().clone() }, field))
    }

    fn widen(&self, values: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        values.iter().map(|values| Ok(cast(values, &self.wide)?)).collect()
    }

    fn narrow(&self, sums: &ArrayRef) -> Result<ArrayRef> {
        let options = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(sums, &self.result, &options)
            .map_err(|cause| DataFusionError::Execution(format!("a sum overflows {}: {cause}", self.result)))
    }
}

impl AggregateUDFImpl for CheckedSum {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.0.return_type(arguments)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match Types::of(&args.return_field) {
            None => self.0.accumulator(args),
            Some((types, return_field)) => {
                let wide = self.0.accumulator(AccumulatorArgs { return_field, ..args })?;
                Ok(Box::new(Checked { wide, types }))
            }
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        match Types::of(&args.return_field) {
            None => self.0.state_fields(args),
            Some((_, return_field)) => self.0.state_fields(StateFieldsArgs { return_field, ..args }),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.0.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        match Types::of(&args.return_field) {
            None => self.0.create_groups_accumulator(args),
            Some((types, return_field)) => {
                let wide = self.0.create_groups_accumulator(AccumulatorArgs { return_field, ..args })?;
                Ok(Box::new(Checked { wide, types }))
            }
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match Types::of(&args.return_field) {
            // DataFusion has a sliding sum of distinct values for one type only.
            Some((types, return_field)) if !args.is_distinct => {
                let wide = self.0.create_sliding_accumulator(AccumulatorArgs { return_field, ..args })?;
                Ok(Box::new(Checked { wide, types }))
            }
            _ => self.0.create_sliding_accumulator(args),
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

/// An accumulator over the wide type, whose state stays in the wide type.
#[derive(Debug)]
struct Checked<A> {
    wide: A,
    types: Types,
}

impl Accumulator for Checked<Box<dyn Accumulator>> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.wide.update_batch(&self.types.widen(values)?)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sum = self.types.narrow(&self.wide.evaluate()?.to_array()?)?;
        ScalarValue::try_from_array(&sum, 0)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.wide.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.wide.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.wide.merge_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.wide.retract_batch(&self.types.widen(values)?)
    }

    fn supports_retract_batch(&self) -> bool {
        self.wide.supports_retract_batch()
    }
}

impl GroupsAccumulator for Checked<Box<dyn GroupsAccumulator>> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        groups: usize,
    ) -> Result<()> {
        self.wide.update_batch(&self.types.widen(values)?, group_indices, filter, groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.types.narrow(&self.wide.evaluate(emit_to)?)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.wide.state(emit_to)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], group_indices: &[usize], groups: usize) -> Result<()> {
        self.wide.merge_batch(states, group_indices, groups)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        self.wide.convert_to_state(&self.types.widen(values)?, filter)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.wide.size()
    }
}
