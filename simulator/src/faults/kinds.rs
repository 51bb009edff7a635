//! The faults by name: where each can happen, and whether it passes.

/// Which of the two APIs a fault belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// Either.
    Both,
    /// The Graph.
    Graph,
    /// Transpose.
    Transpose,
}

/// How long a fault stays with a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stay {
    /// The question is answered truly once it has been asked often enough.
    Passing,
    /// The question meets the fault as often as it is asked.
    Lasting,
}

/// Declares the faults from one table, so that none lacks a name or a word on whether it passes.
macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:literal $at:ident $stay:ident,)+) => {
        /// What can go wrong with an answer.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Fault {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Fault {
            /// Every fault.
            pub const ALL: &[Fault] = &[$(Fault::$variant),+];

            /// The stable name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Fault::$variant => $name,)+
                }
            }

            /// Whether a question that is asked again meets the truth in the end.
            #[must_use]
            pub fn is_passing(self) -> bool {
                let stay = match self {
                    $(Fault::$variant => Stay::$stay,)+
                };
                stay == Stay::Passing
            }

            pub(super) fn at(self) -> At {
                match self {
                    $(Fault::$variant => At::$at,)+
                }
            }
        }
    };
}

faults! {
    /// Status 429, and no word on when to come back.
    TooManyRequests "too_many_requests" Both Passing,
    /// Status 429 with a `Retry-After` of a second.
    RetryAfter "retry_after" Both Passing,
    /// Status 429 with a `Retry-After` of an hour: longer than anybody waits on the line.
    RetryAfterAnHour "retry_after_an_hour" Both Passing,
    /// Status 500.
    InternalServerError "internal_server_error" Both Passing,
    /// Status 502, with a proxy's page.
    BadGateway "bad_gateway" Both Passing,
    /// Status 503, with a `Retry-After`.
    ServiceUnavailable "service_unavailable" Both Passing,
    /// Status 504.
    GatewayTimeout "gateway_timeout" Both Passing,
    /// The connection is closed without an answer.
    Closed "closed" Both Passing,
    /// The connection is reset before the first byte of an answer.
    Reset "reset" Both Passing,
    /// The connection is reset in the middle of the body.
    ResetInBody "reset_in_body" Both Passing,
    /// The body stops half-way, and the connection stays open.
    StalledBody "stalled_body" Both Passing,
    /// The answer does not begin for a long time.
    SlowHeaders "slow_headers" Both Passing,
    /// The JSON ends before its end, in a whole HTTP body.
    CutJson "cut_json" Both Passing,
    /// A page of HTML, with status 200.
    Html "html" Both Passing,
    /// Nothing, with status 200.
    EmptyBody "empty_body" Both Passing,
    /// JSON whose rows are no list.
    WrongShape "wrong_shape" Both Passing,
    /// Rows in another order. Rows that share a place stay in theirs: what the question leaves open is no fault.
    Reordered "reordered" Both Passing,
    /// A later page is answered with the first one of the same question.
    RepeatedPage "repeated_page" Both Passing,
    /// GraphQL `errors` that pass, with status 200.
    PassingErrors "passing_errors" Graph Passing,
    /// GraphQL `errors` that do not, with status 200.
    LastingErrors "lasting_errors" Graph Lasting,
    /// `data` together with `errors`.
    DataWithErrors "data_with_errors" Graph Passing,
    /// `data: null`, and no errors.
    NoData "no_data" Graph Passing,
    /// The subgraph has not indexed the block yet. Only pinned questions meet it: what is asked of the head alone is true of
    /// whichever head there is.
    HeadBehind "head_behind" Graph Passing,
    /// The subgraph does not keep the block any more.
    Pruned "pruned" Graph Lasting,
    /// The answer is of another block than the one that was asked for.
    OtherBlock "other_block" Graph Passing,
    /// A later page comes from another deployment. With the first one there is nothing yet to differ from.
    OtherDeployment "other_deployment" Graph Passing,
    /// A later page is of another block with the same number: the chain was reorganised between two pages.
    ReorganisedBlock "reorganised_block" Graph Passing,
    /// The subgraph has failed to index a block, and says so beside its data.
    IndexingErrors "indexing_errors" Graph Lasting,
    /// The answer stops after any of its rows, and says so.
    Truncated "truncated" Transpose Passing,
    /// The answer stops before its first row, and says so.
    EmptyTruncated "empty_truncated" Transpose Passing,
    /// Rows are left out without a word: the answer counts more of them than it holds.
    RowsWithheld "rows_withheld" Transpose Passing,
    /// The answer to another question: events of another category. One without rows is not given, since nobody could tell.
    OtherRows "other_rows" Transpose Passing,
    /// The answer stops after the rows of a block that is reorganised away before the next question. A client can only be
    /// spared such rows at the end of a page, where it has to ask again; what is final is not reorganised at all.
    ReorganisedRows "reorganised_rows" Transpose Passing,
    /// An error with status 200.
    ErrorWithStatus200 "error_with_status_200" Transpose Passing,
    /// Status 403: the account is out of credits.
    OutOfCredits "out_of_credits" Transpose Lasting,
}
