//! What every route works with.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix_web::HttpRequest;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use rawdrive_billing::{Billing, ManualGateway, Policy, PreviewKey, WebhookSecrets};
use rawdrive_identity::ports::{CounterKey, PasswordAttempts};
use rawdrive_identity::{
    Count, Currency, EmailAddress, Keyring, LimitState, MailPolicy, MasterKey, PasswordHasher,
    Sealer, StrangerMailError, TokenIssuer, TokenPepper, admit_stranger_mail,
};
use rawdrive_notices::webhooks::{Reach, WebhookKeys};
use rawdrive_notices::{Letter, SendMail};
use rawdrive_onboarding::Step;
use rawdrive_plans::Catalogue;
use rawdrive_store::{Reader, Store, WriteTx};
use rawdrive_tenancy_core::job::JobsTx;
use rawdrive_tenancy_core::page::CursorCodec;
use rawdrive_tenancy_core::{Env, StoreError};

use crate::billing::{BillingDesk, Desk};
use crate::client_address::TrustedProxies;
use crate::extension::{Routes, Subjects, Vocabulary};
use crate::ingest_queue::IngestQueue;
use crate::key_uses::KeyUses;
use crate::pages::keys::PageKeys;
use crate::vocabulary::VOCABULARY;
use crate::web::{Code, Edge, Problem, RateLimits, UPGRADE_PATH, sentence};

/// What an installation chooses.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The base of links, without a slash at its end; where the API is mounted below a path, with that path.
    pub public_url: String,
    /// The path that the API is mounted below, such as `/saas`: empty, or with a slash at its beginning alone.
    pub prefix: String,
    /// What a workspace pays in unless its sign-up says otherwise.
    pub currency: Currency,
    /// Whether attempts at passwords, and mails to strangers, are limited.
    pub limit_attempts: bool,
    /// Whose word about a client's address is taken.
    pub trusted_proxies: TrustedProxies,
    /// Whether mail leaves the machine; otherwise it is files.
    pub mail_leaves: bool,
    /// Which addresses outbound webhooks may have.
    pub webhook_reach: Reach,
}

/// What the server cannot do without, besides its database: its name, and whether it answers.
pub trait Dependency: Send + Sync + fmt::Debug {
    /// As `/readyz` names it.
    fn name(&self) -> &'static str;
    /// Whether it answers. It may take its time: who asks does not wait for long.
    fn answers(&self) -> BoxFuture<'_, bool>;
}

/// Everything that the routes work with.
#[derive(Debug)]
pub struct App {
    /// The database.
    pub store: Store,
    /// Collects the money.
    pub billing: Arc<dyn BillingDesk>,
    /// Issues and verifies access tokens.
    pub issuer: TokenIssuer,
    /// Hashes passwords, bounded.
    pub hasher: PasswordHasher,
    /// Keys the hashes of mailed and shown secrets.
    pub pepper: TokenPepper,
    /// When API keys were used; [`record_key_uses`](crate::record_key_uses) writes it down.
    pub key_uses: KeyUses,
    /// Events that were reported and wait to be written, by the batch.
    pub ingest: IngestQueue,
    /// Seals mails that wait for delivery.
    pub mails: Sealer,
    /// Seals and opens the secrets of outbound webhooks.
    pub webhook_keys: WebhookKeys,
    /// Seals cursors.
    pub cursors: CursorCodec,
    /// Proves the cookies and forms of pages.
    pub(crate) page_keys: PageKeys,
    /// The plans.
    pub catalogue: Arc<Catalogue>,
    /// What the installation chose.
    pub settings: Settings,
    /// The steps of onboarding, in their order.
    pub steps: Vec<Step>,
    pub(crate) dependencies: Vec<Arc<dyn Dependency>>,
    pub(crate) subjects: Vec<Arc<dyn Subjects>>,
    pub(crate) routes: Vec<Routes>,
}

