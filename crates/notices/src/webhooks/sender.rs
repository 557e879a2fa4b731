//! Webhooks by HTTP. The address is judged at each connection: by its name when it is looked up, and no redirect is
//! followed.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use reqwest::redirect;

use super::address::{Reach, WebhookUrl, may_call};
use super::{Message, SendFailure, WebhookSender};

/// How long a receiver has to take a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long a receiver has to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// Sends events by HTTP.
#[derive(Debug, Clone)]
pub struct HttpSender {
    client: reqwest::Client,
    reach: Reach,
}

/// A host's addresses, as the machine knows them, less those that may not be called. The connection is made to one of the
/// addresses that were judged: a name that changes meanwhile changes nothing.
#[derive(Debug)]
struct Judging(Reach);

#[derive(Debug, thiserror::Error)]
#[error("the host's name leads into a private network")]
struct Private;

impl Resolve for Judging {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let open: Vec<SocketAddr> = found
                .filter(|address| may_call(address.ip(), reach))
                .collect();
            if open.is_empty() {
                return Err(Private.into());
            }
            let addresses: Addrs = Box::new(open.into_iter());
            Ok(addresses)
        })
    }
}

impl HttpSender {
    /// A sender that calls what `reach` allows.
    ///
    /// # Errors
    /// TLS cannot be set up on this machine.
    pub fn new(reach: Reach) -> Result<Self, io::Error> {
        let client = reqwest::Client::builder()
            .dns_resolver(Judging(reach))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .https_only(reach == Reach::Public)
            .connect_timeout(CONNECT_WITHIN)
            .timeout(ANSWER_WITHIN)
            // Connections are not kept: receivers are many, and each is judged anew.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(io::Error::other)?;
        Ok(Self { client, reach })
    }
}

impl WebhookSender for HttpSender {
    async fn send(&self, url: &WebhookUrl, message: &Message) -> Result<u16, SendFailure> {
        // An address that stands in the URL itself is looked up nowhere.
        let is_open = url.literal().is_none_or(|ip| may_call(ip, self.reach));
        if !is_open || (self.reach == Reach::Public && !url.is_https()) {
            return Err(SendFailure::Private);
        }
        let signature = HeaderValue::from_str(&message.signature);
        let request = self
            .client
            .post(url.as_str())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("RawDrive/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", message.event.to_string())
            .header("webhook-timestamp", message.at.timestamp())
            .header(
                "webhook-signature",
                signature.map_err(|_| SendFailure::Unreachable)?,
            )
            .body(message.body.clone());
        // Its body is not read: who answers without end is not listened to.
        match request.send().await {
            Ok(answer) => Ok(answer.status().as_u16()),
            Err(error) if error.is_timeout() => Err(SendFailure::TooSlow),
            Err(error) if is_private(&error) => Err(SendFailure::Private),
            Err(error) => {
                tracing::debug!(error = %rawdrive_tenancy_core::Causes(&error), "a webhook was not delivered");
                Err(SendFailure::Unreachable)
            }
        }
    }
}

fn is_private(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<Private>() {
            return true;
        }
        cause = error.source();
    }
    false
}
