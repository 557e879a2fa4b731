//! What domain events say to people, and letters that bring somebody a link.
//!
//! ```
//! use rawdrive_notices::mail_for;
//! use rawdrive_tenancy_core::event::DomainEvent;
//! let event = DomainEvent {
//!     kind: "usage.threshold_crossed".into(),
//!     subject: String::new(),
//!     facts: serde_json::json!({ "metric": "storage_bytes", "threshold": 90, "used": 95, "limit": 100 }),
//! };
//! let mail = mail_for(&event, "Studio", "https://example.com/settings/billing/upgrade").expect("thresholds are told");
//! assert_eq!(mail.subject, "Studio: 90 % of storage_bytes is used");
//! ```
//!
//! Invariant: a mail that an event makes is made from the event's facts and the workspace's name alone, and
//! holds no credential. A letter that brings somebody a link holds one, and lies sealed until it is delivered.

use std::future::Future;
use std::path::{Path, PathBuf};

use rawdrive_tenancy_core::Ambient;
use rawdrive_tenancy_core::event::DomainEvent;
use rawdrive_usage::THRESHOLD_CROSSED;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A mail without its recipients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    /// The subject line, without line breaks.
    pub subject: String,
    /// Plain text.
    pub text: String,
}

/// A mail with its recipients, as it waits for delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// Addresses, each of which gets a mail of its own.
    pub to: Vec<String>,
    /// The mail.
    #[serde(flatten)]
    pub mail: Mail,
}

impl Letter {
    /// The letter as one text: what is sealed until it is delivered.
    #[must_use]
    pub fn text(&self) -> String {
        serde_json::json!(self).to_string()
    }

    /// The letter of a text; nothing for any other.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// A failure to hand a mail over. Nothing is known of its delivery: try again, a mail may come twice.
#[derive(Debug, thiserror::Error)]
#[error("failed to hand a mail over")]
pub struct MailError(#[source] pub std::io::Error);

/// Hands mails over for delivery.
pub trait Mailer: Send + Sync {
    /// Hands one mail to each recipient.
    fn send(
        &self,
        to: &[String],
        mail: &Mail,
    ) -> impl Future<Output = Result<(), MailError>> + Send;
}

/// The mail that an event makes, if it makes one.
#[must_use]
pub fn mail_for(event: &DomainEvent, workspace: &str, upgrade_url: &str) -> Option<Mail> {
    if event.kind != THRESHOLD_CROSSED {
        return None;
    }
    let metric = event.facts.get("metric")?.as_str()?;
    let threshold = event.facts.get("threshold")?.as_u64()?;
    let used = event.facts.get("used")?.as_u64()?;
    let limit = event.facts.get("limit").and_then(Value::as_u64)?;
    let of = if event.subject.is_empty() {
        String::new()
    } else {
        format!(" in {}", event.subject)
    };
    Some(Mail {
        subject: one_line(&format!("{workspace}: {threshold} % of {metric} is used")),
        text: format!(
            "{workspace} now uses {used} of {limit} {metric}{of}.\n\n\
             What is there stays and can be downloaded; above the limit nothing more is taken.\n\
             More room: {upgrade_url}\n"
        ),
    })
}

/// The letter that brings a client their link. `studio` is what the client knows the workspace by.
#[must_use]
pub fn client_invitation(to: &str, client: &str, studio: &str, link: &str) -> Letter {
    Letter {
        to: vec![to.to_owned()],
        mail: Mail {
            subject: one_line(&format!("{studio}: your galleries")),
            text: format!(
                "Hello {client},\n\n\
                 {studio} shares galleries with you. This link shows them, without an account:\n\n\
                 {link}\n\n\
                 It is meant for you alone: whoever has it sees what you see.\n"
            ),
        },
    }
}

/// The letter that invites somebody into a workspace. `expires` is a date as people read it.
#[must_use]
pub fn team_invitation(to: &str, workspace: &str, role: &str, link: &str, expires: &str) -> Letter {
    Letter {
        to: vec![to.to_owned()],
        mail: Mail {
            subject: one_line(&format!("{workspace}: you are invited")),
            text: format!(
                "You are invited to work in {workspace} as {role}. This link accepts:\n\n\
                 {link}\n\n\
                 It works once, until {expires}. If you do not expect it, nothing happens without you.\n"
            ),
        },
    }
}

fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Writes each mail to a file of its own: what an installation without a mail server has.
#[derive(Debug, Clone)]
pub struct FileMailer {
    directory: PathBuf,
    ambient: Ambient,
}

impl FileMailer {
    /// Mails go to `directory`, which is made with the first one.
    #[must_use]
    pub fn new(directory: &Path, ambient: Ambient) -> Self {
        Self {
            directory: directory.to_owned(),
            ambient,
        }
    }
}

impl Mailer for FileMailer {
    async fn send(&self, to: &[String], mail: &Mail) -> Result<(), MailError> {
        tokio::fs::create_dir_all(&self.directory)
            .await
            .map_err(MailError)?;
        for recipient in to {
            let text = format!(
                "To: {}\nSubject: {}\nDate: {}\nContent-Type: text/plain; charset=utf-8\n\n{}",
                one_line(recipient),
                mail.subject,
                self.ambient.now().to_rfc2822(),
                mail.text
            );
            // Written aside and renamed, so that nobody reads half a mail.
            let name = self.ambient.uuid().simple().to_string();
            let aside = self.directory.join(format!(".{name}"));
            tokio::fs::write(&aside, text).await.map_err(MailError)?;
            tokio::fs::rename(aside, self.directory.join(format!("{name}.eml")))
                .await
                .map_err(MailError)?;
            tracing::info!("mail written");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_is_one_line_of_subject_and_a_link_of_its_own_line() {
        let letter = client_invitation(
            "mia@example.com",
            "Mia",
            "Evil\r\nBcc: all",
            "https://x/shared?token=rdc_1",
        );
        assert_eq!(letter.to, ["mia@example.com"]);
        assert_eq!(letter.mail.subject, "Evil  Bcc: all: your galleries");
        assert!(
            letter
                .mail
                .text
                .lines()
                .any(|line| line == "https://x/shared?token=rdc_1")
        );
        assert_eq!(Letter::parse(&letter.text()), Some(letter));
    }

    #[test]
    fn a_name_cannot_add_a_header() {
        let event = DomainEvent {
            kind: THRESHOLD_CROSSED.to_owned(),
            subject: String::new(),
            facts: serde_json::json!({ "metric": "photos", "threshold": 80, "used": 8, "limit": 10 }),
        };
        let mail = mail_for(&event, "Evil\r\nBcc: all", "u").unwrap();
        assert!(!mail.subject.contains(['\r', '\n']), "{}", mail.subject);
        assert_eq!(
            mail_for(
                &DomainEvent {
                    kind: "other".into(),
                    ..event
                },
                "x",
                "u"
            ),
            None
        );
    }
}
