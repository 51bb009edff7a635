//! Describes the tables of a lake to other tools: Feast, dbt, and readers of Croissant. The names, types and descriptions
//! of columns are those of the code.

pub mod croissant;
pub mod dbt;
pub mod feast;
mod folder;

use std::path::Path;

use defi_shared::error::{Error, Result};

/// Returns a text in quotes, as Python, YAML and JSON write it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Returns the absolute path of a lake, for queries of DuckDB.
///
/// # Errors
/// `BadInput` if DuckDB would take a character of the path for a pattern or for the end of the text, or if the path is
/// not UTF-8.
fn absolute(lake: &Path) -> Result<String> {
    let invalid = |message: &str| {
        Error::bad_input(message)
            .with("path", lake.display())
            .with_hint("give the lake another name, or a link to it, and choose that with --lake")
    };
    let path =
        std::path::absolute(lake).map_err(|cause| invalid("the path of the lake is invalid").with_source(cause))?;
    let path = path.to_str().ok_or_else(|| invalid("the path of the lake is not UTF-8"))?;
    match path.chars().find(|c| "*?[]{}'\"\\".contains(*c) || c.is_control()) {
        Some(character) => {
            Err(invalid(&format!("the path of the lake contains {character:?}, which has a meaning in queries")))
        }
        None => Ok(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_of_a_lake_is_absolute() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(absolute(Path::new("./a b")).unwrap(), here.join("a b").to_str().unwrap());
    }

    #[test]
    fn path_with_a_pattern_or_a_quote_is_rejected() {
        for name in ["a*", "a?", "a[1]", "a{b}", "a'b", "a\"b", "a\\b", "a\nb"] {
            assert!(absolute(Path::new(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn quotes_in_a_text_are_escaped() {
        assert_eq!(quoted("a \"b\" \\ é"), r#""a \"b\" \\ é""#);
    }
}
