use chrono::{DateTime, Utc};
use rawdrive_plans::Metric;
use rawdrive_tenancy_core::Actor;
use rawdrive_tenancy_core::SystemReason;
use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_usage::{
    LedgerEntry, LedgerHead, LedgerLine, LineKind, Month, MonthSums, Period, QuotaKey, Rollups,
    carry, extend_ledger, hour_of, is_late,
};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

#[test]
fn a_period_begins_at_its_very_instant() {
    let anchor = Some(at("2026-01-31T10:00:00Z"));
    for (now, anchor, start, end) in [
        // Calendar months without an anchor.
        (
            "2026-02-01T00:00:00Z",
            None,
            "2026-02-01T00:00:00Z",
            "2026-03-01T00:00:00Z",
        ),
        (
            "2026-01-31T23:59:59.999999Z",
            None,
            "2026-01-01T00:00:00Z",
            "2026-02-01T00:00:00Z",
        ),
        // The 31st, clamped to shorter months, and back.
        (
            "2026-03-31T10:00:00Z",
            anchor,
            "2026-03-31T10:00:00Z",
            "2026-04-30T10:00:00Z",
        ),
        (
            "2026-03-31T09:59:59.999999Z",
            anchor,
            "2026-02-28T10:00:00Z",
            "2026-03-31T10:00:00Z",
        ),
        (
            "2026-04-30T10:00:00Z",
            anchor,
            "2026-04-30T10:00:00Z",
            "2026-05-31T10:00:00Z",
        ),
        // Over the turn of the year, and in a leap year.
        (
            "2027-01-01T00:00:00Z",
            anchor,
            "2026-12-31T10:00:00Z",
            "2027-01-31T10:00:00Z",
        ),
        (
            "2028-02-29T10:00:00Z",
            anchor,
            "2028-02-29T10:00:00Z",
            "2028-03-31T10:00:00Z",
        ),
        (
            "2026-12-31T12:00:00Z",
            anchor,
            "2026-12-31T10:00:00Z",
            "2027-01-31T10:00:00Z",
        ),
    ] {
        let expected = Period {
            start: at(start),
            end: at(end),
        };
        assert_eq!(Period::containing(at(now), anchor), expected, "{now}");
    }
}

#[test]
fn the_ends_of_time_have_periods_too() {
    let first = Period::containing(DateTime::<Utc>::MIN_UTC, None);
    assert!(first.start <= DateTime::<Utc>::MIN_UTC && first.end > DateTime::<Utc>::MIN_UTC);
    let last = Period::containing(DateTime::<Utc>::MAX_UTC, None);
    assert_eq!(last.end, DateTime::<Utc>::MAX_UTC);
    assert!(last.start < last.end);
    let before = Period::containing(DateTime::<Utc>::MIN_UTC, Some(at("2026-01-31T00:00:00Z")));
    assert_eq!(before.start, DateTime::<Utc>::MIN_UTC);
}

#[test]
fn a_month_has_a_number_a_name_and_two_ends() {
    let month: Month = "2026-09".parse().unwrap();
    assert_eq!(month.index(), 2_026 * 12 + 8);
    assert_eq!(Month::from_index(month.index()), Some(month));
    assert_eq!(
        (month.start(), month.end()),
        (at("2026-09-01T00:00:00Z"), at("2026-10-01T00:00:00Z"))
    );
    assert_eq!(month.next().index(), month.index() + 1);
    assert_eq!(Month::containing(at("2026-09-30T23:59:59.999999Z")), month);
    assert_eq!(Month::containing(at("2026-10-01T00:00:00Z")), month.next());
    // From January of the year 1 to December of 9998.
    for (index, there) in [
        (11, false),
        (12, true),
        (119_987, true),
        (119_988, false),
        (u64::MAX, false),
    ] {
        assert_eq!(Month::from_index(index).is_some(), there, "{index}");
    }
    for (text, there) in [
        ("0001-01", true),
        ("0000-12", false),
        ("9998-12", true),
        ("9999-01", false),
    ] {
        assert_eq!(text.parse::<Month>().is_ok(), there, "{text}");
    }
    for wrong in [
        "2026-0a", "202a-01", "2026-00", "2026-13", "02026-01", "2026-001", "2026_01",
    ] {
        assert!(wrong.parse::<Month>().is_err(), "{wrong}");
    }
    assert_eq!("2026-01".parse::<Month>().unwrap().to_string(), "2026-01");
    assert_eq!(
        Month::containing(DateTime::<Utc>::MIN_UTC).to_string(),
        "0001-01"
    );
    assert_eq!(
        Month::containing(DateTime::<Utc>::MAX_UTC).to_string(),
        "9998-12"
    );
}

