//! Parses a selection of published days.

use std::collections::BTreeSet;

use defi_shared::catalog::Registry;
use defi_shared::domain::Day;
use defi_shared::error::{Error, Result};

/// Returns the published days that a string selects: one day, a comma-separated list, an inclusive range `a..b`, or
/// `all`. Default: the newest day.
///
/// # Errors
/// `BadInput` for an invalid day or one that is not published, and the errors of the catalog.
pub(super) async fn published(registry: &Registry, text: Option<&str>) -> Result<Vec<Day>> {
    let published = registry.published().await?;
    let Some(newest) = published.last() else {
        return Err(
            Error::bad_input("no features are published in this lake yet").with_hint("publish features with defi run")
        );
    };
    match text {
        None => Ok(vec![*newest]),
        Some("all") => Ok(published),
        Some(text) => parse(text, &published),
    }
}

fn parse(text: &str, published: &[Day]) -> Result<Vec<Day>> {
    let mut days = BTreeSet::new();
    for part in text.split(',').map(str::trim) {
        let is_published = match part.split_once("..") {
            Some((first, last)) => {
                let (first, last) = (first.parse::<Day>()?, last.parse::<Day>()?);
                if first > last {
                    return Err(Error::bad_input(format!(
                        "the first day {first} of a range is after its last day {last}"
                    ))
                    .with_hint(format!("write {last}..{first}")));
                }
                let range = first..=last;
                days.extend(published.iter().filter(|day| range.contains(*day)));
                published.iter().any(|day| range.contains(day))
            }
            None => {
                let day = part.parse()?;
                days.insert(day);
                published.contains(&day)
            }
        };
        if !is_published {
            return Err(not_published_error(part, published));
        }
    }
    Ok(days.into_iter().collect())
}

fn not_published_error(part: &str, published: &[Day]) -> Error {
    let (first, last) = (published.first(), published.last());
    let available = match (first, last) {
        (Some(first), Some(last)) if first != last => {
            format!("{} days are published, from {first} to {last}", published.len())
        }
        _ => format!("only {} is published", last.map(Day::to_string).unwrap_or_default()),
    };
    Error::bad_input(format!("no features are published as of {part}: {available}"))
        .with_hint("choose a published day, or publish this one with defi run --as-of")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(number: i32) -> Day {
        Day::from_epoch_days(19_358 + number)
    }

    #[test]
    fn parses_days_lists_and_ranges() {
        let published = [day(0), day(3), day(5)];
        assert_eq!(parse("2023-01-01", &published).unwrap(), [day(0)]);
        assert_eq!(parse("2023-01-06, 2023-01-01", &published).unwrap(), [day(0), day(5)]);
        assert_eq!(parse("2023-01-02..2023-01-31", &published).unwrap(), [day(3), day(5)]);
        for text in ["2023-01-02", "2023-01-07..2023-01-09", "2023-01-06..2023-01-01", "yesterday", "2023-01-01,", ""] {
            assert!(parse(text, &published).is_err(), "{text}");
        }
    }
}
