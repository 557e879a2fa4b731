//! Counting attempts: at a password before it is verified, so that parallel guesses count too, and at having mail sent
//! to somebody.
//!
//! Whoever tries at somebody else's account spends what is theirs: attempts are counted by where they come from. What
//! is counted of all together (guesses at one account, failures of one network) gives way to a network from which the
//! account was signed in to before, to a known device, and to a mailed code.

use std::net::IpAddr;

use aws_lc_rs::digest::{Context, SHA256};
use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_tenancy_core::id::{DeviceId, SessionId, TypedId as _, UserId};
use rawdrive_tenancy_core::{Env, StoreError};

use crate::email::EmailAddress;
use crate::error::IdentityError;
use crate::limit::{Count, LimitState, Rule, given_back, live, seconds};
use crate::network::Network;
use crate::password::{ClaimedPassword, PasswordHasher};
use crate::ports::{CounterKey, PasswordAttempts, User};

/// Wrong passwords from one place: ten at once, then one after 15 s, 30 s, …, every 15 minutes; forgotten a day after
/// the last.
const GUESSES: Rule = Rule::Backoff {
    quota: 10,
    first: TimeDelta::seconds(15),
    longest: TimeDelta::minutes(15),
    window: TimeDelta::hours(24),
};
/// Wrong passwords at one account from places that it does not know.
const GUESSES_AT_ACCOUNT: Rule = Rule::Window {
    quota: 300,
    window: TimeDelta::hours(24),
};
/// Wrong passwords by one network, at whatever accounts.
const FAILURES_OF_NETWORK: u32 = 100;
/// The same, where the account knows the network: a proxy that is not configured makes one network of everybody.
const FAILURES_OF_KNOWN_NETWORK: u32 = 1_000;
const FAILURES_WINDOW: TimeDelta = TimeDelta::hours(1);
/// An office's newcomers, and more.
const SIGN_UPS: Rule = Rule::Window {
    quota: 50,
    window: TimeDelta::hours(1),
};
const MAILS_TO_ADDRESS: Rule = Rule::Window {
    quota: 5,
    window: TimeDelta::hours(1),
};
const MAILS_BY_NETWORK: Rule = Rule::Window {
    quota: 30,
    window: TimeDelta::hours(1),
};
/// One code at a time: the last one still holds when the next may be mailed.
const CODES_TO_ACCOUNT: Rule = Rule::Window {
    quota: 1,
    window: TimeDelta::minutes(30),
};
const CODES_BY_NETWORK: Rule = Rule::Window {
    quota: 20,
    window: TimeDelta::hours(1),
};
/// How long an account knows a network from which it was signed in to.
const KNOWN_FOR: TimeDelta = TimeDelta::days(90);

/// By what somebody who signs in is known, besides the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presented {
    Nothing,
    /// A device that this user signed in with before.
    Device(DeviceId),
    /// The code that was mailed to this user.
    Code(UserId),
}

/// How a limit gives way to a network that the account knows.
#[derive(Debug, Clone, Copy)]
enum Known {
    Same,
    Quota(u32),
    Exempt,
}

struct Counter {
    /// Its name, where it is told.
    name: Option<&'static str>,
    key: CounterKey,
    rule: Rule,
    known: Known,
    /// A success forgets what was counted, rather than giving one attempt back.
    forgotten: bool,
}

impl Counter {
    fn new(name: &'static str, parts: &[&[u8]], rule: Rule) -> Self {
        Self {
            name: Some(name),
            key: key(parts),
            rule,
            known: Known::Same,
            forgotten: false,
        }
    }

    fn untold(mut self) -> Self {
        self.name = None;
        self
    }

    fn forgotten(mut self) -> Self {
        self.forgotten = true;
        self
    }

    fn known(mut self, known: Known) -> Self {
        self.known = known;
        self
    }

    /// The rule in force; `None` where nothing is counted.
    fn rule(&self, known: bool) -> Option<Rule> {
        match (self.known, self.rule) {
            (Known::Exempt, _) if known => None,
            (Known::Quota(quota), Rule::Window { window, .. }) if known => {
                Some(Rule::Window { quota, window })
            }
            _ => Some(self.rule),
        }
    }
}

/// What an attempt counts towards.
pub(crate) struct Counters {
    counters: Vec<Counter>,
    /// Whether the account knows the network.
    known: Option<CounterKey>,
    /// What a success forgets besides.
    forgets: Option<CounterKey>,
}

/// Refused, and counted towards nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Until the next attempt may be made; at least 1.
    pub(crate) retry_after_seconds: u32,
    /// Whether attempts of this kind at this very account are why.
    pub(crate) by_account: bool,
}

impl From<Refused> for IdentityError {
    fn from(refused: Refused) -> Self {
        Self::TooManyAttempts {
            retry_after_seconds: refused.retry_after_seconds,
            code_mailed: false,
        }
    }
}

/// Which counters an attempt was counted by.
pub(crate) struct Taken(Vec<bool>);

