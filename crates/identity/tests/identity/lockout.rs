//! Nobody guesses without end, and nobody is locked out by whoever tries.

use std::net::Ipv6Addr;

use chrono::TimeDelta;
use proptest::prelude::*;
use rawdrive_identity::{
    Credentials, DeviceToken, IdentityError, LimitState, ProofPurpose, SignInCode,
};
use secrecy::ExposeSecret;

use crate::memory::{PASSWORD, World, pepper};
use crate::sessions::credentials_from;

const ANA: &str = "ana@example.com";
/// Where Ana signed up.
const HOME: &str = "192.0.2.1";

fn stranger(n: u32) -> String {
    Ipv6Addr::from((0x2001_0db8_u128 << 96) | (u128::from(n) << 64)).to_string()
}

/// What became of an attempt.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    In,
    Wrong,
    Wait { seconds: u32, code_mailed: bool },
}

impl World {
    async fn attempt(&self, credentials: &Credentials) -> Outcome {
        match self.prove(credentials).await {
            Ok(_) => Outcome::In,
            Err(IdentityError::WrongCredentials) => Outcome::Wrong,
            Err(IdentityError::TooManyAttempts {
                retry_after_seconds,
                code_mailed,
            }) => Outcome::Wait {
                seconds: retry_after_seconds,
                code_mailed,
            },
            Err(other) => panic!("{other:?}"),
        }
    }

    async fn guess(&self, client: &str, address: &str) -> Outcome {
        self.attempt(&credentials_from(client, address, "a guess"))
            .await
    }

    async fn try_right(&self, client: &str) -> Outcome {
        self.attempt(&credentials_from(client, ANA, PASSWORD)).await
    }

    /// The code in the newest mail to Ana.
    async fn mailed_code(&self) -> Option<String> {
        let issued = self.answer().await;
        let code = issued
            .iter()
            .rfind(|proof| proof.purpose == ProofPurpose::SignInCode)?;
        assert_eq!(code.to.as_str(), ANA);
        Some(code.token.expose_secret().to_owned())
    }

    fn with_code(&self, client: &str, password: &str, code: &str) -> Credentials {
        Credentials {
            code: Some(SignInCode::parse(code).expect("a code")),
            ..credentials_from(client, ANA, password)
        }
    }

    fn told(&self, name: &str) -> LimitState {
        let told = self.store.told_limits();
        told.into_iter()
            .find(|limit| limit.name == name)
            .expect("the limit is told")
    }
}

#[tokio::test]
async fn guesses_from_one_network_grow_slower_whether_the_address_is_known_or_not() {
    let world = World::new().await;
    world.sign_up(ANA).await;
    for address in [ANA, "nobody@example.com"] {
        let guess = async |client: &str| world.guess(client, address).await;
        for left in (0..10).rev() {
            assert_eq!(guess("198.51.100.1").await, Outcome::Wrong);
            let told = world.told("sign-in");
            assert_eq!((told.quota, told.window_seconds), (10, 86_400));
            assert_eq!(told.remaining, left);
        }
        for seconds in [15, 30, 60, 120, 240, 480, 900, 900] {
            for client in ["198.51.100.1", "::ffff:198.51.100.1"] {
                let wait = Outcome::Wait {
                    seconds,
                    code_mailed: true,
                };
                assert_eq!(guess(client).await, wait, "one client by either name");
            }
            assert_eq!(world.told("sign-in").reset_seconds, u64::from(seconds));
            world.clock.advance(TimeDelta::seconds(seconds.into()));
            assert_eq!(guess("198.51.100.1").await, Outcome::Wrong);
        }
        // From elsewhere nothing of that is felt.
        assert_eq!(guess("198.51.100.2").await, Outcome::Wrong);
        world.clock.advance(TimeDelta::hours(24));
        assert_eq!(guess("198.51.100.1").await, Outcome::Wrong);
        assert_eq!(world.told("sign-in").remaining, 9, "forgotten after a day");
    }
}