/// Puts an [`App`] together.
#[derive(Debug)]
pub struct AppBuilder {
    store: Store,
    catalogue: Arc<Catalogue>,
    keyring: Keyring,
    billing: Option<Arc<dyn BillingDesk>>,
    previews: PreviewKey,
    pepper: TokenPepper,
    mails: Sealer,
    webhook_keys: WebhookKeys,
    cursors: CursorCodec,
    page_keys: PageKeys,
    settings: Settings,
    steps: Vec<Step>,
    dependencies: Vec<Arc<dyn Dependency>>,
    subjects: Vec<Arc<dyn Subjects>>,
    routes: Vec<Routes>,
}

impl AppBuilder {
    /// The base of links and the issuer of tokens, without a slash at its end. Default: `http://127.0.0.1:8080`.
    #[must_use]
    pub fn public_url(mut self, url: impl Into<String>) -> Self {
        self.settings.public_url = url.into();
        self
    }

    /// Mounts everything below a path, such as `/saas`. Default: the root.
    #[must_use]
    pub fn prefix(mut self, path: &str) -> Self {
        let path = path.trim_matches('/');
        self.settings.prefix = match path {
            "" => String::new(),
            path => format!("/{path}"),
        };
        self
    }

    /// What a workspace pays in unless its sign-up says otherwise. Default: US dollars.
    #[must_use]
    pub fn currency(mut self, currency: Currency) -> Self {
        self.settings.currency = currency;
        self
    }

    /// Whether attempts at passwords, and mails to strangers, are limited. Default: they are.
    #[must_use]
    pub fn limit_attempts(mut self, limit: bool) -> Self {
        self.settings.limit_attempts = limit;
        self
    }

    /// Whose word about a client's address is taken. Default: nobody's.
    #[must_use]
    pub fn trusted_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.settings.trusted_proxies = proxies;
        self
    }

    /// Whether mail leaves the machine. Default: it does not.
    #[must_use]
    pub fn mail_leaves(mut self, leaves: bool) -> Self {
        self.settings.mail_leaves = leaves;
        self
    }

    /// Which addresses outbound webhooks may have. Default: those of the open internet.
    #[must_use]
    pub fn webhook_reach(mut self, reach: Reach) -> Self {
        self.settings.webhook_reach = reach;
        self
    }

    /// Who collects the money. Default: nobody, and plans are granted by an operator.
    #[must_use]
    pub fn billing(mut self, desk: Arc<dyn BillingDesk>) -> Self {
        self.billing = Some(desk);
        self
    }

    /// The steps of onboarding, in their order. Default: the workspace's profile.
    #[must_use]
    pub fn steps(mut self, steps: impl Into<Vec<Step>>) -> Self {
        self.steps = steps.into();
        self
    }

    /// Something else that the server cannot do without: `/readyz` asks it.
    #[must_use]
    pub fn dependency(mut self, dependency: impl Dependency + 'static) -> Self {
        self.dependencies.push(Arc::new(dependency));
        self
    }

    /// What a metric is counted for apart: `POST /v1/entitlements/check` looks its subject up.
    #[must_use]
    pub fn subjects(mut self, subjects: impl Subjects + 'static) -> Self {
        self.subjects.push(Arc::new(subjects));
        self
    }

    /// Routes of a product, beside the core's and below the same path, in the same document.
    #[must_use]
    pub fn routes(mut self, routes: Routes) -> Self {
        self.routes.push(routes);
        self
    }

    /// The application.
    #[must_use]
    pub fn build(mut self) -> App {
        self.settings.public_url += &self.settings.prefix;
        let billing = self.billing.unwrap_or_else(|| {
            let billing = Billing {
                store: self.store.clone(),
                gateway: ManualGateway,
                env: self.store.env().clone(),
                catalogue: self.catalogue.as_ref().clone(),
                policy: Policy::default(),
            };
            let nothing = WebhookSecrets::new(Vec::new());
            Arc::new(Desk::new(Arc::new(billing), self.previews, nothing))
        });
        App {
            store: self.store,
            billing,
            issuer: TokenIssuer::new(self.keyring, self.settings.public_url.clone()),
            hasher: PasswordHasher::standard(),
            pepper: self.pepper,
            key_uses: KeyUses::default(),
            ingest: IngestQueue::default(),
            mails: self.mails,
            webhook_keys: self.webhook_keys,
            cursors: self.cursors,
            page_keys: self.page_keys,
            catalogue: self.catalogue,
            settings: self.settings,
            steps: self.steps,
            dependencies: self.dependencies,
            subjects: self.subjects,
            routes: self.routes,
        }
    }
}

