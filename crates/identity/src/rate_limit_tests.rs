//! What is counted of whom, up to which number, and for how long.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use rawdrive_tenancy_core::id::TypedId;

use super::*;

/// The counters of an installation.
#[derive(Default)]
struct Kept(HashMap<CounterKey, Count>);

impl Kept {
    fn counts(&self, counters: &Counters) -> Vec<Option<Count>> {
        let keys = counters.keys();
        keys.iter().map(|key| self.0.get(key).copied()).collect()
    }

    fn keep(&mut self, counters: &Counters, counts: &[Option<Count>]) {
        for (key, count) in counters.keys().into_iter().zip(counts) {
            match count {
                Some(count) => self.0.insert(key, *count),
                None => self.0.remove(&key),
            };
        }
    }

    fn attempt(&mut self, counters: &Counters, now: DateTime<Utc>) -> Result<Taken, Refused> {
        let mut counts = self.counts(counters);
        counters.decide(&counts, now)?;
        let taken = counters.take(&mut counts, now);
        self.keep(counters, &counts);
        Ok(taken)
    }

    /// An attempt that was right.
    fn succeed(&mut self, counters: &Counters, now: DateTime<Utc>) {
        let taken = self.attempt(counters, now);
        let taken = taken.unwrap_or_else(|refused| panic!("{refused:?}"));
        let mut counts = self.counts(counters);
        counters.succeed(&taken, &mut counts, now);
        self.keep(counters, &counts);
    }

    /// How many attempts are admitted of those that come at once, and how the first is refused that is not.
    fn admitted(
        &mut self,
        now: DateTime<Utc>,
        attempts: impl IntoIterator<Item = Counters>,
    ) -> (usize, Option<Refused>) {
        for (n, counters) in attempts.into_iter().enumerate() {
            if let Err(refused) = self.attempt(&counters, now) {
                return (n, Some(refused));
            }
        }
        (usize::MAX, None)
    }

    fn state(&self, counters: &Counters, name: &str, now: DateTime<Utc>) -> LimitState {
        let states = counters.states(&self.counts(counters), now);
        let found = states.into_iter().find(|state| state.name == name);
        found.unwrap_or_else(|| panic!("{name} is told"))
    }
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::seconds(seconds)
}

fn address(n: u32) -> EmailAddress {
    EmailAddress::parse(&format!("person{n}@example.com")).unwrap()
}

fn network(n: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + n).into()
}

fn id<I: TypedId>() -> I {
    I::from_uuid(Default::default())
}

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// One after the other from one place, each kind has its own number and its own time.
#[test]
fn each_kind_of_attempt_has_its_number_and_its_time() {
    type Kind = fn() -> Counters;
    let kinds: [(&str, Kind, usize, i64); 8] = [
        ("sign-up", || Counters::for_sign_up(network(1)), 50, HOUR),
        (
            "mail",
            || Counters::for_mail("reset", &address(1), network(1)),
            5,
            HOUR,
        ),
        ("code", || Counters::for_code(&address(1), None), 1, 30 * 60),
        (
            "code by a network",
            || Counters::for_code(&address(1), Some(network(1))),
            1,
            30 * 60,
        ),
        ("session", || Counters::for_session(id()), 10, 15),
        (
            "sign-in",
            || Counters::for_sign_in(&address(1), network(1)),
            10,
            15,
        ),
        (
            "device",
            || Counters::for_presented(&address(1), network(1), Presented::Device(id())),
            10,
            15,
        ),
        (
            "with a code",
            || Counters::for_presented(&address(1), network(1), Presented::Code(id())),
            10,
            15,
        ),
    ];
    for (kind, counters, number, seconds) in kinds {
        let mut kept = Kept::default();
        let all = std::iter::repeat_with(counters);
        let (admitted, refused) = kept.admitted(at(0), all);
        assert_eq!(admitted, number, "{kind}");
        let refused = refused.unwrap();
        assert_eq!(i64::from(refused.retry_after_seconds), seconds, "{kind}");
        // Refused until the very end, and not at it.
        let end = at(seconds);
        assert!(
            kept.attempt(&counters(), end - TimeDelta::milliseconds(1))
                .is_err(),
            "{kind}"
        );
        assert!(kept.attempt(&counters(), end).is_ok(), "{kind}");
    }
}

