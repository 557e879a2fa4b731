//! Handing mails over: the port, the form that every mail has, and the adapter of an installation without a
//! mail server.

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use lettre::Message;
use lettre::message::header::{ContentTransferEncoding, ContentType, MIME_VERSION_1_0};
use lettre::message::{Body, Mailbox};
use rawdrive_tenancy_core::Env;

use crate::Mail;

/// The longest line of a mail, in bytes (RFC 5322 section 2.1.1).
const LINE_BYTES: usize = 998;

/// A failure to hand a mail over.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The file cannot be written. Try again.
    #[error("failed to write a mail")]
    File(#[source] std::io::Error),
    /// The mail server cannot be reached, or speaks no SMTP. Nothing is known of the mail: try again, it may
    /// come twice.
    #[error("failed to reach the mail server")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The mail server did not answer in time. As [`MailError::Unreachable`].
    #[error("the mail server did not answer in time")]
    TooSlow,
    /// The mail server said no. Its words are left out, because they name the recipient. Try again: what is
    /// called permanent often is a configuration that somebody mends.
    #[error("the mail server refused a mail with status {status}")]
    Refused {
        /// RFC 5321 section 4.2.
        status: u16,
    },
    /// The recipient's address is none that mail can carry. Never tried again.
    #[error("the recipient's address is none that mail can carry")]
    Address,
}

/// Hands mails over for delivery.
pub trait Mailer: Send + Sync {
    /// Hands one mail to each recipient. After an error some may have theirs already.
    fn send(
        &self,
        to: &[String],
        mail: &Mail,
    ) -> impl Future<Output = Result<(), MailError>> + Send;
}

/// Whom mails are from.
#[derive(Clone, PartialEq, Eq)]
pub struct Sender(Mailbox);

/// A text that is no sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an address such as mail@example.com, perhaps as Name <mail@example.com>")]
pub struct InvalidSender;

impl Sender {
    /// Reads an address, with or without a name.
    ///
    /// # Errors
    /// [`InvalidSender`].
    pub fn parse(text: &str) -> Result<Self, InvalidSender> {
        text.parse().map(Self).map_err(|_| InvalidSender)
    }

    /// `no-reply` at the host of the installation's public URL; at `localhost` where that is a bare address,
    /// because no mailbox lies there.
    #[must_use]
    pub fn no_reply(public_url: &str) -> Self {
        let host = url::Url::parse(public_url).ok();
        let domain = host.as_ref().and_then(url::Url::domain);
        let named = domain.and_then(|domain| Self::parse(&format!("no-reply@{domain}")).ok());
        named.unwrap_or_else(|| {
            let local = lettre::Address::new_dangerous("no-reply", "localhost");
            Self(Mailbox::new(None, local))
        })
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The message that goes to one recipient: headers encoded as they must be, the text in 7 bits where it fits
/// and quoted-printable where not, never in base64, so that a link can be read in any mail as it is.
pub(crate) fn message(
    from: &Sender,
    to: &str,
    mail: &Mail,
    env: &Env,
) -> Result<Message, MailError> {
    let recipient = deliverable(to).parse().map_err(|_| MailError::Address)?;
    let domain = from.0.email.domain();
    let id = format!("<{}@{domain}>", env.uuid().simple());
    Message::builder()
        .from(from.0.clone())
        .to(Mailbox::new(None, recipient))
        .subject(mail.subject.clone())
        .date(SystemTime::from(env.now()))
        .message_id(Some(id))
        .header(MIME_VERSION_1_0)
        .header(ContentType::TEXT_PLAIN)
        .body(body(&mail.text))
        .map_err(|_| MailError::Address)
}

/// The address with its domain in letters, digits and hyphens, as every mail server takes it.
fn deliverable(address: &str) -> String {
    let ascii = |domain: &str| idna::domain_to_ascii(domain).ok();
    match address
        .rsplit_once('@')
        .map(|(local, domain)| (local, ascii(domain)))
    {
        Some((local, Some(domain))) => format!("{local}@{domain}"),
        _ => address.to_owned(),
    }
}

fn body(text: &str) -> Body {
    // `lettre` would break lines from 76 characters on, where 998 are allowed: a link is longer, and many
    // who look at a mail do not decode it.
    let fits = |line: &str| {
        line.len() <= LINE_BYTES && line.bytes().all(|b| matches!(b, b'\t' | b' '..=b'~'))
    };
    if text.split('\n').all(fits) {
        let lines = text.replace('\n', "\r\n").into_bytes();
        return Body::dangerous_pre_encoded(lines, ContentTransferEncoding::SevenBit);
    }
    Body::new_with_encoding(text.to_owned(), ContentTransferEncoding::QuotedPrintable)
        .expect("quoted-printable takes every text")
}

/// Writes each mail to a file of its own: what an installation without a mail server has.
#[derive(Debug, Clone)]
pub struct FileMailer {
    directory: PathBuf,
    from: Sender,
    env: Env,
}

impl FileMailer {
    /// Mails go to `directory`, which is made with the first one.
    #[must_use]
    pub fn new(directory: &Path, from: Sender, env: Env) -> Self {
        Self {
            directory: directory.to_owned(),
            from,
            env,
        }
    }
}

impl Mailer for FileMailer {
    async fn send(&self, to: &[String], mail: &Mail) -> Result<(), MailError> {
        tokio::fs::create_dir_all(&self.directory)
            .await
            .map_err(MailError::File)?;
        for recipient in to {
            let message = message(&self.from, recipient, mail, &self.env)?;
            // Written aside and renamed, so that nobody reads half a mail.
            let name = self.env.uuid().simple().to_string();
            let aside = self.directory.join(format!(".{name}"));
            tokio::fs::write(&aside, message.formatted())
                .await
                .map_err(MailError::File)?;
            tokio::fs::rename(aside, self.directory.join(format!("{name}.eml")))
                .await
                .map_err(MailError::File)?;
            tracing::info!("mail written");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_replies_to_the_host_of_the_public_url() {
        for (url, address) in [
            ("https://studio.example", "no-reply@studio.example"),
            ("https://studio.example:8443/app", "no-reply@studio.example"),
            ("http://localhost:8080", "no-reply@localhost"),
            ("http://127.0.0.1:8080", "no-reply@localhost"),
            ("http://[::1]:8080", "no-reply@localhost"),
        ] {
            assert_eq!(format!("{:?}", Sender::no_reply(url)), address, "{url}");
        }
    }

    #[test]
    fn a_sender_is_an_address_perhaps_with_a_name() {
        for good in ["a@b.example", "Studio <a@b.example>"] {
            assert!(Sender::parse(good).is_ok(), "{good}");
        }
        for wrong in ["", "studio", "a@b.example\r\nBcc: all@b.example", "<>"] {
            assert_eq!(Sender::parse(wrong), Err(InvalidSender), "{wrong:?}");
        }
    }
}
