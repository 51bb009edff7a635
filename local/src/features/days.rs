//! Which published days are meant.

use std::collections::BTreeSet;

use defi_shared::catalog::Registry;
use defi_shared::domain::Day;
use defi_shared::error::{Error, Result};

/// The published days that a text names: a day, several with commas between, a range `a..b` with both its ends, or `all`; default:
/// the newest.
///
/// # Errors
/// `BadInput` for a text that names no day, or one that is not published, and the catalog's errors.
pub(super) async fn published(registry: &Registry, text: Option<&str>) -> Result<Vec<Day>> {
    let published = registry.published().await?;
    let Some(newest) = published.last() else {
        return Err(Error::bad_input("no features are published in this lake yet").next("make them with defi run"));
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
        let found = match part.split_once("..") {
            Some((first, last)) => {
                let range = first.parse::<Day>()?..=last.parse::<Day>()?;
                days.extend(published.iter().filter(|day| range.contains(*day)));
                published.iter().any(|day| range.contains(day))
            }
            None => {
                let day = part.parse()?;
                days.insert(day);
                published.contains(&day)
            }
        };
        if !found {
            return Err(not_published(part, published));
        }
    }
    Ok(days.into_iter().collect())
}

fn not_published(part: &str, published: &[Day]) -> Error {
    let (first, last) = (published.first(), published.last());
    let there = match (first, last) {
        (Some(first), Some(last)) if first != last => format!("{} days are, from {first} to {last}", published.len()),
        _ => format!("only {} is", last.map(Day::to_string).unwrap_or_default()),
    };
    Error::bad_input(format!("no features are published as of {part}: {there}"))
        .next("name a published day, or publish this one with defi run --as-of")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(number: i32) -> Day {
        Day::from_epoch_days(19_358 + number)
    }

    #[test]
    fn days_are_named_alone_in_lists_and_in_ranges() {
        let published = [day(0), day(3), day(5)];
        assert_eq!(parse("2023-01-01", &published).unwrap(), [day(0)]);
        assert_eq!(parse("2023-01-06, 2023-01-01", &published).unwrap(), [day(0), day(5)]);
        assert_eq!(parse("2023-01-02..2023-01-31", &published).unwrap(), [day(3), day(5)]);
        for text in ["2023-01-02", "2023-01-07..2023-01-09", "yesterday", "2023-01-01,", ""] {
            assert!(parse(text, &published).is_err(), "{text}");
        }
    }
}
