//! The adapter of an installation with a mail server.

use std::fmt;
use std::time::Duration;

use lettre::transport::smtp::AsyncSmtpTransportBuilder;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use rawdrive_tenancy_core::Env;
use tokio::time::timeout;
use url::Url;

use crate::Mail;
use crate::mailer::{MailError, Mailer, Sender, message};

/// How long one mail may take, from the connection to the last answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The address of a mail server, as it is configured: `smtp://` or `smtps://`, perhaps with `user:password@`,
/// a port, `?tls=required` (or `opportunistic`) for STARTTLS, and `?from=` for whom mails are from.
#[derive(Clone)]
pub struct SmtpUrl {
    server: AsyncSmtpTransportBuilder,
    from: Option<Sender>,
}

/// Why a text is no address of a mail server. It never repeats the text, which may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSmtpUrl {
    /// Another scheme, no host, half a credential.
    #[error(
        "expected smtp:// or smtps://, perhaps user:password@, and a host, such as smtps://mailer:secret@mail.example"
    )]
    Form,
    /// A parameter that is not known, or twice there.
    #[error(
        "expected no parameters but tls=required or tls=opportunistic (smtp:// alone), and from="
    )]
    Parameter,
    /// `from` is no address.
    #[error("from: {0}")]
    Sender(#[from] crate::InvalidSender),
}

impl SmtpUrl {
    /// Reads an address.
    ///
    /// # Errors
    /// See [`InvalidSmtpUrl`].
    pub fn parse(text: &str) -> Result<Self, InvalidSmtpUrl> {
        let mut url = Url::parse(text).map_err(|_| InvalidSmtpUrl::Form)?;
        let is_smtp = url.scheme() == "smtp";
        let has_host = url.host_str().is_some_and(|host| !host.is_empty());
        // `lettre` would drop a user without a password, and a fragment, without a word.
        let has_half = url.username().is_empty() != url.password().is_none_or(str::is_empty);
        if !(is_smtp || url.scheme() == "smtps")
            || !has_host
            || has_half
            || url.fragment().is_some()
        {
            return Err(InvalidSmtpUrl::Form);
        }
        let (mut tls, mut from) = (None, None);
        for (name, value) in url.query_pairs() {
            let place = match &*name {
                "tls" => &mut tls,
                "from" => &mut from,
                _ => return Err(InvalidSmtpUrl::Parameter),
            };
            if place.replace(value.into_owned()).is_some() {
                return Err(InvalidSmtpUrl::Parameter);
            }
        }
        let tls_is_known = match tls.as_deref() {
            None => true,
            Some(tls) => is_smtp && ["required", "opportunistic"].contains(&tls),
        };
        if !tls_is_known {
            return Err(InvalidSmtpUrl::Parameter);
        }
        let from = from.as_deref().map(Sender::parse).transpose()?;
        url.set_query(tls.map(|tls| format!("tls={tls}")).as_deref());
        let server = AsyncSmtpTransport::<Tokio1Executor>::from_url(url.as_str())
            .map_err(|_| InvalidSmtpUrl::Form)?;
        Ok(Self { server, from })
    }
}

impl fmt::Debug for SmtpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SmtpUrl(…)")
    }
}

/// Hands mails to a mail server, over a connection of their own each: mails are few.
#[derive(Clone)]
pub struct SmtpMailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Sender,
    env: Env,
    patience: Duration,
}

impl SmtpMailer {
    /// Mails are from whom the address says, otherwise from `sender`.
    #[must_use]
    pub fn new(url: &SmtpUrl, sender: Sender, env: Env) -> Self {
        Self::with_patience(url, sender, env, PATIENCE)
    }

    /// As [`SmtpMailer::new`], with the time chosen that one mail may take.
    #[must_use]
    pub fn with_patience(url: &SmtpUrl, sender: Sender, env: Env, patience: Duration) -> Self {
        Self {
            transport: url.server.clone().timeout(Some(patience)).build(),
            from: url.from.clone().unwrap_or(sender),
            env,
            patience,
        }
    }
}

impl fmt::Debug for SmtpMailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmtpMailer")
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

impl Mailer for SmtpMailer {
    async fn send(&self, to: &[String], mail: &Mail) -> Result<(), MailError> {
        for recipient in to {
            let message = message(&self.from, recipient, mail, &self.env)?;
            // `lettre` bounds each step; a server could take all its steps slowly.
            match timeout(self.patience, self.transport.send(message)).await {
                Ok(Ok(_)) => tracing::info!("mail handed over"),
                Ok(Err(error)) => return Err(refusal(error)),
                Err(_) => return Err(MailError::TooSlow),
            }
        }
        Ok(())
    }
}

fn refusal(error: lettre::transport::smtp::Error) -> MailError {
    match error.status() {
        Some(code) => MailError::Refused {
            status: u16::from(code),
        },
        None if error.is_timeout() => MailError::TooSlow,
        None => MailError::Unreachable(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_mail_servers_are_read() {
        for good in [
            "smtp://localhost",
            "smtp://mail.example:2525",
            "smtp://mailer:secret@mail.example?tls=required",
            "smtp://mail.example?tls=opportunistic&from=mail@studio.example",
            "smtps://mailer%40x:s%2Fcret@mail.example",
            "smtps://mail.example?from=Studio%20%3Cmail@studio.example%3E",
        ] {
            let url = SmtpUrl::parse(good).unwrap_or_else(|e| panic!("{good}: {e}"));
            assert_eq!(format!("{url:?}"), "SmtpUrl(…)");
        }
    }

    #[test]
    fn other_texts_are_refused_without_repeating_them() {
        for (wrong, reason) in [
            ("", InvalidSmtpUrl::Form),
            ("mail.example", InvalidSmtpUrl::Form),
            ("http://mailer:hunter2@mail.example", InvalidSmtpUrl::Form),
            ("smtp://", InvalidSmtpUrl::Form),
            ("smtp://mailer@mail.example", InvalidSmtpUrl::Form),
            ("smtp://:hunter2@mail.example", InvalidSmtpUrl::Form),
            (
                "smtps://mailer:hunter2@mail.example:port",
                InvalidSmtpUrl::Form,
            ),
            (
                "smtps://mailer:hunter2@mail.example#x",
                InvalidSmtpUrl::Form,
            ),
            ("smtp://mail.example?tls=maybe", InvalidSmtpUrl::Parameter),
            (
                "smtps://mail.example?tls=required",
                InvalidSmtpUrl::Parameter,
            ),
            (
                "smtp://mail.example?tls=required&tls=required",
                InvalidSmtpUrl::Parameter,
            ),
            (
                "smtp://mail.example?password=hunter2",
                InvalidSmtpUrl::Parameter,
            ),
            (
                "smtp://mail.example?from=nobody",
                InvalidSmtpUrl::Sender(crate::InvalidSender),
            ),
        ] {
            let error = SmtpUrl::parse(wrong).unwrap_err();
            assert_eq!(error, reason, "{wrong}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
