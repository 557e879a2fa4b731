use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_tenancy_core::Env;
use rawdrive_tenancy_core::env::{
    Clock, Entropy, FileClock, FileClockError, ManualClock, SystemClock, SystemEntropy,
};
use rawdrive_tenancy_core::id::{SessionId, TypedId};

fn start() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(1_790_000_000)
}

/// Fills with one byte.
struct Same(u8);

impl Entropy for Same {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(self.0);
    }
}

#[test]
fn an_environment_answers_by_its_own_sources() {
    let (clock, leases) = (
        Arc::new(ManualClock::at(start())),
        Arc::new(ManualClock::at(start())),
    );
    let env = Env::new(clock.clone(), leases.clone(), Arc::new(Same(0xab)));
    clock.advance(TimeDelta::nanoseconds(2_999));
    leases.advance(TimeDelta::nanoseconds(5_999));
    // In whole microseconds, the finest that both databases keep.
    assert_eq!(env.now(), start() + TimeDelta::microseconds(2));
    assert_eq!(env.lease_now(), start() + TimeDelta::microseconds(5));
    clock.advance(TimeDelta::seconds(-1));
    assert!(env.now() < start(), "a clock may go back");
    assert_eq!(env.bytes::<3>(), [0xab; 3]);
    assert!(format!("{env:?}").starts_with("Env"));
}

#[test]
fn an_id_is_the_time_and_then_chance() {
    let clock = Arc::new(ManualClock::at(start()));
    let env = Env::new(clock.clone(), clock, Arc::new(Same(0xff)));
    let id: SessionId = env.id();
    // RFC 9562, section 5.7: 48 bits of milliseconds, version, 12 bits, variant, 62 bits.
    let millis = format!("{:012x}", start().timestamp_millis());
    assert_eq!(
        id.uuid().simple().to_string(),
        format!("{millis}7fffbfffffffffffffff")
    );
    assert_eq!(env.uuid(), id.uuid());
}

#[test]
fn the_machine_has_time_and_chance() {
    let env = Env::system();
    let year_2020 = DateTime::UNIX_EPOCH + TimeDelta::days(365 * 50);
    assert!(env.now() > year_2020 && env.lease_now() > year_2020);
    assert!(SystemClock.now() >= env.now() - TimeDelta::hours(1));
    assert_ne!(env.bytes::<16>(), env.bytes::<16>());
    let mut bytes = [0; 16];
    SystemEntropy.fill(&mut bytes);
    assert_ne!(bytes, [0; 16]);
}

#[test]
fn under_a_clock_of_decisions_leases_run_by_the_machines() {
    let env = Env::with_clock(Arc::new(ManualClock::at(start())));
    assert_eq!(env.now(), start());
    let far = (env.lease_now() - Env::system().now()).abs();
    assert!(far < TimeDelta::minutes(1), "{far}");
}

#[test]
fn a_file_says_what_time_it_is_as_long_as_it_says_a_time() {
    let path = std::env::temp_dir().join(format!("rawdrive-clock-{}", Env::system().uuid()));
    let absent = FileClock::open(path.clone()).unwrap_err();
    assert!(matches!(absent, FileClockError::Unreadable(_)), "{absent}");
    std::fs::write(&path, "noon").unwrap();
    let no_time = FileClock::open(path.clone()).unwrap_err();
    assert!(matches!(no_time, FileClockError::NoTime(_)), "{no_time}");
    std::fs::write(&path, "2026-01-31T13:00:00+01:00\n").unwrap();
    let clock = FileClock::open(path.clone()).unwrap();
    let noon: DateTime<Utc> = "2026-01-31T12:00:00Z".parse().unwrap();
    assert_eq!(clock.now(), noon);
    std::fs::write(&path, "2026-01-31T12:00:01Z").unwrap();
    let later = noon + TimeDelta::seconds(1);
    assert_eq!(clock.now(), later);
    // Half written, or gone: the last good time stands.
    std::fs::write(&path, "2026-0").unwrap();
    assert_eq!(clock.now(), later);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(clock.now(), later);
}