/// Lines as they are recorded at the given time, each of a kind, a quantity and a time of happening.
fn recorded(now: &str, lines: &[(LineKind, i64, &str)]) -> Vec<LedgerEntry> {
    let workspace: WorkspaceId = "ws_00000000000000000000000000000001"
        .parse()
        .expect("an id");
    let line = |(kind, quantity, occurred_at): &(LineKind, i64, &str)| {
        let key = QuotaKey::level(Metric::new("bytes"));
        let line = LedgerLine::usage(key, *quantity, String::new(), at(occurred_at));
        (
            Actor::System(SystemReason::JOB),
            LedgerLine {
                kind: *kind,
                ..line
            },
        )
    };
    let lines: Vec<_> = lines.iter().map(line).collect();
    extend_ledger(LedgerHead::default(), workspace, at(now), &lines).0
}

#[test]
fn sums_are_by_the_hour_of_happening_and_the_month_of_recording() {
    let lines = recorded(
        "2026-10-01T00:30:00Z",
        &[
            (LineKind::Usage, 5, "2026-10-01T00:10:00Z"),
            (LineKind::Usage, 7, "2026-09-30T23:59:59Z"),
            (LineKind::Correction, -2, "2026-10-01T00:00:00Z"),
            (LineKind::Carry, 3, "2026-09-30T23:00:00Z"),
        ],
    );
    let metric = Metric::new("bytes");
    let october: Month = "2026-10".parse().unwrap();
    let sums = Rollups::of(&lines);
    let hour = |text| sums.hours.get(&(metric.clone(), at(text))).copied();
    assert_eq!(hour("2026-10-01T00:00:00Z"), Some(3));
    assert_eq!(hour("2026-09-30T23:00:00Z"), Some(10));
    assert_eq!(sums.hours.len(), 2);
    let expected = MonthSums {
        lines: 4,
        events: 15,
        corrections: -2,
        late_lines: 2,
        late_quantity: 10,
    };
    assert_eq!(sums.months.get(&(october, metric)), Some(&expected));
    assert_eq!(sums.months.len(), 1);
    // Sums of parts are the sum of the whole.
    let mut merged = Rollups::of(&lines[..1]);
    merged.merge(&Rollups::of(&lines[1..2]));
    merged.merge(&Rollups::of(&lines[2..]));
    assert_eq!(merged, sums);
    let mut twice = sums.clone();
    twice.merge(&sums);
    let all = lines.iter().chain(&lines);
    assert_eq!(twice, Rollups::of(all));
}

#[test]
fn an_hour_and_lateness_have_sharp_edges() {
    assert_eq!(
        hour_of(at("2026-09-30T23:59:59.999999Z")),
        at("2026-09-30T23:00:00Z")
    );
    assert_eq!(
        hour_of(at("2026-09-30T23:00:00Z")),
        at("2026-09-30T23:00:00Z")
    );
    let october: Month = "2026-10".parse().unwrap();
    for (occurred_at, late) in [
        ("2026-09-30T23:59:59.999999Z", true),
        ("2026-10-01T00:00:00Z", false),
    ] {
        let lines = recorded("2026-10-02T00:00:00Z", &[(LineKind::Usage, 1, occurred_at)]);
        assert_eq!(is_late(&lines[0], october), late, "{occurred_at}");
    }
}

#[test]
fn what_is_carried_over_is_added_to_what_is_there() {
    let carried = carry(5, 7);
    assert_eq!((carried.moved, carried.from, carried.to), (5, 0, 12));
    assert_eq!(carry(u64::MAX, 1).to, u64::MAX);
    assert_eq!(carry(0, 0).moved, 0);
}
