use rawdrive_plans::{Level, Limit, Thresholds, level, percent, reached, rearmed};

const NONE: Limit = Limit::Unlimited;
const HUNDRED: Limit = Limit::AtMost(100);

#[test]
fn a_threshold_is_reached_at_its_very_percentage() {
    let thresholds = Thresholds::default();
    let percents: Vec<u8> = thresholds.iter().map(|one| one.percent).collect();
    assert_eq!(percents, [80, 90, 100]);
    for threshold in percents {
        let at = u64::from(threshold);
        assert!(!reached(at - 1, HUNDRED, threshold), "{threshold}");
        assert!(reached(at, HUNDRED, threshold), "{threshold}");
        assert!(reached(at + 1, HUNDRED, threshold), "{threshold}");
        assert!(!reached(at, NONE, threshold));
        assert!(!reached(at, Limit::AtMost(0), threshold));
    }
    // 79.99…% of what 64 bits hold, and 80 %: no product overflows.
    let most = Limit::AtMost(u64::MAX);
    assert!(!reached(u64::MAX / 5 * 4 - 1, most, 80));
    assert!(reached(u64::MAX / 5 * 4, most, 80));
}

#[test]
fn a_threshold_fires_again_after_a_fall_of_more_than_five_points() {
    for (used, rearms) in [(80, false), (79, false), (75, false), (74, true), (0, true)] {
        assert_eq!(rearmed(used, HUNDRED, 80), rearms, "{used}");
    }
    for (used, rearms) in [(95, false), (94, true)] {
        assert_eq!(rearmed(used, HUNDRED, 100), rearms, "{used}");
    }
    assert!(rearmed(1_000, NONE, 80), "the limit is gone");
}

#[test]
fn the_level_is_the_highest_that_is_reached() {
    for (used, limit, expected, word) in [
        (0, HUNDRED, Level::Ok, "ok"),
        (79, HUNDRED, Level::Ok, "ok"),
        (80, HUNDRED, Level::Warning(80), "warning_80"),
        (89, HUNDRED, Level::Warning(80), "warning_80"),
        (90, HUNDRED, Level::Warning(90), "warning_90"),
        (99, HUNDRED, Level::Warning(90), "warning_90"),
        (100, HUNDRED, Level::Full, "full"),
        (101, HUNDRED, Level::Over, "over"),
        (0, Limit::AtMost(0), Level::Full, "full"),
        (1, Limit::AtMost(0), Level::Over, "over"),
        (u64::MAX, NONE, Level::Ok, "ok"),
    ] {
        let found = level(used, limit, &Thresholds::default());
        assert_eq!(
            (found, found.to_string().as_str()),
            (expected, word),
            "{used} of {limit}"
        );
    }
}

#[test]
fn a_percentage_is_rounded_down_to_tenths() {
    for (used, limit, expected) in [
        (0, HUNDRED, Some(0.0)),
        (1, Limit::AtMost(3), Some(33.3)),
        (2, Limit::AtMost(3), Some(66.6)),
        (3, Limit::AtMost(3), Some(100.0)),
        (999_999, Limit::AtMost(1_000_000), Some(99.9)),
        (250, HUNDRED, Some(250.0)),
        (u64::MAX, Limit::AtMost(u64::MAX), Some(100.0)),
        (7, NONE, None),
        (7, Limit::AtMost(0), None),
    ] {
        assert_eq!(percent(used, limit), expected, "{used} of {limit}");
    }
}