impl App {
    /// Begins to put an application together. Secrets of its own are derived from `master`; `keyring` signs access
    /// tokens (see [`load_keyring`](rawdrive_identity::load_keyring)).
    #[must_use]
    pub fn builder(
        store: Store,
        catalogue: Arc<Catalogue>,
        master: &MasterKey,
        keyring: Keyring,
    ) -> AppBuilder {
        AppBuilder {
            store,
            catalogue,
            keyring,
            billing: None,
            previews: PreviewKey::new(&master.derive("plan previews")),
            pepper: TokenPepper::new(&master.derive("token hashes")),
            mails: Sealer::new(master, "mails"),
            webhook_keys: WebhookKeys::new(master),
            cursors: CursorCodec::new(&master.derive("cursors")),
            page_keys: PageKeys::new(master),
            settings: Settings {
                public_url: "http://127.0.0.1:8080".to_owned(),
                prefix: String::new(),
                currency: Currency::USD,
                limit_attempts: true,
                trusted_proxies: TrustedProxies::default(),
                mail_leaves: false,
                webhook_reach: Reach::Public,
            },
            steps: vec![rawdrive_onboarding::PROFILE],
            dependencies: Vec::new(),
            subjects: Vec::new(),
            routes: Vec::new(),
        }
    }

    /// Time, ids and randomness.
    #[must_use]
    pub fn env(&self) -> &Env {
        self.store.env()
    }

    /// The outermost middleware of the actix application that this is mounted into.
    #[must_use]
    pub fn edge(&self) -> Edge {
        Edge::new(self.env().clone())
            .problems_under(&self.settings.prefix)
            .https_only(self.settings.public_url.starts_with("https://"))
    }