impl Counters {
    fn of(counters: Vec<Counter>) -> Self {
        Self {
            counters,
            known: None,
            forgets: None,
        }
    }

    /// A password from a client that is known by nothing else.
    pub(crate) fn for_sign_in(email: &EmailAddress, client: IpAddr) -> Self {
        Self::for_presented(email, client, Presented::Nothing)
    }

    /// A password, and perhaps something more.
    pub(crate) fn for_presented(
        email: &EmailAddress,
        client: IpAddr,
        presented: Presented,
    ) -> Self {
        let (folded, network) = (email.folded(), Network::of(client));
        let (account, network) = (folded.as_bytes(), network.octets().as_slice());
        let guesses = |parts: &[&[u8]]| Counter::new("sign-in", parts, GUESSES).forgotten();
        let from_network: [&[u8]; 3] = [b"sign-in from", account, network];
        let counters = match presented {
            Presented::Device(device) => {
                vec![guesses(&[b"sign-in by device", device.uuid().as_bytes()])]
            }
            Presented::Code(user) => {
                vec![guesses(&[b"sign-in by code", user.uuid().as_bytes()])]
            }
            Presented::Nothing => vec![
                guesses(&from_network),
                Counter::new(
                    "sign-in-network",
                    &[b"sign-in network", network],
                    Rule::Window {
                        quota: FAILURES_OF_NETWORK,
                        window: FAILURES_WINDOW,
                    },
                )
                .known(Known::Quota(FAILURES_OF_KNOWN_NETWORK)),
                // Untold: it speaks of what others do.
                Counter::new("", &[b"sign-in at", account], GUESSES_AT_ACCOUNT)
                    .untold()
                    .known(Known::Exempt),
            ],
        };
        Self {
            counters,
            known: Some(known_key(account, network)),
            forgets: matches!(presented, Presented::Code(_)).then(|| key(&from_network)),
        }
    }

    /// Having a mail sent: few to one address and not many in all, of those that one network asks for. What others
    /// ask for does not count: see [`answer_request`](crate::answer_request) for how many are sent.
    pub(crate) fn for_mail(purpose: &'static str, email: &EmailAddress, client: IpAddr) -> Self {
        let (folded, network) = (email.folded(), Network::of(client));
        let (account, network) = (folded.as_bytes(), network.octets().as_slice());
        let what = purpose.as_bytes();
        Self::of(vec![
            Counter::new(
                "mails-to-address",
                &[b"mail to", what, account, network],
                MAILS_TO_ADDRESS,
            ),
            Counter::new("mails", &[b"mail by", what, network], MAILS_BY_NETWORK),
        ])
    }

    /// Having a sign-in code mailed; by the network too where the account itself was not tried at.
    pub(crate) fn for_code(email: &EmailAddress, by: Option<IpAddr>) -> Self {
        let folded = email.folded();
        let to = Counter::new("", &[b"code to", folded.as_bytes()], CODES_TO_ACCOUNT).untold();
        let by = by.map(|client| {
            let network = Network::of(client);
            Counter::new("", &[b"code by", network.octets()], CODES_BY_NETWORK).untold()
        });
        Self::of(std::iter::once(to).chain(by).collect())
    }

    /// Signing up.
    pub(crate) fn for_sign_up(client: IpAddr) -> Self {
        let network = Network::of(client);
        Self::of(vec![Counter::new(
            "sign-up",
            &[b"sign-up", network.octets()],
            SIGN_UPS,
        )])
    }

    /// Proving the present password within a session: whoever stole one session is not counted by another.
    pub(crate) fn for_session(session: SessionId) -> Self {
        let id = session.uuid();
        let parts: [&[u8]; 2] = [b"current-password", id.as_bytes()];
        Self::of(vec![
            Counter::new("current-password", &parts, GUESSES).forgotten(),
        ])
    }

    fn keys(&self) -> Vec<CounterKey> {
        let counters = self.counters.iter().map(|counter| counter.key);
        counters.chain(self.known).chain(self.forgets).collect()
    }

    fn is_known(&self, counts: &[Option<Count>], now: DateTime<Utc>) -> bool {
        self.known.is_some() && live(counts[self.counters.len()], now).is_some()
    }

    /// Pure: whether one more attempt may be made.
    fn decide(&self, counts: &[Option<Count>], now: DateTime<Utc>) -> Result<(), Refused> {
        let known = self.is_known(counts, now);
        let mut refused: Option<Refused> = None;
        for (n, (counter, count)) in self.counters.iter().zip(counts).enumerate() {
            let Some(wait) = counter.rule(known).and_then(|rule| rule.wait(*count, now)) else {
                continue;
            };
            let wait = u32::try_from(seconds(wait)).unwrap_or(u32::MAX).max(1);
            let before = refused.unwrap_or(Refused {
                retry_after_seconds: 1,
                by_account: false,
            });
            refused = Some(Refused {
                retry_after_seconds: wait.max(before.retry_after_seconds),
                // The network's own failures are the second of the counters of a sign-in.
                by_account: before.by_account || n != 1,
            });
        }
        refused.map_or(Ok(()), Err)
    }

