//! A mail, whom it goes to, and the job that hands it over.

use rawdrive_tenancy_core::job::JobKind;
use serde::{Deserialize, Serialize};

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

/// Hands a letter over for delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendMail {
    /// The letter's [text](Letter::text), sealed and in base64: it may hold a link that is a credential.
    pub sealed: String,
}

impl JobKind for SendMail {
    const NAME: &'static str = "send_mail";
}