    /// The path that everything is mounted below.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.settings.prefix
    }

    /// The words of the products whose routes are mounted.
    pub(crate) fn vocabularies(&self) -> impl Iterator<Item = &Vocabulary> {
        self.routes.iter().map(|routes| &routes.vocabulary)
    }

    /// Where what has this id can be read, if it has an address of its own.
    pub(crate) fn address_of(&self, id: &str) -> Option<String> {
        let (kind, _) = id.split_once('_')?;
        let words = [&VOCABULARY].into_iter().chain(self.vocabularies());
        let resources = words.flat_map(|words| words.resources);
        let address = resources
            .filter(|resource| resource.prefix == kind)
            .find_map(|resource| resource.address)?;
        Some(format!("{}{address}/{id}", self.settings.prefix))
    }

    /// Whether the workspace has that of which a metric is counted apart; nothing where no product keeps such things, and
    /// whatever is named has its own count.
    ///
    /// # Errors
    /// The database does not answer.
    pub(crate) async fn subject_exists(
        &self,
        reader: &Reader,
        kind: &str,
        id: &str,
    ) -> Result<Option<bool>, StoreError> {
        match self.subjects.iter().find(|known| known.kind() == kind) {
            Some(known) => Ok(Some(known.exists(reader, id).await?)),
            None => Ok(None),
        }
    }

    /// Where a workspace is upgraded. A front end that adds `?feature=` or `?metric=` has the page say what was refused.
    #[must_use]
    pub fn upgrade_url(&self) -> String {
        format!("{}{UPGRADE_PATH}", self.settings.public_url)
    }

    /// The link that a mail brings, to one of this installation's pages.
    #[must_use]
    pub fn mailed_link(&self, path: &str, token: &str) -> String {
        format!("{}{path}?token={token}", self.settings.public_url)
    }

    /// Has a letter to somebody outside the workspace delivered after the transaction's commit, where the workspace
    /// may write to strangers. It is sealed until then: its links may be credentials. Call it last in the transaction.
    ///
    /// # Errors
    /// 403 `email_not_verified`, 429, or the database does not answer.
    pub async fn post_to_stranger(
        &self,
        tx: &mut WriteTx,
        to: &EmailAddress,
        letter: &Letter,
    ) -> Result<(), Problem> {
        let policy = MailPolicy {
            leaves: self.settings.mail_leaves,
            limited: self.settings.limit_attempts,
        };
        let workspace = tx.scope().workspace();
        let context = workspace.to_string();
        let sealed = self.mails.seal(self.env(), &context, &letter.text());
        tx.enqueue(&SendMail { sealed }, None)?;
        let admitted = admit_stranger_mail(tx, self.env(), policy, workspace, to).await;
        admitted.map_err(|error| match error {
            error @ StrangerMailError::Unverified => Problem::new(
                Code::EmailNotVerified,
                format!(
                    "{} Follow the link that was mailed at sign-up, or ask for another one by POST /v1/email-verifications.",
                    sentence(&error)
                ),
            ),
            error @ StrangerMailError::TooMany {
                retry_after_seconds,
            } => Problem::new(Code::RateLimited, sentence(&error))
                .retry_after(u64::from(retry_after_seconds)),
            StrangerMailError::Store(error) => error.into(),
        })
    }

    /// Tells of onboarding's completion, if this transaction is what completes it: see
    /// [`review`](rawdrive_onboarding::review).
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn review_onboarding(&self, tx: &mut WriteTx) -> Result<(), StoreError> {
        rawdrive_onboarding::review(tx, self.env(), &self.steps).await
    }

    pub(crate) fn attempts(&self) -> Attempts<'_> {
        Attempts {
            store: self.settings.limit_attempts.then_some(&self.store),
            states: Mutex::default(),
        }
    }
}

/// Counts attempts, or does not where the installation has switched limits off; and hears how the limits stand, for the
/// headers of the answer.
pub(crate) struct Attempts<'a> {
    store: Option<&'a Store>,
    states: Mutex<Vec<LimitState>>,
}

impl Attempts<'_> {
    /// Has the answer to this request tell how the limits stand.
    pub(crate) fn announce(&self, request: &HttpRequest) {
        let states = std::mem::take(&mut *self.states());
        RateLimits::of(states).announce(request);
    }

    fn states(&self) -> MutexGuard<'_, Vec<LimitState>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PasswordAttempts for Attempts<'_> {
    async fn counts(&self, keys: &[CounterKey]) -> Result<Vec<Option<Count>>, StoreError> {
        match self.store {
            Some(store) => store.counts(keys).await,
            None => Ok(vec![None; keys.len()]),
        }
    }

    async fn change<R: Send>(
        &self,
        keys: &[CounterKey],
        change: impl FnOnce(&mut [Option<Count>]) -> R + Send,
    ) -> Result<R, StoreError> {
        match self.store {
            Some(store) => store.change(keys, change).await,
            None => Ok(change(&mut vec![None; keys.len()])),
        }
    }

    fn tell(&self, states: &[LimitState]) {
        if self.store.is_some() {
            let mut told = self.states();
            told.retain(|old| states.iter().all(|new| new.name != old.name));
            told.extend_from_slice(states);
        }
    }
}

/// RFC 3339 in UTC, as every time on the wire.
#[must_use]
pub fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}