    fn take(&self, counts: &mut [Option<Count>], now: DateTime<Utc>) -> Taken {
        let known = self.is_known(counts, now);
        let counted = self.counters.iter().zip(counts).map(|(counter, count)| {
            let rule = counter.rule(known);
            if let Some(rule) = rule {
                *count = Some(rule.taken(*count, now));
            }
            rule.is_some()
        });
        Taken(counted.collect())
    }

    fn give_back(&self, Taken(taken): &Taken, counts: &mut [Option<Count>]) {
        for (count, _) in counts.iter_mut().zip(taken).filter(|(_, taken)| **taken) {
            *count = given_back(*count);
        }
    }

    fn succeed(&self, taken: &Taken, counts: &mut [Option<Count>], now: DateTime<Utc>) {
        self.give_back(taken, counts);
        for (counter, count) in self.counters.iter().zip(counts.iter_mut()) {
            if counter.forgotten {
                *count = None;
            }
        }
        let mut rest = counts[self.counters.len()..].iter_mut();
        if let (Some(_), Some(known)) = (self.known, rest.next()) {
            *known = Some(known_until(now));
        }
        rest.for_each(|forgotten| *forgotten = None);
    }

    fn states(&self, counts: &[Option<Count>], now: DateTime<Utc>) -> Vec<LimitState> {
        let known = self.is_known(counts, now);
        let told = self
            .counters
            .iter()
            .zip(counts)
            .filter_map(|(counter, count)| {
                Some(counter.rule(known)?.state(counter.name?, *count, now))
            });
        told.collect()
    }

    /// Forgets what was counted by the same client, and lets the account know its network.
    pub(crate) async fn welcome(
        &self,
        attempts: &impl PasswordAttempts,
        env: &Env,
    ) -> Result<(), StoreError> {
        let now = env.now();
        let nothing = Taken(Vec::new());
        attempts
            .change(&self.keys(), |counts| self.succeed(&nothing, counts, now))
            .await
    }
}

/// Whether the claim is the user's password. Nobody's password (`None`) costs and counts the same.
pub(crate) async fn prove(
    attempts: &impl PasswordAttempts,
    hasher: &PasswordHasher,
    env: &Env,
    counters: &Counters,
    user: Option<&User>,
    claim: (&ClaimedPassword, IpAddr),
) -> Result<bool, IdentityError> {
    let taken = take(attempts, env, counters).await??;
    verify(attempts, hasher, env, (counters, taken), user, claim).await
}

/// The second half of [`prove`], for an attempt that was counted.
pub(crate) async fn verify(
    attempts: &impl PasswordAttempts,
    hasher: &PasswordHasher,
    env: &Env,
    (counters, taken): (&Counters, Taken),
    user: Option<&User>,
    (claimed, client): (&ClaimedPassword, IpAddr),
) -> Result<bool, IdentityError> {
    let verified = match user {
        Some(user) => {
            hasher
                .verify(user.id, &user.password_hash, claimed, client)
                .await
        }
        None => hasher.verify_nothing(claimed, client).await.map(|()| false),
    };
    if !matches!(verified, Ok(false)) {
        let now = env.now();
        let states = attempts
            .change(&counters.keys(), |counts| {
                match verified {
                    Ok(_) => counters.succeed(&taken, counts, now),
                    // Nothing was proved, by no fault of theirs.
                    Err(_) => counters.give_back(&taken, counts),
                }
                counters.states(counts, now)
            })
            .await?;
        attempts.tell(&states);
    }
    Ok(verified?)
}

/// Counts one attempt towards each counter; when one is full, towards none.
pub(crate) async fn take(
    attempts: &impl PasswordAttempts,
    env: &Env,
    counters: &Counters,
) -> Result<Result<Taken, Refused>, StoreError> {
    let (keys, now) = (counters.keys(), env.now());
    // Looked at first: a flood of attempts that are refused writes nothing and waits for no lock.
    let counts = attempts.counts(&keys).await?;
    let (decided, states) = match counters.decide(&counts, now) {
        Err(refused) => (Err(refused), counters.states(&counts, now)),
        Ok(()) => {
            let decide = |counts: &mut [Option<Count>]| {
                let decided = counters.decide(counts, now);
                let taken = decided.map(|()| counters.take(counts, now));
                (taken, counters.states(counts, now))
            };
            attempts.change(&keys, decide).await?
        }
    };
    attempts.tell(&states);
    Ok(decided)
}

/// That the account knows the network until then.
fn known_until(now: DateTime<Utc>) -> Count {
    Count {
        used: 1,
        ends_at: now + KNOWN_FOR,
    }
}

fn known_key(account: &[u8], network: &[u8]) -> CounterKey {
    key(&[b"known", account, network])
}

pub(crate) fn key(parts: &[&[u8]]) -> CounterKey {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut key = [0; 32];
    key.copy_from_slice(context.finish().as_ref());
    key
}

#[cfg(test)]
#[path = "rate_limit_tests.rs"]
mod tests;
