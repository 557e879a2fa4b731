//! Ten years of billing periods, at the last and the first instant of each.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test are test code, which clippy knows of functions marked as tests alone"
)]

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use proptest::prelude::*;
use rawdrive_usage::{Period, carry};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// The boundaries of ten years, written down by another way than the code's: every day is looked at.
fn boundaries(anchor: Option<DateTime<Utc>>) -> Vec<DateTime<Utc>> {
    let time = anchor.map_or(TimeDelta::zero(), |a| {
        a.time().signed_duration_since(chrono::NaiveTime::MIN)
    });
    let day = anchor.map_or(1, |a| a.day());
    let mut date = at("2024-01-01T00:00:00Z");
    let mut found = Vec::new();
    while date < at("2034-02-01T00:00:00Z") {
        let last_of_month = (date + TimeDelta::days(1)).month() != date.month();
        if date.day() == day || (last_of_month && date.day() < day) {
            found.push(date + time);
        }
        date += TimeDelta::days(1);
    }
    found
}

#[test]
fn every_boundary_of_ten_years_falls_where_the_calendar_says() {
    let anchors = (1..=31).map(|day| Some(at(&format!("2026-01-{day:02}T00:00:00Z"))));
    let timed = ["2023-10-31T23:59:59.999Z", "2024-02-29T12:30:00.5Z"].map(|text| Some(at(text)));
    let mut checked = 0;
    for anchor in anchors.chain(timed).chain([None]) {
        for pair in boundaries(anchor).windows(2) {
            let (start, end) = (pair[0], pair[1]);
            let period = Period { start, end };
            for inside in [
                start,
                start + TimeDelta::milliseconds(1),
                end - TimeDelta::milliseconds(1),
                end - TimeDelta::microseconds(1),
            ] {
                assert_eq!(
                    Period::containing(inside, anchor),
                    period,
                    "{anchor:?} {inside}"
                );
                checked += 1;
            }
            assert_ne!(Period::containing(end, anchor), period);
        }
    }
    assert!(checked > 16_000, "{checked}");
}

#[test]
fn the_day_before_midnight_and_midnight_are_of_two_periods() {
    for (anchor, before, after) in [
        (
            "2026-01-31T00:00:00Z",
            "2026-02-27T23:59:59.999Z",
            "2026-02-28T00:00:00.000Z",
        ),
        (
            "2026-01-31T00:00:00Z",
            "2028-02-28T23:59:59.999Z",
            "2028-02-29T00:00:00.000Z",
        ),
        (
            "2026-01-31T00:00:00Z",
            "2026-03-30T23:59:59.999Z",
            "2026-03-31T00:00:00.000Z",
        ),
        (
            "2026-01-30T00:00:00Z",
            "2026-04-29T23:59:59.999Z",
            "2026-04-30T00:00:00.000Z",
        ),
        (
            "2026-01-01T00:00:00Z",
            "2026-12-31T23:59:59.999Z",
            "2027-01-01T00:00:00.000Z",
        ),
    ] {
        let period = |text| Period::containing(at(text), Some(at(anchor)));
        assert_eq!(period(before).end, at(after));
        assert_eq!(period(after).start, at(after));
    }
}

proptest! {
    #[test]
    fn any_anchor_tiles_ten_years(anchor in 1_700_000_000_000_i64..2_000_000_000_000, months in 0_usize..120) {
        let anchor = DateTime::from_timestamp_millis(anchor).unwrap();
        let mut period = Period::containing(at("2024-01-01T00:00:00Z"), Some(anchor));
        for _ in 0..months {
            let next = Period::containing(period.end, Some(anchor));
            prop_assert_eq!(next.start, period.end);
            let days = (next.end - next.start).num_days();
            prop_assert!((28..=31).contains(&days), "{} days", days);
            let last = next.end - TimeDelta::milliseconds(1);
            prop_assert_eq!(Period::containing(last, Some(anchor)), next);
            period = next;
        }
        // The anchor's own instant begins a period.
        prop_assert_eq!(Period::containing(anchor, Some(anchor)).start, anchor);
    }

    #[test]
    fn what_is_left_is_never_more_after_a_move(
        limit in 0_u64..1_000, used in 0_u64..1_000, moves in proptest::collection::vec((0_usize..4, 0_u64..50), 0..20),
    ) {
        // Four periods that an anchor may choose between; what is used between two moves counts in the chosen.
        let mut periods = [0_u64; 4];
        periods[0] = used;
        let (mut current, mut total) = (0, used);
        for (next, more) in moves {
            if next != current {
                let left = limit.saturating_sub(periods[current]);
                let carried = carry(periods[current], periods[next]);
                prop_assert_eq!(carried.moved + periods[next], carried.to);
                (periods[current], periods[next]) = (carried.from, carried.to);
                current = next;
                prop_assert!(limit.saturating_sub(periods[current]) <= left);
            }
            periods[current] += more;
            total += more;
        }
        prop_assert_eq!(periods[current], total);
        prop_assert_eq!(periods.iter().sum::<u64>(), total);
    }
}
