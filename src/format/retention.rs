//! Which versions a ref keeps.
//!
//! The last 20, the newest of each of the last 24 hours and of the last 30 days, and every tagged or locked one: a watch
//! session can't wipe out yesterday. Unless the ref says otherwise, they are thinned only when it grows too long; where it
//! does ([`Retention`]), at each change.

use std::collections::HashSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::reference::{MAX_BYTES, Reference, Row};

/// Rows beyond this number are thinned.
pub const ROWS: usize = 120;
/// A ref beyond this size, in bytes, is thinned.
pub const BYTES: usize = 48 << 10;

/// How many versions are kept. The current one, tagged and locked ones are kept whatever this says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// The last ones.
    pub last: u32,
    /// The newest of each of the last hours.
    pub hours: u32,
    /// The newest of each of the last days.
    pub days: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { last: 20, hours: 24, days: 30 }
    }
}

/// Thins `reference` if it is due. `now` decides what an hour or a day ago means.
pub fn thin(reference: &mut Reference, now: Timestamp) {
    if reference.retention.is_none() && reference.rows.len() <= ROWS && reference.to_bytes().len() <= BYTES {
        return;
    }
    let kept = kept(&reference.rows, reference.current, reference.retention.unwrap_or_default(), now);
    reference.rows.retain(|row| kept.contains(&row.number));
    // Messages and authors of the longest kind can still overflow: then the oldest go that nobody named.
    while reference.to_bytes().len() > MAX_BYTES {
        let current = reference.current;
        let spare = |row: &Row| row.tags.is_empty() && !row.is_locked(now) && row.number != current;
        let Some(oldest) = reference.rows.iter().position(spare) else { break };
        reference.rows.remove(oldest);
    }
}

fn kept(rows: &[Row], current: u64, retention: Retention, now: Timestamp) -> HashSet<u64> {
    let mut kept: HashSet<u64> = rows.iter().rev().take(retention.last as usize).map(|row| row.number).collect();
    kept.insert(current);
    let mut hours = HashSet::new();
    let mut days = HashSet::new();
    // Newest first: the first row seen in a span is its newest.
    for row in rows.iter().rev() {
        let age = now.as_second().saturating_sub(row.created.as_second()).max(0);
        let (hour, day) = (age / 3_600, age / 86_400);
        let newest_of_hour = hour < retention.hours.into() && hours.insert(hour);
        let newest_of_day = day < retention.days.into() && days.insert(day);
        if newest_of_hour || newest_of_day || !row.tags.is_empty() || row.is_locked(now) {
            kept.insert(row.number);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ulid::Ulid;

    use super::*;
    use crate::format::Hash;

    fn row(number: u64, created: i64) -> Row {
        Row {
            id: Ulid::from_parts(number, 0),
            number,
            base: Ulid::from_parts(1, 1),
            delta: None,
            tree: Hash::of(b""),
            files: 1,
            bytes: 1,
            created: Timestamp::from_second(created).unwrap(),
            runtime: None,
            message: None,
            author: None,
            commit: None,
            origin: None,
            tags: vec![],
            locked: false,
            locked_until: None,
            other: BTreeMap::new(),
        }
    }

    fn with(rows: Vec<Row>) -> Reference {
        let mut reference = Reference::claimed(Ulid::from_parts(1, 1));
        reference.current = rows.last().map_or(0, |row| row.number);
        reference.rows = rows;
        reference
    }

    #[test]
    fn few_rows_are_left_alone() {
        let mut reference = with((1..=100).map(|number| row(number, 0)).collect());
        thin(&mut reference, Timestamp::from_second(1).unwrap());
        assert_eq!(reference.rows.len(), 100);
    }

    #[test]
    fn a_watch_session_does_not_wipe_out_yesterday() {
        let day = 86_400;
        let now = 40 * day;
        let mut rows: Vec<Row> = (0..39).map(|n| row(n + 1, i64::try_from(n).unwrap() * day + 10)).collect();
        rows[0].tags.push("first".parse().unwrap());
        rows.extend((0..500).map(|n| row(n + 40, now - 500 + i64::try_from(n).unwrap())));
        let mut reference = with(rows);
        thin(&mut reference, Timestamp::from_second(now).unwrap());
        let numbers: Vec<u64> = reference.rows.iter().map(|row| row.number).collect();
        assert!(numbers.contains(&1), "tagged: {numbers:?}");
        assert!(numbers.contains(&39) && numbers.contains(&20), "days: {numbers:?}");
        assert_eq!(numbers.last(), Some(&539));
        assert!(numbers.len() < 60, "{}", numbers.len());
        assert!(reference.to_bytes().len() < MAX_BYTES);
    }

    #[test]
    fn what_the_ref_says_counts_at_each_change() {
        let mut rows: Vec<Row> = (1..=10).map(|number| row(number, 0)).collect();
        rows[1].locked = true;
        rows[2].tags.push("kept".parse().unwrap());
        let mut reference = with(rows);
        reference.retention = Some(Retention { last: 3, hours: 0, days: 0 });
        thin(&mut reference, Timestamp::from_second(1).unwrap());
        let numbers: Vec<u64> = reference.rows.iter().map(|row| row.number).collect();
        assert_eq!(numbers, [2, 3, 8, 9, 10]);
        reference.retention = Some(Retention { last: 0, hours: 0, days: 0 });
        thin(&mut reference, Timestamp::from_second(1).unwrap());
        assert_eq!(reference.current_row().map(|row| row.number), Some(10));
    }

    #[test]
    fn the_upload_always_fits() {
        let mut rows: Vec<Row> = (1..=130).map(|number| row(number, 0)).collect();
        for row in &mut rows {
            row.author = Some("x".repeat(4_000));
        }
        let mut reference = with(rows);
        thin(&mut reference, Timestamp::from_second(1).unwrap());
        assert!(reference.to_bytes().len() <= MAX_BYTES);
        assert!(reference.current_row().is_some());
    }

    #[test]
    fn clocks_that_are_days_apart_lose_nothing_that_was_named_or_is_recent() {
        let day = 86_400;
        // Each uploader has a clock of its own.
        let clocks = [0, 3 * day, -3 * day, 400 * day, 0, -400 * day];
        for now in [0, 3 * day, -3 * day, 400 * day, -400 * day] {
            let created = |number: u64| clocks[usize::try_from(number).unwrap() % clocks.len()];
            let mut rows: Vec<Row> = (1..=200).map(|number| row(number, created(number))).collect();
            rows[6].tags.push("kept".parse().unwrap());
            rows[10].locked = true;
            let mut reference = with(rows);
            thin(&mut reference, Timestamp::from_second(now).unwrap());
            let numbers: Vec<u64> = reference.rows.iter().map(|row| row.number).collect();
            assert!(numbers.contains(&7) && numbers.contains(&11), "{now}: {numbers:?}");
            assert!(numbers.ends_with(&(181..=200).collect::<Vec<_>>()), "{now}: {numbers:?}");
            assert!(numbers.is_sorted(), "{now}: {numbers:?}");
        }
    }
}
