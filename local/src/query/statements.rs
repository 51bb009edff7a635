//! Where the SQL statements of a text end.

use std::collections::BTreeSet;

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

/// Returns the tokens of a text, or `None` if a quote or a comment is not closed.
fn tokens(text: &str) -> Option<Vec<TokenWithSpan>> {
    Tokenizer::new(&GenericDialect {}, text).tokenize_with_location().ok()
}

fn is_blank(token: &TokenWithSpan) -> bool {
    matches!(token.token, Token::Whitespace(_))
}

/// Whether the text ends with a semicolon, or has nothing but spaces and comments.
pub(super) fn is_complete(text: &str) -> bool {
    let last = |tokens: Vec<TokenWithSpan>| tokens.into_iter().rfind(|token| !is_blank(token));
    tokens(text).is_some_and(|tokens| last(tokens).is_none_or(|last| last.token == Token::SemiColon))
}

/// Returns the statements of a text that is complete, as they are written, without their semicolons.
pub(super) fn split(text: &str) -> Vec<String> {
    let tokens_of = |text: &str| tokens(text).unwrap_or_default();
    let semicolons = tokens_of(text).into_iter().filter(|token| token.token == Token::SemiColon);
    let ends: BTreeSet<Location> = semicolons.map(|token| token.span.start).collect();
    let (mut statements, mut statement) = (Vec::new(), String::new());
    let mut place = Location { line: 1, column: 1 };
    for c in text.chars() {
        if ends.contains(&place) {
            statements.push(std::mem::take(&mut statement));
        } else {
            statement.push(c);
        }
        place = match c {
            '\n' => Location { line: place.line + 1, column: 1 },
            _ => Location { line: place.line, column: place.column + 1 },
        };
    }
    statements.push(statement);
    statements.retain(|statement| !tokens_of(statement).iter().all(is_blank));
    statements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statement_ends_with_a_semicolon_outside_of_quotes_and_comments() {
        for text in
            ["", " \n", "-- only a comment", "select 1;", "select ';';", "select 1; -- done\n", "select 1 /* ; */ ; "]
        {
            assert!(is_complete(text), "{text:?}");
        }
        for text in ["select 1", "select ';", "select \";", "select 1 -- ;", "select 1 /* ;", "select 1; select 2"] {
            assert!(!is_complete(text), "{text:?}");
        }
    }

    #[test]
    fn statements_keep_their_text() {
        let first = "select 'it''s; ä' as \"a\"\";\" -- ; a comment\n, 1e0 / 1.20";
        let second = "\nselect E'\\n', x -> 'y', 0x1f from t where a <> b";
        assert_eq!(split(&format!("{first};{second};")), [first, second]);
        assert_eq!(split(";; -- nothing\n;"), [""; 0]);
    }
}
