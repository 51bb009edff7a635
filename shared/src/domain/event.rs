//! On-chain lending: the five categories of events, and the two sides of a position.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A category of lending events. The order is alphabetical by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Category {
    /// Tokens are borrowed.
    Borrow,
    /// Tokens are supplied.
    Deposit,
    /// A liquidator repays an account's debt and seizes collateral in return.
    Liquidation,
    /// Borrowed tokens are repaid.
    Repay,
    /// Supplied tokens are withdrawn.
    Withdraw,
}

impl Category {
    /// All categories, ordered by name.
    pub const ALL: [Category; 5] =
        [Category::Borrow, Category::Deposit, Category::Liquidation, Category::Repay, Category::Withdraw];

    /// All categories in the order in which they claim a log. A log is one event: of valid rows with one transaction hash
    /// and log index in several categories of a day, the row of the first of these categories counts.
    pub const PRECEDENCE: [Category; 5] =
        [Category::Deposit, Category::Borrow, Category::Repay, Category::Withdraw, Category::Liquidation];

    /// Returns the categories before this one in [`Category::PRECEDENCE`], in that order.
    pub fn predecessors(self) -> impl Iterator<Item = Category> {
        Category::PRECEDENCE.into_iter().take_while(move |category| *category != self)
    }

    /// Returns the name that Transpose and the tables use.
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

    /// Parses the name of a category. Returns `None` for an unknown name.
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
    /// Supplied: `LENDER` in one version of the subgraph schema, `COLLATERAL` in the other.
    Lender,
    /// Borrowed.
    Borrower,
}

impl Side {
    /// Parses a subgraph's name of a side. Returns `None` for an unknown name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "LENDER" | "COLLATERAL" => Some(Side::Lender),
            "BORROWER" => Some(Side::Borrower),
            _ => None,
        }
    }

    /// Returns the name that the tables use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Side::Lender => "LENDER",
            Side::Borrower => "BORROWER",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_counts_as_a_deposit_first_and_as_a_liquidation_last() {
        let names = |category: Category| category.predecessors().map(Category::name).collect::<Vec<_>>();
        assert!(names(Category::Deposit).is_empty());
        assert_eq!(names(Category::Borrow), ["deposit"]);
        assert_eq!(names(Category::Liquidation), ["deposit", "borrow", "repay", "withdraw"]);
        assert!(Category::ALL.iter().all(|category| Category::PRECEDENCE.contains(category)));
    }

    #[test]
    fn category_names_are_those_of_transpose() {
        let names = ["borrow", "deposit", "liquidation", "repay", "withdraw"];
        assert_eq!(Category::ALL.map(|category| category.to_string()), names);
        assert_eq!(names.map(Category::parse), Category::ALL.map(Some));
        assert_eq!(["Borrow", "flashloan", ""].map(Category::parse), [None; 3]);
    }

    #[test]
    fn side_names_of_both_schema_versions_are_known() {
        let sides = ["LENDER", "COLLATERAL", "BORROWER", "lender", ""].map(Side::parse);
        assert_eq!(sides, [Some(Side::Lender), Some(Side::Lender), Some(Side::Borrower), None, None]);
        assert_eq!([Side::Lender, Side::Borrower].map(Side::name), ["LENDER", "BORROWER"]);
    }
}