#[test]
fn what_one_network_asks_for_is_bounded_over_all_addresses() {
    let mut kept = Kept::default();
    let mails = (0..).map(|n| Counters::for_mail("reset", &address(n), network(1)));
    assert_eq!(kept.admitted(at(0), mails).0, 30);
    // By another network, and for another purpose, they are counted apart.
    for other in [
        Counters::for_mail("reset", &address(99), network(2)),
        Counters::for_mail("verify", &address(99), network(1)),
    ] {
        assert!(kept.attempt(&other, at(0)).is_ok());
    }
    let codes = (0..).map(|n| Counters::for_code(&address(n), Some(network(1))));
    assert_eq!(kept.admitted(at(0), codes).0, 20);
    assert!(
        kept.attempt(&Counters::for_code(&address(99), None), at(0))
            .is_ok()
    );
}

#[test]
fn a_network_that_fails_at_many_accounts_waits_and_an_account_that_knows_it_lets_it_fail_longer() {
    let mut kept = Kept::default();
    let guess = |n| Counters::for_sign_in(&address(n), network(1));
    // Both know the network from before.
    kept.succeed(&guess(1), at(-DAY));
    let (admitted, refused) = kept.admitted(at(0), (1_000..).map(guess));
    assert_eq!(admitted, 100);
    let refused = refused.unwrap();
    assert!(
        !refused.by_account,
        "what others' accounts were tried with is no fault of this one"
    );
    assert_eq!(refused.retry_after_seconds, 3_600);
    // The account that knows it is tried at by its own ten, and has nine hundred more of the network's.
    assert!(kept.attempt(&guess(1), at(0)).is_ok());
    let state = kept.state(&guess(1), "sign-in-network", at(0));
    assert_eq!((state.quota, state.remaining), (1_000, 899));
    let state = kept.state(&guess(2), "sign-in-network", at(0));
    assert_eq!((state.quota, state.remaining), (100, 0));
}

#[test]
fn an_account_that_many_networks_guess_at_is_open_to_those_that_it_knows() {
    let mut kept = Kept::default();
    let guess = |n| Counters::for_sign_in(&address(1), network(n));
    kept.succeed(&guess(1), at(-DAY));
    let (admitted, refused) = kept.admitted(at(0), (1_000..).map(guess));
    assert_eq!(admitted, 300);
    let refused = refused.unwrap();
    assert!(refused.by_account);
    assert_eq!(i64::from(refused.retry_after_seconds), DAY);
    assert!(kept.attempt(&guess(1), at(0)).is_ok(), "it is exempt");
    assert!(kept.attempt(&guess(2), at(0)).is_err());
    // A device and a code are counted by themselves.
    for presented in [Presented::Device(id()), Presented::Code(id())] {
        let counters = Counters::for_presented(&address(1), network(2), presented);
        assert!(kept.attempt(&counters, at(0)).is_ok(), "{presented:?}");
    }
}

#[test]
fn a_network_is_known_for_ninety_days_from_the_last_sign_in() {
    let guess = Counters::for_sign_in(&address(1), network(1));
    let mut kept = Kept::default();
    kept.succeed(&guess, at(0));
    let end = at(90 * DAY);
    for (now, quota) in [(end - TimeDelta::milliseconds(1), 1_000), (end, 100)] {
        assert_eq!(
            kept.state(&guess, "sign-in-network", now).quota,
            quota,
            "{now}"
        );
    }
    assert_eq!(
        known_until(at(0)),
        Count {
            used: 1,
            ends_at: end
        }
    );
}

#[test]
fn a_success_forgets_the_guesses_and_gives_the_rest_back() {
    let guess = Counters::for_sign_in(&address(1), network(1));
    let mut kept = Kept::default();
    for _ in 0..3 {
        assert!(kept.attempt(&guess, at(0)).is_ok());
    }
    let used = |kept: &Kept| {
        let counts = kept.counts(&guess);
        [0, 1, 2].map(|n| counts[n].map_or(0, |count| count.used))
    };
    assert_eq!(used(&kept), [3, 3, 3]);
    kept.succeed(&guess, at(1));
    // Of the guesses from here none is left; of the network's and the account's, those that were wrong are.
    assert_eq!(used(&kept), [0, 3, 3]);
    // An attempt that proved nothing takes back its own, where it was counted: an exempt counter was not.
    let mut counts = kept.counts(&guess);
    let taken = guess.take(&mut counts, at(2));
    assert_eq!(taken.0, [true, true, false]);
    guess.give_back(&taken, &mut counts);
    kept.keep(&guess, &counts);
    assert_eq!(used(&kept), [0, 3, 3]);
}

