//! The GraphQL schema that graph-node would generate for a lending subgraph, and its resolvers.

use std::sync::Arc;

use async_graphql::dynamic::{
    Enum, Field, FieldFuture, FieldValue, InputObject, InputValue, Object, ResolverContext, Scalar, Schema, TypeRef,
};
use async_graphql::{Error as GraphError, Value as GraphValue};
use defi_shared::error::{Error, Result};
use serde_json::Value;

use super::entities::{Entity, FieldType, Kept, Queried};
use super::filter::{Filter, LIST_FILTERS};
use super::snapshots::{BlockSelector, PageQuery, Subgraph, Table};
use super::values::text_of;
use crate::recording::{Block, Row};
use crate::server::SchemaVersion;
use crate::timeline::block_hash;

/// The maximum and the default number of rows of a page.
const MAX_FIRST: i64 = 1000;
const DEFAULT_FIRST: i64 = 100;
/// The maximum number of rows to skip.
const MAX_SKIP: i64 = 5000;

/// A recorded row, or an object that is nested in its fields.
struct Node {
    row: Row,
    path: Vec<&'static str>,
}

impl Node {
    fn field(&self, name: &str) -> &Value {
        let object = self.path.iter().fold(&*self.row, |object, field| &object[*field]);
        &object[name]
    }

    fn nested(&self, field: &'static str) -> Node {
        let path = self.path.iter().copied().chain([field]).collect();
        Node { row: Arc::clone(&self.row), path }
    }
}

/// Builds the schema of a subgraph. Its custom scalars accept and return any JSON, because recorded values may be
/// invalid.
pub(super) fn build(subgraph: Arc<Subgraph>) -> Result<Schema> {
    let version = subgraph.schema;
    let mut schema = Schema::build("Query", None, None);
    for scalar in ["Bytes", "BigInt", "BigDecimal", "PositionSide"] {
        schema = schema.register(Scalar::new(scalar));
    }
    for entity in version.nested() {
        schema = schema.register(object(entity, &subgraph));
    }
    let [markets, positions] = version.tables();
    let kept = version.kept().iter().map(|kept| kept.queried().entity);
    for entity in [markets.entity, positions.entity].into_iter().chain(kept) {
        schema = schema.register(object(entity, &subgraph));
        schema = schema.register(filter_type(entity, version)).register(order_type(entity));
    }
    let height = InputObject::new("Block_height")
        .field(InputValue::new("hash", TypeRef::named("Bytes")))
        .field(InputValue::new("number", TypeRef::named(TypeRef::INT)))
        .field(InputValue::new("number_gte", TypeRef::named(TypeRef::INT)));
    let query = Object::new("Query")
        .field(rows_field(&markets, Arc::clone(&subgraph), |subgraph| &subgraph.markets))
        .field(rows_field(&positions, Arc::clone(&subgraph), |subgraph| &subgraph.positions))
        .field(meta_field(subgraph));
    schema
        .register(Enum::new("OrderDirection").item("asc").item("desc"))
        .register(height)
        .register(meta_block_type())
        .register(meta_type())
        .register(query)
        .finish()
        .map_err(|error| Error::internal(format!("invalid GraphQL schema: {}", error.0)))
}

fn object(entity: &'static Entity, subgraph: &Arc<Subgraph>) -> Object {
    let version = subgraph.schema;
    entity.fields.iter().fold(Object::new(entity.name), |object, field| {
        let output = field.field_type.output_type(version);
        let is_entity = matches!(field.field_type, FieldType::Entity(_));
        match field.field_type {
            FieldType::Entities(_) => return object.field(list_field(field.name, output)),
            FieldType::Snapshots(kept) => return object.field(snapshots_field(kept, Arc::clone(subgraph))),
            _ => {}
        }
        let output = if field.required { TypeRef::named_nn(output) } else { TypeRef::named(output) };
        object.field(Field::new(field.name, output, move |ctx| {
            let Some(node) = ctx.parent_value.downcast_ref::<Node>() else { return FieldFuture::Value(None) };
            if is_entity {
                FieldFuture::Value(Some(FieldValue::owned_any(node.nested(field.name))))
            } else {
                FieldFuture::from_value(Some(to_graphql(node.field(field.name))))
            }
        }))
    })
}

/// Builds a field with a list of objects that are in the row itself.
fn list_field(name: &'static str, output: &str) -> Field {
    Field::new(name, TypeRef::named_nn_list(output), move |ctx| {
        let objects = ctx.parent_value.downcast_ref::<Node>().and_then(|node| node.field(name).as_array());
        let nodes = objects.map(|objects| {
            let node = |object: &Value| FieldValue::owned_any(Node { row: Row::new(object.clone()), path: Vec::new() });
            FieldValue::list(objects.iter().map(node).collect::<Vec<_>>())
        });
        FieldFuture::Value(nodes)
    })
}