#[tokio::test]
async fn a_network_that_tries_many_accounts_is_refused_and_nobody_else() {
    let world = World::new().await;
    world.sign_up(ANA).await;
    let spray = async |n: u32| {
        world
            .guess("198.51.100.1", &format!("n{n}@example.com"))
            .await
    };
    for n in 0..100 {
        assert_eq!(spray(n).await, Outcome::Wrong);
    }
    assert_eq!(world.told("sign-in-network").remaining, 0);
    for n in 100..500 {
        assert!(
            matches!(spray(n).await, Outcome::Wait { seconds: 3_600, .. }),
            "{n}"
        );
    }
    let rows = world.store.identity().counters.len();
    assert!(rows < 300, "who is refused leaves no counters: {rows}");
    assert!(
        world.store.identity().proof_requests.len() <= 20,
        "nor mails"
    );
    assert_eq!(world.try_right(HOME).await, Outcome::In);
    assert_eq!(world.try_right("203.0.113.9").await, Outcome::In);
}

/// A proxy that is not configured: everybody has its address, whoever guesses too.
#[tokio::test]
async fn behind_one_address_for_everybody_a_device_and_a_code_get_in() {
    let world = World::new().await;
    let ana = world.sign_up(ANA).await;
    let device = DeviceToken::issue(&world.env, &pepper(), ana.person.id);
    // Strangers spray and guess; who is known there is not kept out by the spraying.
    for n in 0..150 {
        world.guess(HOME, &format!("n{n}@example.com")).await;
    }
    assert_eq!(world.try_right(HOME).await, Outcome::In);
    for _ in 0..10 {
        assert_eq!(world.guess(HOME, ANA).await, Outcome::Wrong);
    }
    let wait = world.try_right(HOME).await;
    assert!(
        matches!(
            wait,
            Outcome::Wait {
                code_mailed: true,
                ..
            }
        ),
        "even with the right password: {wait:?}"
    );
    let by_device = |device: DeviceToken, password: &str| Credentials {
        device: Some(device),
        ..credentials_from(HOME, ANA, password)
    };
    assert_eq!(
        world.attempt(&by_device(device.clone(), PASSWORD)).await,
        Outcome::In
    );

    let code = world.mailed_code().await.expect("a code was mailed");
    assert_eq!(
        world.guess(HOME, ANA).await,
        Outcome::Wait {
            seconds: 15,
            code_mailed: true
        }
    );
    assert_eq!(
        world.mailed_code().await,
        None,
        "the one that was mailed still holds"
    );
    let typed = code.to_lowercase().replace('-', " ").replace('0', "o");
    let wrong = world
        .attempt(&world.with_code(HOME, "a guess", &typed))
        .await;
    assert_eq!(wrong, Outcome::Wrong, "a code is no password");
    let other = if code.starts_with('7') { "8" } else { "7" };
    let forged = format!("{other}{}", &code[1..]);
    let refused = world
        .attempt(&world.with_code(HOME, PASSWORD, &forged))
        .await;
    assert!(matches!(refused, Outcome::Wait { .. }), "{refused:?}");
    assert_eq!(
        world
            .attempt(&world.with_code(HOME, PASSWORD, &typed))
            .await,
        Outcome::In
    );
    assert_eq!(
        world.try_right(HOME).await,
        Outcome::In,
        "and what was counted is forgotten"
    );

    // Codes end with their time; a device's own guesses are counted by themselves; a foreign device is none.
    for _ in 0..10 {
        assert_eq!(world.guess(HOME, ANA).await, Outcome::Wrong);
    }
    world.clock.advance(TimeDelta::minutes(60));
    for _ in 0..2 {
        world.guess(HOME, ANA).await;
    }
    let late = world.attempt(&world.with_code(HOME, PASSWORD, &code)).await;
    assert!(matches!(late, Outcome::Wait { .. }), "{late:?}");
    let eve = world.sign_up("eve@example.com").await;
    let eves = DeviceToken::issue(&world.env, &pepper(), eve.person.id);
    let forged = eves.text().expose_secret().replacen(
        &eve.person.id.to_string()[4..],
        &ana.person.id.to_string()[4..],
        1,
    );
    for foreign in [eves, DeviceToken::parse(&forged).unwrap()] {
        let refused = world.attempt(&by_device(foreign, PASSWORD)).await;
        assert!(matches!(refused, Outcome::Wait { .. }), "{refused:?}");
    }
    for _ in 0..10 {
        assert_eq!(
            world.attempt(&by_device(device.clone(), "a guess")).await,
            Outcome::Wrong
        );
    }
    let shut = world.attempt(&by_device(device.clone(), PASSWORD)).await;
    assert!(
        matches!(shut, Outcome::Wait { seconds: 15, .. }),
        "{shut:?}"
    );
    world.clock.advance(TimeDelta::days(180));
    for _ in 0..10 {
        world.guess(HOME, ANA).await;
    }
    let old = world.attempt(&by_device(device, PASSWORD)).await;
    assert!(
        matches!(old, Outcome::Wait { .. }),
        "a device is known for half a year: {old:?}"
    );
}