#[test]
fn who_signs_in_by_a_code_has_guessed_no_more_from_their_network() {
    let guess = Counters::for_sign_in(&address(1), network(1));
    let mut kept = Kept::default();
    while kept.attempt(&guess, at(0)).is_ok() {}
    let by_code = Counters::for_presented(&address(1), network(1), Presented::Code(id()));
    kept.succeed(&by_code, at(0));
    assert_eq!(kept.counts(&guess)[0], None);
    assert!(kept.attempt(&guess, at(0)).is_ok());
    // A device forgets its own guesses alone.
    let mut kept = Kept::default();
    while kept.attempt(&guess, at(0)).is_ok() {}
    let by_device = Counters::for_presented(&address(1), network(1), Presented::Device(id()));
    kept.succeed(&by_device, at(0));
    assert!(kept.attempt(&guess, at(0)).is_err());
}

#[test]
fn of_two_waits_the_longer_is_told() {
    let mut kept = Kept::default();
    // Five mails to an address, from its network, fill one counter; twenty-five others fill the network's, an hour later.
    let to = |n| Counters::for_mail("reset", &address(n), network(1));
    for _ in 0..5 {
        assert!(kept.attempt(&to(1), at(0)).is_ok());
    }
    let later = at(HOUR / 2);
    let (admitted, _) = kept.admitted(later, (2..).map(to));
    assert_eq!(admitted, 25);
    let refused = kept.attempt(&to(1), later).err().unwrap();
    // Both end with the window that the first of the thirty began.
    assert_eq!(refused.retry_after_seconds, 1_800);
    assert!(refused.by_account);
    let error = IdentityError::from(refused);
    let expected = matches!(
        error,
        IdentityError::TooManyAttempts {
            retry_after_seconds: 1_800,
            code_mailed: false
        }
    );
    assert!(expected, "{error:?}");
}

#[test]
fn what_others_do_is_not_told() {
    let kept = Kept::default();
    let names = |counters: &Counters| -> Vec<_> {
        let states = counters.states(&kept.counts(counters), at(0));
        states.iter().map(|state| state.name).collect()
    };
    assert_eq!(
        names(&Counters::for_sign_in(&address(1), network(1))),
        ["sign-in", "sign-in-network"]
    );
    assert_eq!(
        names(&Counters::for_code(&address(1), Some(network(1)))),
        [""; 0]
    );
    assert_eq!(
        names(&Counters::for_mail("reset", &address(1), network(1))),
        ["mails-to-address", "mails"]
    );
    assert_eq!(names(&Counters::for_sign_up(network(1))), ["sign-up"]);
    assert_eq!(names(&Counters::for_session(id())), ["current-password"]);
}

#[test]
fn one_attempt_is_given_back_and_the_last_leaves_nothing() {
    let count = |used| {
        Some(Count {
            used,
            ends_at: at(60),
        })
    };
    for (before, after) in [
        (None, None),
        (count(1), None),
        (count(2), count(1)),
        (count(9), count(8)),
    ] {
        assert_eq!(given_back(before), after);
    }
}

#[test]
fn a_wait_is_told_in_whole_seconds_rounded_up() {
    for (millis, expected) in [(0, 0), (1, 1), (999, 1), (1_000, 1), (1_001, 2)] {
        assert_eq!(
            seconds(TimeDelta::milliseconds(millis)),
            expected,
            "{millis}"
        );
    }
}

#[test]
fn keys_of_other_parts_are_other_keys() {
    assert_ne!(key(&[b"ab", b"c"]), key(&[b"a", b"bc"]));
    assert_ne!(key(&[b"abc"]), key(&[b"abc", b""]));
    assert_eq!(key(&[b"a", b"b"]), key(&[b"a", b"b"]));
}
