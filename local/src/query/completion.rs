//! The names that complete a word of a query.

use std::collections::BTreeSet;

use super::session::Relation;

/// The tables, views and columns of a session.
#[derive(Debug)]
pub(super) struct Names {
    relations: Vec<Relation>,
}

/// Whether a character is part of a name, or the point between the names of a database, a table and a column.
pub(super) fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '.'
}

impl Names {
    pub(super) fn new(relations: Vec<Relation>) -> Self {
        Names { relations }
    }

    /// Returns the names that start with a word, sorted: tables with and without their database, and columns. If the text
    /// names tables, only their columns.
    pub(super) fn complete(&self, text: &str, word: &str) -> Vec<String> {
        let mut names = BTreeSet::new();
        let mentioned: BTreeSet<&str> = text.split(|c: char| !is_of_name(c)).collect();
        let is_mentioned = |relation: &&Relation| {
            mentioned.contains(relation.full_name().as_str()) || mentioned.contains(relation.short_name().as_str())
        };
        let with_columns: Vec<_> = match self.relations.iter().filter(is_mentioned).collect::<Vec<_>>() {
            none if none.is_empty() => self.relations.iter().collect(),
            some => some,
        };
        for relation in &self.relations {
            names.extend([relation.full_name(), relation.short_name()]);
        }
        for relation in with_columns {
            for column in &relation.columns {
                names.extend([column.name.clone(), format!("{}.{}", relation.name, column.name)]);
            }
        }
        let word = word.to_lowercase();
        let depth = word.matches('.').count();
        // A name goes at most one point further than the word, so that a first word is not lost among pairs.
        let fits =
            |name: &String| name.starts_with(&word) && (depth > 0 || !name.contains('.') || name.starts_with("db_"));
        names.into_iter().filter(fits).collect()
    }
}

#[cfg(test)]
mod tests {
    use defi_shared::catalog::CatalogColumn;

    use super::*;

    fn names() -> Names {
        let relation = |database: &str, name: &'static str, columns: &[&str]| Relation {
            database: database.to_owned(),
            name,
            description: String::new(),
            columns: columns
                .iter()
                .map(|name| CatalogColumn {
                    name: (*name).to_owned(),
                    data_type: "string".to_owned(),
                    comment: String::new(),
                })
                .collect(),
        };
        Names::new(vec![
            relation("db_analytics_dev", "defi_features", &["wallet_address", "risk_factor"]),
            relation("db_analytics_dev", "wallet_links", &["wallet_address", "since"]),
            relation("db_analytics_dev", "transpose_borrow_events", &["quantity"]),
            relation("db_raw_dev", "transpose_borrow_events", &["quantity", "metadata"]),
        ])
    }

    #[test]
    fn tables_are_completed_by_their_name_or_their_database() {
        let names = names();
        assert_eq!(names.complete("select * from def", "def"), ["defi_features"]);
        assert_eq!(names.complete("select * from DB_R", "DB_R"), ["db_raw_dev.transpose_borrow_events"]);
        assert_eq!(
            names.complete("select * from db_analytics_dev.w", "db_analytics_dev.w"),
            ["db_analytics_dev.wallet_links"]
        );
        assert_eq!(names.complete("select * from transpose", "transpose"), [""; 0], "ambiguous without a database");
    }

    #[test]
    fn columns_are_those_of_the_tables_in_the_text() {
        let names = names();
        assert_eq!(names.complete("select wa", "wa"), ["wallet_address", "wallet_links"]);
        assert_eq!(names.complete("select s from wallet_links", "s"), ["since"]);
        assert_eq!(names.complete("select r from wallet_links", "r"), [""; 0]);
        assert_eq!(names.complete("select m from db_raw_dev.transpose_borrow_events", "m"), ["metadata"]);
        let word = "defi_features.r";
        assert_eq!(names.complete(&format!("select {word} from defi_features"), word), ["defi_features.risk_factor"]);
    }
}