/// Builds a field with the snapshots of a row.
fn snapshots_field(kept: Kept, subgraph: Arc<Subgraph>) -> Field {
    let entity = kept.queried().entity;
    let field = Field::new(kept.queried().field, TypeRef::named_nn_list_nn(entity.name), move |ctx| {
        let rows = page_query(&ctx, entity, &subgraph).map(|query| {
            let past = match kept {
                Kept::Balances => subgraph.positions.past(),
                Kept::Prices => subgraph.markets.past(),
            };
            let id = ctx.parent_value.downcast_ref::<Node>().map(|node| text_of(node.field("id")).into_owned());
            id.map_or_else(Vec::new, |id| query.page(&past.snapshots(kept, &id)))
        });
        FieldFuture::new(async move { Ok(Some(list_of(rows?))) })
    });
    with_page_arguments(field, entity)
}

/// Builds `Market_filter`, `Position_filter` and the like: all fields with all operations of their types, and lists of filters.
fn filter_type(entity: &Entity, version: SchemaVersion) -> InputObject {
    let name = format!("{}_filter", entity.name);
    let mut input = LIST_FILTERS
        .iter()
        .fold(InputObject::new(&name), |input, list| input.field(InputValue::new(*list, TypeRef::named_list(&name))));
    for field in entity.fields {
        let value_type = field.field_type.input_type(version);
        for operation in field.field_type.operations() {
            let value =
                if operation.takes_list() { TypeRef::named_nn_list(value_type) } else { TypeRef::named(value_type) };
            input = input.field(InputValue::new(format!("{}{}", field.name, operation.suffix()), value));
        }
    }
    input
}

fn order_type(entity: &Entity) -> Enum {
    entity.fields.iter().fold(Enum::new(format!("{}_orderBy", entity.name)), |order, field| order.item(field.name))
}

fn rows_field(queried: &Queried, subgraph: Arc<Subgraph>, table: fn(&Subgraph) -> &Table) -> Field {
    let entity = queried.entity;
    let output = TypeRef::named_nn_list_nn(entity.name);
    let field = Field::new(queried.field, output, move |ctx| {
        let rows = find_rows(&ctx, entity, &subgraph, table(&subgraph));
        FieldFuture::new(async move { Ok(Some(list_of(rows?))) })
    });
    with_page_arguments(field, entity).argument(InputValue::new("block", TypeRef::named("Block_height")))
}

fn list_of(rows: Vec<Row>) -> FieldValue<'static> {
    FieldValue::list(rows.into_iter().map(|row| FieldValue::owned_any(Node { row, path: Vec::new() })))
}

fn with_page_arguments(field: Field, entity: &Entity) -> Field {
    field
        .argument(InputValue::new("skip", TypeRef::named(TypeRef::INT)).default_value(0))
        .argument(InputValue::new("first", TypeRef::named(TypeRef::INT)).default_value(DEFAULT_FIRST))
        .argument(InputValue::new("orderBy", TypeRef::named(format!("{}_orderBy", entity.name))))
        .argument(InputValue::new("orderDirection", TypeRef::named("OrderDirection")))
        .argument(InputValue::new("where", TypeRef::named(format!("{}_filter", entity.name))))
}

fn find_rows(
    ctx: &ResolverContext<'_>,
    entity: &'static Entity,
    subgraph: &Subgraph,
    table: &Table,
) -> Result<Vec<Row>, GraphError> {
    let selector = block_selector(ctx, subgraph)?;
    let block = subgraph.resolve(&selector).map_err(GraphError::new)?;
    let query = page_query(ctx, entity, subgraph)?;
    Ok(match selector {
        BlockSelector::Head if subgraph.schema != SchemaVersion::Aave => query.page(table.past().rows()),
        _ => table.page(block.number, &query),
    })
}

fn page_query(
    ctx: &ResolverContext<'_>,
    entity: &'static Entity,
    subgraph: &Subgraph,
) -> Result<PageQuery, GraphError> {
    let filter = match ctx.args.get("where").filter(|argument| !argument.is_null()) {
        Some(argument) => Filter::parse(entity, subgraph.schema, &argument.object()?).map_err(GraphError::new)?,
        None => Filter::all(),
    };
    let order_by = match ctx.args.get("orderBy").filter(|argument| !argument.is_null()) {
        Some(argument) => {
            let name = argument.enum_name()?;
            entity.fields.iter().find(|field| field.name == name && !field.field_type.is_own_id())
        }
        None => None,
    };
    let direction = ctx.args.get("orderDirection").filter(|argument| !argument.is_null());
    Ok(PageQuery {
        filter,
        order_by: order_by.map(|field| (field.name, field.field_type)),
        descending: direction
            .map(|argument| argument.enum_name().map(|name| name == "desc"))
            .transpose()?
            .unwrap_or(false),
        skip: limited_argument(ctx, "skip", 0, MAX_SKIP)?,
        first: limited_argument(ctx, "first", DEFAULT_FIRST, MAX_FIRST)?,
    })
}

