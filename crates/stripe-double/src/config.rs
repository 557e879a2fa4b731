//! How a double is started.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::persistence::StateError;

/// Where the double takes its time from.
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// What happens to a subscription when the last retry of its invoice has failed: the account's setting under
/// "Manage failed payments".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinalAction {
    /// The subscription is canceled.
    Cancel,
    /// It becomes `unpaid`: it goes on, its invoices stay drafts.
    Unpaid,
    /// It stays `past_due`.
    PastDue,
}

/// The account's settings that Stripe keeps in its dashboard.
#[derive(Debug, Clone)]
pub struct Account {
    /// Days between one failed attempt at a renewal and the next. After the last, [`Account::final_action`].
    pub retry_days: Vec<i64>,
    /// What follows the last failed attempt.
    pub final_action: FinalAction,
    /// How many days before a renewal `invoice.upcoming` is sent.
    pub upcoming_days: i64,
    /// Whether somebody has saved the settings of the customer portal: a new account has no default configuration, and
    /// a session must name one.
    pub portal_saved: bool,
    /// Two letters, shown on invoices.
    pub country: String,
    /// The name on invoices and hosted pages.
    pub name: String,
}

impl Default for Account {
    /// Three retries within two weeks, then cancellation.
    fn default() -> Self {
        Self {
            retry_days: vec![3, 5, 7],
            final_action: FinalAction::Cancel,
            upcoming_days: 7,
            portal_saved: false,
            country: "US".to_owned(),
            name: "Double".to_owned(),
        }
    }
}

/// How a double is started. [`Config::new`] gives one on a free loopback port with the machine's clock.
#[derive(Clone)]
pub struct Config {
    /// The one key that the API accepts; by custom it begins with `sk_test_`.
    pub secret_key: String,
    /// Endpoints that receive every event from the start, with the secret their deliveries are signed with.
    /// More can be made over the API.
    pub webhook: Vec<(String, String)>,
    /// Where the time comes from.
    pub clock: Clock,
    /// Where what the double knows is kept, to be gone on from at the next start; `None` forgets it at the end. One
    /// double at a time may keep its state in a file.
    pub state: Option<PathBuf>,
    /// A file to which every call and its answer are appended, a line of JSON each; several doubles may share one.
    pub record: Option<PathBuf>,
    /// Where to listen; `None` is a free port on loopback, the earlier one where state was kept. The control routes under `/_double/` answer to
    /// callers on loopback alone, wherever this is.
    pub listen: Option<SocketAddr>,
    /// How often, in real time, what has become due is looked for.
    pub tick: Duration,
    /// Waits between the attempts to deliver a webhook, in real time; after the last one the delivery is
    /// given up.
    pub webhook_backoff: Vec<Duration>,
    /// How long a receiver of webhooks may take.
    pub webhook_timeout: Duration,
    /// The dashboard's settings.
    pub account: Account,
}

impl Config {
    /// A double that accepts `secret_key`, listens on a free loopback port, follows the machine's clock and
    /// sends webhooks to nobody.
    pub fn new(secret_key: impl Into<String>) -> Self {
        Self {
            secret_key: secret_key.into(),
            webhook: Vec::new(),
            clock: machine_clock(),
            state: None,
            record: None,
            listen: None,
            tick: Duration::from_millis(50),
            webhook_backoff: [1, 5, 30, 120, 600].map(Duration::from_secs).to_vec(),
            webhook_timeout: Duration::from_secs(10),
            account: Account::default(),
        }
    }

    /// Where to listen if nothing else is asked for.
    pub(crate) const fn any_port() -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)
    }
}

impl fmt::Debug for Config {
    /// Shows neither the key nor the webhooks' secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<_> = self.webhook.iter().map(|(url, _)| url).collect();
        f.debug_struct("Config")
            .field("webhook", &urls)
            .field("state", &self.state)
            .field("record", &self.record)
            .field("listen", &self.listen)
            .field("tick", &self.tick)
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the default of a program that stands alone; whoever embeds the double gives its own clock"
)]
fn machine_clock() -> Clock {
    Arc::new(Utc::now)
}

/// Why a double did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("failed to listen on {address}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What an earlier double left cannot be gone on from.
    #[error(
        "failed to read {path}, which holds what the double knows: restore it, or move it away to begin with nothing",
        path = path.display()
    )]
    State {
        /// As configured.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: StateError,
    },
    /// Calls cannot be recorded.
    #[error("failed to open {path}, where calls are to be recorded", path = path.display())]
    Record {
        /// As configured.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The server's thread could not be started.
    #[error("failed to start the double's thread")]
    Thread(#[source] io::Error),
    /// The client that delivers webhooks could not be built.
    #[error("failed to build the client that delivers webhooks")]
    Client(#[source] reqwest::Error),
    /// The server ended before it served.
    #[error("failed to serve: the server ended at once")]
    Ended,
}
