#![doc = include_str!("../README.md")]

mod billing_emails;
mod mail;
mod mailer;
mod name;
mod smtp;
pub mod webhooks;

pub use billing_emails::money;
pub use mail::{Letter, Mail, SendMail};
pub use mailer::{FileMailer, InvalidSender, MailError, Mailer, Sender};
pub use name::Name;
pub use smtp::{InvalidSmtpUrl, SmtpMailer, SmtpUrl};

use rawdrive_billing::{CHARGE_REFUNDED, DISPUTE_OPENED, GRACE_REACHED, PAYMENT_ACTION_REQUIRED};
use rawdrive_tenancy_core::event::DomainEvent;
use rawdrive_usage::THRESHOLD_CROSSED;
use serde_json::Value;

use webhooks::WEBHOOK_ENDPOINT_DISABLED;

/// The mail that an event makes, if it makes one.
#[must_use]
pub fn mail_for(event: &DomainEvent, workspace: &str, upgrade_url: &str) -> Option<Mail> {
    let workspace = &Name::of(workspace);
    match event.kind.as_str() {
        THRESHOLD_CROSSED => threshold(event, workspace, upgrade_url),
        GRACE_REACHED | PAYMENT_ACTION_REQUIRED | DISPUTE_OPENED | CHARGE_REFUNDED => {
            billing_emails::mail(event, workspace, upgrade_url)
        }
        WEBHOOK_ENDPOINT_DISABLED => webhook_disabled(event, workspace),
        _ => None,
    }
}

fn threshold(event: &DomainEvent, workspace: &Name, upgrade_url: &str) -> Option<Mail> {
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
        subject: format!("{}: {threshold} % of {metric} is used", workspace.subject),
        text: format!(
            "{} now uses {used} of {limit} {metric}{of}.\n\n\
             What is there stays and can be downloaded. Above the limit nothing more is taken; what your own programs \
             report is counted all the same.\n\
             More room: {upgrade_url}\n",
            workspace.text
        ),
    })
}

fn webhook_disabled(event: &DomainEvent, workspace: &Name) -> Option<Mail> {
    let host = event.facts.get("host")?.as_str()?;
    let why = match event.facts.get("reason")?.as_str()? {
        "gone" => "has answered that it is gone",
        "failing" => "has taken nothing for five days",
        _ => return None,
    };
    Some(Mail {
        subject: format!("{}: a webhook is off", workspace.subject),
        text: format!(
            "The address at {host} to which events of {} are sent {why}. Nothing more is sent there.\n\n\
             Its id is {}. Once it works again, enable it: PATCH /v1/webhook-endpoints/{} with {{\"enabled\": true}}. \
             What it has missed is to be had from GET /v1/events.\n",
            workspace.text, event.subject, event.subject
        ),
    })
}

/// The letter that invites somebody into a workspace. `expires` is a date as people read it.
#[must_use]
pub fn team_invitation(to: &str, workspace: &str, role: &str, link: &str, expires: &str) -> Letter {
    let workspace = Name::of(workspace);
    Letter {
        to: vec![to.to_owned()],
        mail: Mail {
            subject: format!("{}: you are invited", workspace.subject),
            text: format!(
                "You are invited to work in {} as {role}. This link accepts:\n\n\
                 {link}\n\n\
                 It works once, until {expires}. If you do not expect it, nothing happens without you.\n",
                workspace.text
            ),
        },
    }
}

/// The letter with the link to a new password.
#[must_use]
pub fn password_reset(to: &str, link: &str) -> Letter {
    Letter {
        to: vec![to.to_owned()],
        mail: Mail {
            subject: "Set a new password".to_owned(),
            text: format!(
                "Somebody, we hope you, asked for a new password for your RawDrive account.\n\n\
             Set it here, within the hour; the link works once:\n{link}\n\n\
             Was it not you? Then do nothing: your password stays as it is.\n"
            ),
        },
    }
}

/// The letter with the link that verifies an address.
#[must_use]
pub fn email_verification(to: &str, link: &str) -> Letter {
    Letter {
        to: vec![to.to_owned()],
        mail: Mail {
            subject: "Confirm your e-mail address".to_owned(),
            text: format!(
                "Confirm that this is the address of your RawDrive account, within a day:\n{link}\n\n\
             Did you not ask for this? Then do nothing.\n"
            ),
        },
    }
}

/// The letter with the code that gets an account's owner in although others have tried too often.
#[must_use]
pub fn sign_in_code(to: &str, code: &str) -> Letter {
    Letter {
        to: vec![to.to_owned()],
        mail: Mail {
            subject: "Your sign-in code".to_owned(),
            text: format!(
                "Somebody tried to sign in to your RawDrive account with a wrong password, too often.\n\n\
             Was it you, or can you not sign in because of it? Then sign in with your password and this code, within the \
             half hour:\n{code}\n\n\
             Was it not you? Then do nothing: nobody gets in without your password.\n"
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_is_one_line_of_subject_and_a_link_of_its_own_line() {
        let link = "https://x/invitations/accept?token=rdi_1";
        let letter = team_invitation(
            "mia@example.com",
            "Evil\r\nBcc: all",
            "member",
            link,
            "1 May",
        );
        assert_eq!(letter.to, ["mia@example.com"]);
        assert_eq!(letter.mail.subject, "Evil  Bcc: all: you are invited");
        assert!(letter.mail.text.lines().any(|line| line == link));
        assert_eq!(Letter::parse(&letter.text()), Some(letter));
    }

    #[test]
    fn a_name_cannot_add_a_header() {
        let event = DomainEvent {
            kind: THRESHOLD_CROSSED.to_owned(),
            subject: String::new(),
            facts: serde_json::json!({ "metric": "notes", "threshold": 80, "used": 8, "limit": 10 }),
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
