//! When an event that an endpoint did not take is sent again, and when an endpoint is given up.

use chrono::TimeDelta;

/// The waits between attempts, in seconds: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 10 h.
const WAITS: [i64; 7] = [5, 300, 1_800, 7_200, 18_000, 36_000, 36_000];

/// How long an endpoint may take nothing before it is disabled.
pub(super) const FAILING_FOR: TimeDelta = TimeDelta::days(5);

/// How long to wait after an event was sent for the `attempts`-th time in vain; `None` when it is given up. `random`
/// spreads the waits by up to a tenth, so that receivers that were down are not called all at once.
#[must_use]
pub fn retry_after(attempts: u32, random: u8) -> Option<TimeDelta> {
    let at = usize::try_from(attempts.checked_sub(1)?).ok()?;
    let seconds = *WAITS.get(at)?;
    let spread = seconds * 1_000 / 10 * i64::from(random) / i64::from(u8::MAX);
    Some(TimeDelta::milliseconds(seconds * 1_000 + spread))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_sent_eight_times_within_28_hours() {
        let waits: Vec<_> = (1..=7)
            .map(|n| retry_after(n, 0).unwrap().num_seconds())
            .collect();
        assert_eq!(waits, WAITS);
        assert_eq!(retry_after(8, 0), None);
        assert_eq!(retry_after(0, 0), None);
        assert_eq!(waits.iter().sum::<i64>(), 27 * 3_600 + 2_105);
    }

    #[test]
    fn waits_are_spread_by_a_tenth() {
        assert_eq!(retry_after(1, 0), Some(TimeDelta::milliseconds(5_000)));
        assert_eq!(
            retry_after(1, u8::MAX),
            Some(TimeDelta::milliseconds(5_500))
        );
        assert_eq!(retry_after(2, u8::MAX), Some(TimeDelta::seconds(330)));
    }
}
