//! Where the SQL statements of a text end.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// Returns the tokens of a text, or `None` if a quote or a comment is not closed.
fn tokens(text: &str) -> Option<Vec<Token>> {
    // Without unescaping, a token is written as it was read.
    Tokenizer::new(&GenericDialect {}, text).with_unescape(false).tokenize().ok()
}

fn is_blank(token: &Token) -> bool {
    matches!(token, Token::Whitespace(_))
}

/// Whether the text ends with a semicolon, or has nothing but spaces and comments.
pub(super) fn is_complete(text: &str) -> bool {
    let last = |tokens: Vec<Token>| tokens.into_iter().rfind(|token| !is_blank(token));
    tokens(text).is_some_and(|tokens| last(tokens).is_none_or(|token| token == Token::SemiColon))
}

/// Returns the statements of a text that is complete, without their semicolons.
pub(super) fn split(text: &str) -> Vec<String> {
    let tokens = tokens(text).unwrap_or_default();
    let statements = tokens.split(|token| *token == Token::SemiColon);
    let statements = statements.filter(|tokens| !tokens.iter().all(is_blank));
    statements.map(|tokens| tokens.iter().map(ToString::to_string).collect()).collect()
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