fn limited_argument(ctx: &ResolverContext<'_>, name: &str, default: i64, max: i64) -> Result<usize, GraphError> {
    let value = match ctx.args.get(name).filter(|argument| !argument.is_null()) {
        Some(argument) => argument.i64()?,
        None => default,
    };
    let error = || format!("The `{name}` argument must be between 0 and {max}, but is {value}");
    usize::try_from(value).ok().filter(|_| value <= max).ok_or_else(|| GraphError::new(error()))
}

fn block_selector(ctx: &ResolverContext<'_>, subgraph: &Subgraph) -> Result<BlockSelector, GraphError> {
    let Some(argument) = ctx.args.get("block").filter(|argument| !argument.is_null()) else {
        return Ok(BlockSelector::Head);
    };
    let argument = argument.object()?;
    let value = |name| argument.get(name).filter(|value| !value.is_null());
    match (value("number"), value("number_gte"), value("hash")) {
        (Some(number), None, None) => Ok(BlockSelector::Number(number.i64()?)),
        (None, Some(number), None) => Ok(BlockSelector::AtLeast(number.i64()?)),
        (None, None, Some(hash)) => {
            let hash = super::values::parse_bytes(hash.string()?).map_err(GraphError::new)?;
            Ok(BlockSelector::Hash(hash))
        }
        _ => Err(GraphError::new(format!(
            "Invalid value provided for argument `block`: expected one of number, number_gte and hash (subgraph {})",
            subgraph.deployment
        ))),
    }
}

fn meta_field(subgraph: Arc<Subgraph>) -> Field {
    let field = Field::new("_meta", TypeRef::named("_Meta_"), move |ctx| {
        let block =
            block_selector(&ctx, &subgraph).and_then(|selector| subgraph.resolve(&selector).map_err(GraphError::new));
        let (deployment, block_details) = (subgraph.deployment.clone(), subgraph.block_details);
        FieldFuture::new(
            async move { Ok(Some(FieldValue::owned_any(Meta { block: block?, block_details, deployment }))) },
        )
    });
    field.argument(InputValue::new("block", TypeRef::named("Block_height")))
}

struct Meta {
    block: Block,
    /// Whether the hash and the time of the block are said.
    block_details: bool,
    deployment: String,
}

fn meta_type() -> Object {
    Object::new("_Meta_")
        .field(Field::new("block", TypeRef::named_nn("_Block_"), |ctx| {
            let meta = ctx.parent_value.downcast_ref::<Meta>();
            FieldFuture::Value(meta.map(|meta| FieldValue::owned_any(MetaBlock(meta.block, meta.block_details))))
        }))
        .field(Field::new("deployment", TypeRef::named_nn(TypeRef::STRING), |ctx| {
            let meta = ctx.parent_value.downcast_ref::<Meta>();
            FieldFuture::from_value(meta.map(|meta| GraphValue::from(meta.deployment.as_str())))
        }))
        .field(Field::new("hasIndexingErrors", TypeRef::named_nn(TypeRef::BOOLEAN), |_| {
            FieldFuture::from_value(Some(GraphValue::from(false)))
        }))
}

/// A block in `_meta`, and whether its hash and time are said.
struct MetaBlock(Block, bool);

fn meta_block_type() -> Object {
    let field = |name, output, value: fn(&Block) -> GraphValue, is_detail: bool| {
        Field::new(name, output, move |ctx| {
            let block = ctx.parent_value.downcast_ref::<MetaBlock>().filter(|block| block.1 || !is_detail);
            FieldFuture::from_value(block.map(|block| value(&block.0)))
        })
    };
    Object::new("_Block_")
        .field(field("hash", TypeRef::named("Bytes"), |block| GraphValue::from(block_hash(block.number)), true))
        .field(field("number", TypeRef::named_nn(TypeRef::INT), |block| GraphValue::from(block.number), false))
        .field(field("timestamp", TypeRef::named(TypeRef::INT), |block| GraphValue::from(block.timestamp), true))
}

/// Converts a recorded value to a GraphQL value.
fn to_graphql(value: &Value) -> GraphValue {
    match value {
        Value::String(text) => GraphValue::String(text.clone()),
        other => GraphValue::from_json(other.clone()).unwrap_or_default(),
    }
}
