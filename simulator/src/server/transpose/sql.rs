//! `{{name}}` in a query: parameters, whose values a request has next to the SQL.

/// A query with SQLite's parameters instead of the placeholders.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Prepared {
    pub(super) sql: String,
    /// The parameter names in the order of their first use.
    pub(super) names: Vec<String>,
}

/// Replaces `{{name}}` by `:name`, except in literals, quoted names and comments.
pub(super) fn prepare(sql: &str) -> Result<Prepared, String> {
    let mut prepared = Prepared { sql: String::with_capacity(sql.len()), names: Vec::new() };
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        if let Some(inside) = rest.strip_prefix("{{") {
            let (name, after) = inside.split_once("}}").ok_or("a parameter is not closed by }}")?;
            prepared.parameter(name.trim())?;
            rest = after;
            continue;
        }
        let length = match closing_delimiter(rest) {
            Some(end) => rest
                .get(first.len_utf8()..)
                .and_then(|inside| inside.find(end))
                .map_or(rest.len(), |index| first.len_utf8() + index + end.len()),
            None => first.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        prepared.sql.push_str(token);
        rest = after;
    }
    Ok(prepared)
}

/// Returns the closing delimiter of the literal, quoted name or comment at the start of a string, if there is one. A
/// doubled quote is treated as the end of one literal and the start of another, which has the same effect.
fn closing_delimiter(rest: &str) -> Option<&'static str> {
    [("'", "'"), ("\"", "\""), ("--", "\n"), ("/*", "*/")]
        .into_iter()
        .find_map(|(start, end)| rest.starts_with(start).then_some(end))
}

impl Prepared {
    fn parameter(&mut self, name: &str) -> Result<(), String> {
        let mut letters = name.chars();
        let is_name = letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
            && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        if !is_name {
            return Err(format!("invalid parameter name: {name}"));
        }
        self.sql.push(':');
        self.sql.push_str(name);
        if !self.names.iter().any(|used| used == name) {
            self.names.push(name.to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_become_parameters() {
        let prepared = prepare("SELECT * FROM t WHERE a = {{from}} AND b < {{ to }} AND c > {{from}}").unwrap();
        assert_eq!(prepared.sql, "SELECT * FROM t WHERE a = :from AND b < :to AND c > :from");
        assert_eq!(prepared.names, ["from", "to"]);
    }

    #[test]
    fn literals_and_comments_are_unchanged() {
        let sql = "SELECT '{{a}}', 'it''s {{b}}', \"{{c}}\" -- {{d}}\n, 'é' /* {{e}} */ FROM t";
        assert_eq!(prepare(sql).unwrap(), Prepared { sql: sql.to_owned(), names: vec![] });
        assert_eq!(prepare("'{{open").unwrap().names.len(), 0);
    }

    #[test]
    fn rejects_invalid_parameter_names() {
        for sql in ["{{}}", "{{1a}}", "{{a b}}", "{{a;drop}}", "{{a"] {
            assert!(prepare(sql).is_err(), "{sql}");
        }
    }
}
