//! What every mailer promises.

use std::future::Future;

use rawdrive_notices::{Letter, Mail, MailError, Mailer};

use crate::MemoryMailer;

/// A mailer whose mails a test can see arrive.
pub trait MailerSubject {
    /// The mailer.
    type Mailer: Mailer;
    /// The mailer under test.
    fn mailer(&self) -> &Self::Mailer;
    /// The mails that have arrived, each with its one recipient, in any order.
    fn arrived(&self) -> impl Future<Output = Vec<Letter>> + Send;
}

impl MailerSubject for MemoryMailer {
    type Mailer = Self;

    fn mailer(&self) -> &Self {
        self
    }

    async fn arrived(&self) -> Vec<Letter> {
        self.sent()
    }
}

fn letters(to: &[&str], mail: &Mail) -> Vec<Letter> {
    let letter = |to: &&str| Letter {
        to: vec![(*to).to_owned()],
        mail: mail.clone(),
    };
    to.iter().map(letter).collect()
}

async fn arrived(subject: &impl MailerSubject) -> Vec<Letter> {
    let mut arrived = subject.arrived().await;
    arrived.sort_by(|a, b| (&a.mail.subject, &a.to).cmp(&(&b.mail.subject, &b.to)));
    arrived
}

fn mail(subject: &str) -> Mail {
    Mail {
        subject: subject.to_owned(),
        // What a line of a mail must survive: a dot alone, a long link, letters beyond ASCII, an empty line.
        text: format!(
            "Good morning, Zoë.\n.\n\nhttps://example.com/{}",
            "Az9".repeat(30)
        ),
    }
}

/// Each recipient gets a mail of their own, with nobody else in it, and its words as they were written.
///
/// # Panics
/// The mailer breaks its promise.
pub async fn each_recipient_gets_a_mail_of_their_own(subject: &impl MailerSubject) {
    let (both, one) = (mail("1. Grüße"), mail("2. More"));
    let to = ["ada@example.com", "eve@example.com"].map(str::to_owned);
    let mailer = subject.mailer();
    mailer.send(&to, &both).await.expect("handed over");
    mailer.send(&to[..1], &one).await.expect("handed over");
    mailer.send(&[], &one).await.expect("nothing to do");
    let mut expected = letters(&["ada@example.com", "eve@example.com"], &both);
    expected.extend(letters(&["ada@example.com"], &one));
    assert_eq!(arrived(subject).await, expected);
}

/// What is no address is refused as that, so that it is not tried for ever.
///
/// # Panics
/// The mailer breaks its promise.
pub async fn what_is_no_address_is_refused_as_that(subject: &impl MailerSubject) {
    for wrong in [
        "",
        "ada",
        "ada@",
        "@example.com",
        "ada@example.com\r\nBcc: eve@example.com",
        "ada@example.com, eve@example.com",
    ] {
        let refused = subject
            .mailer()
            .send(&[wrong.to_owned()], &mail("No"))
            .await;
        assert!(
            matches!(refused, Err(MailError::Address)),
            "{wrong:?}: {refused:?}"
        );
    }
    assert_eq!(arrived(subject).await, []);
}
