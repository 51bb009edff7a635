//! What happens on chain: the five kinds of lending event, and the two sides of a position.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A kind of lending event. Orders as its name does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Category {
    /// A loan is taken.
    Borrow,
    /// Tokens are supplied.
    Deposit,
    /// Someone repays a debt and seizes collateral for it.
    Liquidation,
    /// A loan is paid back.
    Repay,
    /// Supplied tokens are taken out.
    Withdraw,
}

impl Category {
    /// All categories, in the order of their names.
    pub const ALL: [Category; 5] =
        [Category::Borrow, Category::Deposit, Category::Liquidation, Category::Repay, Category::Withdraw];

    /// The name, as Transpose and the tables have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Category::Borrow => "borrow",
            Category::Deposit => "deposit",
            Category::Liquidation => "liquidation",
            Category::Repay => "repay",
            Category::Withdraw => "withdraw",
        }
    }

    /// Reads such a name; `None` for any other text.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Category::ALL.into_iter().find(|category| category.name() == name)
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The side of a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Supplied: `LENDER` in one version of the subgraphs' schema, `COLLATERAL` in the other.
    Lender,
    /// Borrowed.
    Borrower,
}

impl Side {
    /// Reads a subgraph's name of a side; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "LENDER" | "COLLATERAL" => Some(Side::Lender),
            "BORROWER" => Some(Side::Borrower),
            _ => None,
        }
    }

    /// The pipeline's name of it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Side::Lender => "LENDER",
            Side::Borrower => "BORROWER",
        }
    }
}
