//! The double against two other mocks of Stripe, as a second opinion: `localstripe` (from PyPI) and
//! `stripe-stateful-mock` (from npm). Whatever they serve of what the double serves is asked of both, at one frozen
//! time, and what the product's gateway reads of the answers (`responses` and `http_client` in its `stripe_gateway`) is
//! compared: each [`Call`] is a row that says which fields agree.
//!
//! Where they do not agree, a [`Difference`] says what either answers and why the double is right by Stripe's
//! documentation. One that nobody has explained fails the test, and so does one that no longer occurs.
//!
//! `cargo xtask test` installs both, pinned in `xtask/mocks`, and says where they are.

mod asking;
mod localstripe;
mod server;
mod stateful_mock;

use self::asking::{Call, Place};
use crate::support::{Bench, KEY};

/// Where another mock answers otherwise than the double.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Difference {
    /// The name of the call.
    call: &'static str,
    /// The field as the call lists it.
    field: &'static str,
    /// What the double answers.
    double: &'static str,
    /// What the other answers.
    other: &'static str,
    /// What Stripe documents.
    why: &'static str,
}

const fn row(
    call: &'static str,
    field: &'static str,
    double: &'static str,
    other: &'static str,
    why: &'static str,
) -> Difference {
    Difference {
        call,
        field,
        double,
        other,
        why,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn localstripe_agrees_but_for_what_is_explained() {
    let other = server::Other::localstripe();
    compare(&other.url, localstripe::calls(), localstripe::DIFFERENCES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stripe_stateful_mock_agrees_but_for_what_is_explained() {
    let other = server::Other::stateful_mock();
    compare(
        &other.url,
        stateful_mock::calls(),
        stateful_mock::DIFFERENCES,
    )
    .await;
}

async fn compare(other: &str, calls: Vec<Call>, explained: &[Difference]) {
    let bench = Bench::new();
    let mut double = Place::new(&bench.double.url(), KEY);
    let mut other = Place::new(other, KEY);
    let mut wrong = Vec::new();
    let mut seen = vec![false; explained.len()];
    let mut agreed = 0;
    for call in calls {
        let (ours, theirs) = (double.ask_as_double(&call).await, other.ask(&call).await);
        if let Some(ours) = ours.as_ref().filter(|ours| call.is_in_vain(ours)) {
            wrong.push(format!("{}: the double refuses it: {ours:?}", call.name));
        }
        let (Some(ours), Some(theirs)) = (ours, theirs) else {
            continue;
        };
        for (field, ours, theirs) in call.fields(&ours, &theirs) {
            let row = explained
                .iter()
                .position(|row| row.call == call.name && row.field == field);
            match row {
                None if ours == theirs => agreed += 1,
                None => wrong.push(format!(
                    "{}: {field}: the double says {ours}, the other {theirs}",
                    call.name
                )),
                Some(row) => {
                    seen[row] = true;
                    let Difference {
                        double, other, why, ..
                    } = explained[row];
                    if (ours.as_str(), theirs.as_str()) != (double, other) {
                        wrong.push(format!(
                            "{}: {field}: explained is {double} against {other} ({why}), found {ours} against {theirs}",
                            call.name
                        ));
                    }
                }
            }
        }
    }
    let unasked = explained.iter().zip(&seen).filter(|(_, seen)| !**seen);
    wrong.extend(unasked.map(|(row, _)| format!("{}: {}: is not asked", row.call, row.field)));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        agreed > explained.len(),
        "{agreed} fields agree: too few to mean anything"
    );
}
