//! Faults on demand: what of the network and of Stripe can go wrong, at the next calls or until told otherwise.

use std::collections::VecDeque;
use std::time::Duration;

/// What goes wrong with a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The work is done and kept, then the connection is closed without an answer.
    DropAnswer,
    /// 429 with a `Retry-After` in seconds; nothing is done, nothing is kept under the idempotency key.
    RateLimit {
        /// Seconds to wait.
        retry_after: u64,
    },
    /// 500, kept under the idempotency key as Stripe keeps it.
    ServerError {
        /// Whether the work was done all the same.
        committed: bool,
    },
    /// 503 from the edge; nothing is done, nothing is kept.
    Unavailable,
    /// The work begins only after a while. The idempotency key is in use meanwhile.
    Delay(Duration),
    /// Nothing is done and nothing is answered until the faults are cleared; then the connection is closed.
    Hang,
    /// The work is done and kept, then nothing is answered until the faults are cleared.
    HangAnswer,
}

/// Which calls a fault is for. Empty matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matching {
    method: Option<String>,
    path: Option<String>,
}

impl Matching {
    /// Every call to the API.
    pub fn any() -> Self {
        Self::default()
    }

    /// Calls with a method and a path; a `*` in the path stands for any text: `/v1/subscriptions/*`.
    pub fn new(method: impl Into<String>, path: impl Into<String>) -> Self {
        Self {
            method: Some(method.into()),
            path: Some(path.into()),
        }
    }

    /// Calls with a method, whatever the path.
    pub fn method(method: impl Into<String>) -> Self {
        Self {
            method: Some(method.into()),
            path: None,
        }
    }

    pub(crate) fn from_parts(method: Option<String>, path: Option<String>) -> Self {
        Self { method, path }
    }

    pub(crate) fn matches(&self, method: &str, path: &str) -> bool {
        self.method
            .as_deref()
            .is_none_or(|own| own.eq_ignore_ascii_case(method))
            && self.path.as_deref().is_none_or(|own| glob(own, path))
    }
}

/// Whether a text fits a pattern in which `*` stands for any text.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, rest)) => text.strip_prefix(head).is_some_and(|tail| {
            let ends = tail.char_indices().map(|(at, _)| at);
            ends.chain([tail.len()]).any(|at| glob(rest, &tail[at..]))
        }),
    }
}

#[derive(Debug, Clone)]
struct Rule {
    left: usize,
    matching: Matching,
    fault: Fault,
}

/// The faults that are still to come.
#[derive(Debug, Default)]
pub(crate) struct FaultBook {
    rules: Vec<Rule>,
    /// Every connection is closed unanswered.
    pub(crate) down: bool,
    pub(crate) webhooks: WebhookFaults,
}

impl FaultBook {
    pub(crate) fn plan(&mut self, times: usize, matching: Matching, fault: Fault) {
        self.rules.push(Rule {
            left: times,
            matching,
            fault,
        });
    }

    /// The fault for a call, which is used up by it. Rules apply in the order they were made.
    pub(crate) fn take(&mut self, method: &str, path: &str) -> Option<Fault> {
        let at = self
            .rules
            .iter()
            .position(|rule| rule.left > 0 && rule.matching.matches(method, path))?;
        let rule = &mut self.rules[at];
        rule.left -= 1;
        let fault = rule.fault.clone();
        if rule.left == 0 {
            self.rules.remove(at);
        }
        Some(fault)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// In which order deliveries go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeliveryOrder {
    /// As the events came about. (Stripe promises no order; this is merely convenient.)
    #[default]
    OldestFirst,
    /// The other way round.
    NewestFirst,
    /// In an order that follows from the seed.
    Shuffled(u64),
}

/// What goes wrong with webhooks.
#[derive(Debug, Default)]
pub(crate) struct WebhookFaults {
    pub(crate) held: bool,
    pub(crate) drops: VecDeque<(usize, String)>,
    pub(crate) duplicates: VecDeque<(usize, String)>,
    pub(crate) delay: Duration,
    pub(crate) order: DeliveryOrder,
}

/// Uses up one of the planned faults for a type of event, if there is one.
pub(crate) fn take_for(planned: &mut VecDeque<(usize, String)>, event: &str) -> bool {
    let fits = |(left, pattern): &&mut (usize, String)| *left > 0 && glob(pattern, event);
    match planned.iter_mut().find(fits) {
        Some((left, _)) => {
            *left -= 1;
            planned.retain(|(left, _)| *left > 0);
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        let rule = Matching::new("POST", "/v1/subscriptions/*");
        assert!(rule.matches("post", "/v1/subscriptions/sub_1"));
        assert!(!rule.matches("POST", "/v1/subscriptions"));
        assert!(!rule.matches("GET", "/v1/subscriptions/sub_1"));
        assert!(glob("/v1/*/pay", "/v1/invoices/in_1/pay"));
        assert!(glob("customer.*", "customer.subscription.deleted"));
    }

    #[test]
    fn a_fault_is_used_up_by_the_calls_it_is_for() {
        let mut book = FaultBook::default();
        book.plan(2, Matching::new("POST", "*"), Fault::DropAnswer);
        assert_eq!(book.take("GET", "/v1/events"), None);
        assert_eq!(book.take("POST", "/v1/a"), Some(Fault::DropAnswer));
        assert_eq!(book.take("POST", "/v1/b"), Some(Fault::DropAnswer));
        assert_eq!(book.take("POST", "/v1/c"), None);
    }
}
