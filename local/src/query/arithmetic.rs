//! `+`, `-` and `*` of integers with a check of the result. DataFusion's own wrap around when they overflow.

use arrow_schema::DataType;
use datafusion::arrow::compute::kernels::numeric::{add, mul, sub};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, config::ConfigOptions};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::logical_expr_common::type_coercion::binary::BinaryTypeCoercer;
use datafusion::physical_expr_common::datum::apply;

/// Replaces the operators by functions, for integers.
#[derive(Debug)]
pub(super) struct CheckArithmetic;

impl FunctionRewrite for CheckArithmetic {
    fn name(&self) -> &str {
        "check_arithmetic"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = &expr else { return Ok(Transformed::no(expr)) };
        let Some(function) = Checked::new(*op) else { return Ok(Transformed::no(expr)) };
        if common_integer(&left.get_type(schema)?, *op, &right.get_type(schema)?).is_none() {
            return Ok(Transformed::no(expr));
        }
        let arguments = vec![left.as_ref().clone(), right.as_ref().clone()];
        Ok(Transformed::yes(ScalarUDF::from(function).call(arguments)))
    }
}

/// Returns the integer type in which DataFusion calculates, or `None` if it is another type.
fn common_integer(left: &DataType, operator: Operator, right: &DataType) -> Option<DataType> {
    if !left.is_integer() || !right.is_integer() {
        return None;
    }
    let (left, right) = BinaryTypeCoercer::new(left, &operator, right).get_input_types().ok()?;
    (left == right && left.is_integer()).then_some(left)
}

/// The function of an operator.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    operator: Operator,
    name: &'static str,
    signature: Signature,
}

impl Checked {
    fn new(operator: Operator) -> Option<Self> {
        let name = match operator {
            Operator::Plus => "checked_add",
            Operator::Minus => "checked_subtract",
            Operator::Multiply => "checked_multiply",
            _ => return None,
        };
        Some(Checked { operator, name, signature: Signature::user_defined(Volatility::Immutable) })
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        Ok(vec![self.return_type(arguments)?; 2])
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let common = match arguments {
            [left, right] => common_integer(left, self.operator, right),
            _ => None,
        };
        common.ok_or_else(|| DataFusionError::Plan(format!("{} takes two integers", self.name)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = args.args.as_slice() else {
            return Err(DataFusionError::Plan(format!("{} takes two integers", self.name)));
        };
        match self.operator {
            Operator::Plus => apply(left, right, add),
            Operator::Minus => apply(left, right, sub),
            _ => apply(left, right, mul),
        }
    }
}
