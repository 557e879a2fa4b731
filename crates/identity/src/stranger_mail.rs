//! Mail to somebody who has no account here, or is no member: what a workspace may send, once mail really leaves.
//!
//! Whoever signs up could otherwise have this installation write to anybody. So a workspace writes to strangers only
//! when one of its owners has proved to be reached at their address, so many mails an hour, and few to one address.

use std::future::Future;

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_tenancy_core::{Env, StoreError};

use crate::email::EmailAddress;
use crate::ports::Attempt;
use crate::rate_limit::key;

const WINDOW: TimeDelta = TimeDelta::hours(1);
/// To one address by one workspace: an invitation, and two more because mail gets lost.
const PER_ADDRESS: u32 = 3;
/// By one workspace: a large party's guests within an hour.
const PER_WORKSPACE: u32 = 100;
/// To one address by everybody: nobody's mailbox is filled by many workspaces either.
const PER_MAILBOX: u32 = 20;

/// What the installation asks of mail to strangers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailPolicy {
    /// Whether mail leaves the machine. Where it is files, nothing is asked: nobody is reached by them.
    pub leaves: bool,
    /// Whether mails are counted.
    pub limited: bool,
}

/// What has to be known within the transaction that posts a mail.
pub trait StrangerMailTx: Send {
    /// Whether an owner of the workspace has proved that mail to their address reaches them.
    fn has_verified_owner(&mut self) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Counts one mail unless `limit` have been counted in the window that is open at `now`, in this transaction: what
    /// is rolled back was not sent, and is not counted.
    fn count_mail(
        &mut self,
        key: [u8; 32],
        limit: u32,
        window: TimeDelta,
        now: DateTime<Utc>,
    ) -> impl Future<Output = Result<Attempt, StoreError>> + Send;
}

/// Why a mail is not sent.
#[derive(Debug, thiserror::Error)]
pub enum StrangerMailError {
    /// No owner has verified their address.
    #[error("no owner of the workspace has verified their e-mail address")]
    Unverified,
    /// As many as may have been sent.
    #[error("too many mails were sent")]
    TooMany {
        /// Until the next may be sent.
        retry_after_seconds: u32,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether the workspace may write to a stranger now; counts the mail if it may. Call it last in the transaction, and
/// drop that after a refusal.
///
/// # Errors
/// [`StrangerMailError`].
pub async fn admit_stranger_mail(
    tx: &mut impl StrangerMailTx,
    env: &Env,
    policy: MailPolicy,
    workspace: WorkspaceId,
    to: &EmailAddress,
) -> Result<(), StrangerMailError> {
    if !policy.leaves {
        return Ok(());
    }
    if !tx.has_verified_owner().await? {
        return Err(StrangerMailError::Unverified);
    }
    if !policy.limited {
        return Ok(());
    }
    let (workspace, to) = (workspace.to_string(), to.folded());
    let (workspace, to) = (workspace.as_bytes(), to.as_bytes());
    // The workspace's own counters first: what another one sends is met last.
    for (key, limit) in [
        (key(&[b"stranger mail by", workspace]), PER_WORKSPACE),
        (key(&[b"stranger mail", workspace, to]), PER_ADDRESS),
        (key(&[b"stranger mail to", to]), PER_MAILBOX),
    ] {
        if let Attempt::RetryAfter { seconds } =
            tx.count_mail(key, limit, WINDOW, env.now()).await?
        {
            return Err(StrangerMailError::TooMany {
                retry_after_seconds: seconds.max(1),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    struct Counted {
        verified: bool,
        counters: BTreeMap<[u8; 32], u32>,
    }

    impl StrangerMailTx for Counted {
        async fn has_verified_owner(&mut self) -> Result<bool, StoreError> {
            Ok(self.verified)
        }
        async fn count_mail(
            &mut self,
            key: [u8; 32],
            limit: u32,
            window: TimeDelta,
            _: DateTime<Utc>,
        ) -> Result<Attempt, StoreError> {
            let counter = self.counters.entry(key).or_default();
            if *counter == limit {
                let seconds = u32::try_from(window.num_seconds()).unwrap();
                return Ok(Attempt::RetryAfter { seconds });
            }
            *counter += 1;
            Ok(Attempt::Allowed)
        }
    }

    const STRICT: MailPolicy = MailPolicy {
        leaves: true,
        limited: true,
    };

    /// How many of so many mails to each address are sent.
    async fn sent(tx: &mut Counted, policy: MailPolicy, workspaces: usize, to: &[&str]) -> usize {
        let env = Env::system();
        let mut sent = 0;
        for _ in 0..workspaces {
            let workspace = env.id();
            for to in to {
                let to = EmailAddress::parse(to).unwrap();
                // A refusal is rolled back.
                let before = tx.counters.clone();
                match admit_stranger_mail(tx, &env, policy, workspace, &to).await {
                    Ok(()) => sent += 1,
                    Err(_) => tx.counters = before,
                }
            }
        }
        sent
    }

    fn counted(verified: bool) -> Counted {
        Counted {
            verified,
            counters: BTreeMap::new(),
        }
    }

    #[tokio::test]
    async fn nobody_unverified_writes_to_strangers_where_mail_leaves() {
        let to = ["mia@example.com"];
        assert_eq!(sent(&mut counted(false), STRICT, 1, &to).await, 0);
        let files = MailPolicy {
            leaves: false,
            ..STRICT
        };
        assert_eq!(sent(&mut counted(false), files, 1, &[to[0]; 50]).await, 50);
        let unlimited = MailPolicy {
            limited: false,
            ..STRICT
        };
        assert_eq!(
            sent(&mut counted(true), unlimited, 1, &[to[0]; 50]).await,
            50
        );
        assert_eq!(sent(&mut counted(false), unlimited, 1, &to).await, 0);
    }

    #[tokio::test]
    async fn mails_are_limited_by_workspace_by_address_and_by_mailbox() {
        let everybody: Vec<_> = (0..200).map(|n| format!("g{n}@example.com")).collect();
        let everybody: Vec<_> = everybody.iter().map(String::as_str).collect();
        assert_eq!(sent(&mut counted(true), STRICT, 1, &everybody).await, 100);
        let again = ["mia@example.com"; 50];
        assert_eq!(sent(&mut counted(true), STRICT, 1, &again).await, 3);
        // However the address is written.
        let spelled = [
            "mia@example.com",
            "MIA@example.com",
            "mia@EXAMPLE.com",
            "Mia@example.com",
        ];
        assert_eq!(sent(&mut counted(true), STRICT, 1, &spelled).await, 3);
        assert_eq!(sent(&mut counted(true), STRICT, 50, &again[..5]).await, 20);
    }
}
