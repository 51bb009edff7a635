//! Shares of rows, such as the rows in quarantine, of each part of the lake: of one table and, where the lake knows it,
//! one protocol. Within a large total, a part that is wrong as a whole would not be noticed.

use std::fmt;

use defi_shared::domain::Day;

/// A number of rows, and how many of them are counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Share {
    pub counted: u64,
    pub rows: u64,
}

impl Share {
    /// Returns the share; 0 of no rows.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    pub fn value(self) -> f64 {
        if self.rows == 0 { 0.0 } else { self.counted as f64 / self.rows as f64 }
    }

    pub fn add(&mut self, other: Share) {
        self.counted += other.counted;
        self.rows += other.rows;
    }
}

/// Consecutive days of a part, which together have enough rows for a meaningful share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// The name of the part, such as `stage.transpose_borrow_events`.
    pub part: String,
    pub first: Day,
    pub last: Day,
    pub share: Share,
    /// Whether the group has the minimum number of rows. Only the single group of a part with few rows may not.
    pub is_enough: bool,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Group { part, first, last, share, .. } = self;
        write!(f, "{} of {} rows of {part} ", share.counted, share.rows)?;
        if first == last { write!(f, "on {last}") } else { write!(f, "from {first} to {last}") }
    }
}

/// Gathers the days of a part, from the newest to the oldest, into groups of at least `minimum` rows.
#[derive(Debug)]
pub(crate) struct Gatherer {
    part: String,
    minimum: u64,
    groups: Vec<Group>,
    open: Option<Group>,
}

impl Gatherer {
    pub fn new(part: String, minimum: u64) -> Self {
        Gatherer { part, minimum, groups: Vec::new(), open: None }
    }

    /// Adds the rows of a day that is not newer than those before it.
    pub fn add(&mut self, day: Day, share: Share) {
        if share.rows == 0 {
            return;
        }
        let part = self.part.clone();
        let mut group = self.open.take().unwrap_or(Group {
            part,
            first: day,
            last: day,
            share: Share::default(),
            is_enough: false,
        });
        group.first = day;
        group.share.add(share);
        if group.share.rows < self.minimum {
            self.open = Some(group);
        } else {
            self.groups.push(Group { is_enough: true, ..group });
        }
    }

    /// Returns whether the newest days need the rows of older days to be judged.
    pub fn needs_more(&self) -> bool {
        self.groups.is_empty() && self.open.is_some()
    }

    /// Returns the groups. Days that are too few for a group of their own count with the group after them.
    pub fn groups(mut self) -> Vec<Group> {
        if let Some(open) = self.open {
            match self.groups.last_mut() {
                None => self.groups.push(open),
                Some(last) => {
                    last.first = open.first;
                    last.share.add(open.share);
                }
            }
        }
        self.groups
    }
}

/// Returns the group with the largest share: the largest of those with enough rows, or else of the others.
pub(crate) fn largest(groups: &[Group]) -> Option<&Group> {
    let by_share =
        |a: &&Group, b: &&Group| a.is_enough.cmp(&b.is_enough).then(a.share.value().total_cmp(&b.share.value()));
    groups.iter().filter(|group| group.share.counted > 0).max_by(by_share)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(number: i32) -> Day {
        Day::from_epoch_days(19_000 + number)
    }

    /// Gathers days with (day, counted, rows) into groups of at least 20 rows, as (first, last, counted, rows, enough).
    fn groups(days: &[(i32, u64, u64)]) -> Vec<(Day, Day, u64, u64, bool)> {
        let mut gatherer = Gatherer::new("a".to_owned(), 20);
        for (number, counted, rows) in days {
            gatherer.add(day(*number), Share { counted: *counted, rows: *rows });
        }
        let group = |group: Group| (group.first, group.last, group.share.counted, group.share.rows, group.is_enough);
        gatherer.groups().into_iter().map(group).collect()
    }

    #[test]
    fn share_is_the_counted_rows_over_all_rows() {
        assert_eq!(Share { counted: 3, rows: 4 }.value(), 0.75);
        assert_eq!(Share { counted: 0, rows: 0 }.value(), 0.0);
    }

    #[test]
    fn day_with_enough_rows_is_a_group_of_its_own() {
        let two = groups(&[(9, 20, 20), (8, 1, 30)]);
        assert_eq!(two, [(day(9), day(9), 20, 20, true), (day(8), day(8), 1, 30, true)]);
    }

    #[test]
    fn days_with_few_rows_gather_until_there_are_enough() {
        assert_eq!(groups(&[(9, 8, 8), (8, 0, 0), (7, 1, 11), (6, 2, 1)]), [(day(6), day(9), 11, 20, true)]);
        assert_eq!(groups(&[(9, 8, 8), (8, 1, 11)]), [(day(8), day(9), 9, 19, false)]);
    }

    #[test]
    fn oldest_days_count_with_the_group_after_them() {
        assert_eq!(groups(&[(9, 0, 25), (8, 3, 3)]), [(day(8), day(9), 3, 28, true)]);
        assert_eq!(groups(&[]), []);
    }

    #[test]
    fn older_days_are_needed_only_for_the_first_group() {
        let mut gatherer = Gatherer::new("a".to_owned(), 20);
        assert!(!gatherer.needs_more(), "no rows, nothing to judge");
        gatherer.add(day(9), Share { counted: 0, rows: 19 });
        assert!(gatherer.needs_more());
        gatherer.add(day(8), Share { counted: 0, rows: 1 });
        assert!(!gatherer.needs_more());
        gatherer.add(day(7), Share { counted: 0, rows: 1 });
        assert!(!gatherer.needs_more());
    }

    #[test]
    fn largest_share_prefers_groups_with_enough_rows() {
        let group = |counted, rows, is_enough| Group {
            part: format!("{counted}/{rows}"),
            first: day(1),
            last: day(2),
            share: Share { counted, rows },
            is_enough,
        };
        let groups = [group(0, 90, true), group(5, 50, true), group(5, 40, true), group(3, 3, false)];
        assert_eq!(largest(&groups).map(|group| group.part.as_str()), Some("5/40"));
        assert_eq!(largest(&groups[3..]).map(|group| group.part.as_str()), Some("3/3"));
        assert_eq!(largest(&groups[..1]), None, "nothing is counted");
        assert_eq!(groups[2].to_string(), "5 of 40 rows of 5/40 from 2022-01-09 to 2022-01-10");
    }
}