#[tokio::test]
async fn all_strangers_together_have_three_hundred_guesses_a_day_and_the_owner_gets_in() {
    let world = World::new().await;
    world.sign_up(ANA).await;
    let mut guesses = 0;
    for n in 0..1_000 {
        if world.guess(&stranger(n), ANA).await == Outcome::Wrong {
            guesses += 1;
        }
    }
    assert_eq!(guesses, 300);
    assert_eq!(
        world.try_right(HOME).await,
        Outcome::In,
        "from a network that the account knows"
    );
    let elsewhere = "203.0.113.9";
    let wait = world.try_right(elsewhere).await;
    assert!(
        matches!(
            wait,
            Outcome::Wait {
                code_mailed: true,
                ..
            }
        ),
        "{wait:?}"
    );
    let code = world.mailed_code().await.expect("a code was mailed");
    assert_eq!(
        world
            .attempt(&world.with_code(elsewhere, PASSWORD, &code))
            .await,
        Outcome::In
    );
    for n in 1_000..1_100 {
        assert_ne!(
            world.guess(&stranger(n), ANA).await,
            Outcome::Wrong,
            "a success gives no guesses back"
        );
    }
    assert_eq!(
        world.try_right(elsewhere).await,
        Outcome::In,
        "known from now on"
    );
    world.clock.advance(TimeDelta::hours(24));
    assert_eq!(world.guess(&stranger(0), ANA).await, Outcome::Wrong);
}

#[derive(Debug, Clone)]
enum Step {
    /// Strangers in this many networks each guess so often at Ana's account.
    Guess {
        from: u32,
        networks: u32,
        times: u32,
    },
    /// One of them tries other accounts.
    Spray {
        from: u32,
        accounts: u32,
    },
    /// One of them has mails sent to her.
    Reset {
        from: u8,
    },
    /// Ana mistypes, less often than is noticed.
    Mistype(u32),
    Wait(i64),
    SignIn,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u32..400, 1_u32..60, 1_u32..20)
            .prop_map(|(from, networks, times)| Step::Guess { from, networks, times }),
        1 => (0_u32..400, 1_u32..150).prop_map(|(from, accounts)| Step::Spray { from, accounts }),
        1 => any::<u8>().prop_map(|from| Step::Reset { from }),
        1 => (1_u32..8).prop_map(Step::Mistype),
        2 => (1_i64..20_000).prop_map(Step::Wait),
        3 => Just(Step::SignIn),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever strangers do from other addresses and in whatever order: the owner's password is admitted from where
    /// she is known, and strangers have guessed no more often than they may.
    #[test]
    fn no_stranger_locks_the_owner_out(steps in proptest::collection::vec(step(), 1..14)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            world.sign_up(ANA).await;
            let mut guesses = Vec::new();
            for step in steps {
                match step {
                    Step::Guess { from, networks, times } => {
                        for n in from..from + networks {
                            for _ in 0..times {
                                if world.guess(&stranger(n), ANA).await == Outcome::Wrong {
                                    guesses.push(world.env.now());
                                }
                            }
                        }
                    }
                    Step::Spray { from, accounts } => {
                        for n in 0..accounts {
                            world.guess(&stranger(from), &format!("n{n}@example.com")).await;
                        }
                    }
                    Step::Reset { from } => {
                        let _ = world.ask(ProofPurpose::PasswordReset, ANA, from).await;
                    }
                    Step::Mistype(times) => {
                        for _ in 0..times {
                            prop_assert_eq!(world.guess(HOME, ANA).await, Outcome::Wrong);
                        }
                        prop_assert_eq!(world.try_right(HOME).await, Outcome::In);
                    }
                    Step::Wait(seconds) => world.clock.advance(TimeDelta::seconds(seconds)),
                    Step::SignIn => prop_assert_eq!(world.try_right(HOME).await, Outcome::In),
                }
            }
            prop_assert_eq!(world.try_right(HOME).await, Outcome::In);
            for (n, begin) in guesses.iter().enumerate() {
                let day = guesses[n..].iter().filter(|at| **at < *begin + TimeDelta::hours(24));
                // The end of a window may lie within.
                prop_assert!(day.count() <= 600);
            }
            Ok::<(), TestCaseError>(())
        })?;
    }
}
