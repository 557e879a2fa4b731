//! Mails that go nowhere.

use std::sync::{Arc, Mutex, PoisonError};

use rawdrive_notices::{Letter, Mail, MailError, Mailer};

use crate::fault::{Fault, Faults};

/// Keeps the mails that it is handed. Cheap to clone; all clones keep the same.
#[derive(Debug, Clone, Default)]
pub struct MemoryMailer {
    sent: Arc<Mutex<Vec<Letter>>>,
    faults: Faults,
}

impl MemoryMailer {
    /// The same mails, handed over by this handle as the faults say: each mail to one recipient counts as a call.
    #[must_use]
    pub fn failing(&self, faults: Faults) -> Self {
        Self {
            faults,
            ..self.clone()
        }
    }

    /// The mails that were handed over, each to its one recipient, in their order.
    #[must_use]
    pub fn sent(&self) -> Vec<Letter> {
        let sent = self.sent.lock();
        sent.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Mailer for MemoryMailer {
    async fn send(&self, to: &[String], mail: &Mail) -> Result<(), MailError> {
        for recipient in to {
            if !is_deliverable(recipient) {
                return Err(MailError::Address);
            }
            let fault = self.faults.strike();
            if fault == Some(Fault::Refused) {
                return Err(MailError::Unreachable("a fault was asked for".into()));
            }
            let letter = Letter {
                to: vec![recipient.clone()],
                mail: mail.clone(),
            };
            let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
            sent.push(letter);
            if fault.is_some() {
                return Err(MailError::TooSlow);
            }
        }
        Ok(())
    }
}

/// Much less than RFC 5321 asks; what no mail carries fails it.
fn is_deliverable(address: &str) -> bool {
    let is_plain =
        |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_control() || c == ' ');
    let parts = address.rsplit_once('@');
    parts.is_some_and(|(local, domain)| is_plain(local) && is_plain(domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail() -> Mail {
        Mail {
            subject: "A subject".to_owned(),
            text: "A text".to_owned(),
        }
    }

    #[tokio::test]
    async fn what_is_refused_is_not_sent_and_what_is_slow_may_have_been() {
        let mailer = MemoryMailer::default();
        let to = ["a@example.com", "b@example.com"].map(str::to_owned);
        for (fault, arrived) in [(Fault::Refused, 1), (Fault::AnswerLost, 1 + 2)] {
            let failing = mailer.failing(Faults::at([(1, fault)]));
            let failed = failing.send(&to, &mail()).await;
            assert!(failed.is_err(), "{fault:?}");
            assert_eq!(mailer.sent().len(), arrived, "{fault:?}");
        }
    }
}
