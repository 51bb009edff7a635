//! The faults: name, affected API, and whether a retry succeeds.

/// The API that a fault affects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    /// Both APIs.
    Both,
    /// The Graph.
    Graph,
    /// Transpose.
    Transpose,
}

/// Whether a retry of the same request can succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Persistence {
    /// The request succeeds once it has been repeated often enough.
    Transient,
    /// Every attempt of the request has the fault.
    Permanent,
}

/// Declares the faults in one table, so that each has a name, an API and a persistence.
macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:literal $api:ident $persistence:ident,)+) => {
        /// A fault in a response.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Fault {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Fault {
            /// All faults.
            pub const ALL: &[Fault] = &[$(Fault::$variant),+];

            /// Returns the stable name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Fault::$variant => $name,)+
                }
            }

            /// Returns whether the request succeeds if it is repeated often enough.
            #[must_use]
            pub fn is_transient(self) -> bool {
                let persistence = match self {
                    $(Fault::$variant => Persistence::$persistence,)+
                };
                persistence == Persistence::Transient
            }

            /// Returns whether the fault is one of HTTP or the connection, which any server can have.
            pub(crate) fn is_of_http(self) -> bool {
                use Fault::{Reordered, RepeatedPage, WrongShape};
                self.api() == Api::Both && !matches!(self, WrongShape | Reordered | RepeatedPage)
            }

            pub(super) fn api(self) -> Api {
                match self {
                    $(Fault::$variant => Api::$api,)+
                }
            }
        }
    };
}

faults! {
    /// Status 429 without `Retry-After`.
    TooManyRequests "too_many_requests" Both Transient,
    /// Status 429 with a `Retry-After` of one second.
    RetryAfter "retry_after" Both Transient,
    /// Status 429 with a `Retry-After` of one hour, which is longer than a client waits.
    RetryAfterAnHour "retry_after_an_hour" Both Transient,
    /// Status 500.
    InternalServerError "internal_server_error" Both Transient,
    /// Status 502 with the HTML page of a proxy.
    BadGateway "bad_gateway" Both Transient,
    /// Status 503 with a `Retry-After`.
    ServiceUnavailable "service_unavailable" Both Transient,
    /// Status 504.
    GatewayTimeout "gateway_timeout" Both Transient,
    /// The connection is closed without a response.
    Closed "closed" Both Transient,
    /// The connection is reset before the first byte of the response.
    Reset "reset" Both Transient,
    /// The connection is reset in the middle of the body.
    ResetInBody "reset_in_body" Both Transient,
    /// The body stops half-way and the connection stays open.
    StalledBody "stalled_body" Both Transient,
    /// The response headers are sent only after a long delay.
    SlowHeaders "slow_headers" Both Transient,
    /// Truncated JSON in a complete HTTP body.
    CutJson "cut_json" Both Transient,
    /// An HTML page with status 200.
    Html "html" Both Transient,
    /// An empty body with status 200.
    EmptyBody "empty_body" Both Transient,
    /// JSON in which the rows are not a list.
    WrongShape "wrong_shape" Both Transient,
    /// Rows in the wrong order. Rows with equal sort keys keep their order, because the query leaves it open.
    Reordered "reordered" Both Transient,
    /// A later page is answered with the first page of the same query.
    RepeatedPage "repeated_page" Both Transient,
    /// Transient GraphQL `errors` with status 200.
    TransientErrors "passing_errors" Graph Transient,
    /// Permanent GraphQL `errors` with status 200.
    PermanentErrors "lasting_errors" Graph Permanent,
    /// `data` together with `errors`.
    DataWithErrors "data_with_errors" Graph Transient,
    /// `data: null` without errors.
    NoData "no_data" Graph Transient,
    /// The subgraph has not indexed the block yet. Only queries that are pinned to a block can have this fault: a query
    /// of the head is valid for any head.
    HeadBehind "head_behind" Graph Transient,
    /// The subgraph has pruned the block.
    Pruned "pruned" Graph Permanent,
    /// The indexers of the subgraph are days apart: one has pruned the block, another does not have it yet.
    PrunedByOne "pruned_by_one" Graph Permanent,
    /// The gateway says that the block is missing, and not which block is the latest.
    MissingBlock "missing_block" Graph Permanent,
    /// The response is for another block than the requested one.
    OtherBlock "other_block" Graph Transient,
    /// A later page comes from another deployment. On the first page there is nothing to compare the deployment with.
    OtherDeployment "other_deployment" Graph Transient,
    /// A later page is for another block with the same number: the chain was reorganised between two pages. Only a server that
    /// says the hash of the block can have this fault.
    ReorganisedBlock "reorganised_block" Graph Transient,
    /// The subgraph failed to index a block and reports it next to the data.
    IndexingErrors "indexing_errors" Graph Permanent,
    /// The response stops after any number of rows and is marked as truncated.
    Truncated "truncated" Transpose Transient,
    /// The response has no rows and is marked as truncated.
    EmptyTruncated "empty_truncated" Transpose Transient,
    /// Rows are missing and the response is not marked as truncated: its row count is higher than its number of rows.
    RowsWithheld "rows_withheld" Transpose Transient,
    /// The response of another query: events of another category. It is not sent if it has no rows, because a client
    /// could not detect it.
    OtherRows "other_rows" Transpose Transient,
    /// The response stops after the rows of a block that is reorganised away before the next request. A client can
    /// detect this only at the end of a page, where it sends another request. Final blocks are never reorganised.
    ReorganisedRows "reorganised_rows" Transpose Transient,
    /// An error with status 200.
    ErrorWithStatus200 "error_with_status_200" Transpose Transient,
    /// Status 403: the account is out of credits.
    OutOfCredits "out_of_credits" Transpose Permanent,
}
