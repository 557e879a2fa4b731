//! What the billing routes need of whoever collects the money: one value behind a pointer, so that the routes do
//! not care which gateway an installation has, and an embedder can bring its own.

use std::fmt;
use std::future::ready;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rawdrive_billing::{
    Billing, BillingError, CancelWhen, Order, PaymentGateway, PaymentMethodId, Preview, PreviewKey,
    Receipt, Subscription, WebhookError, WebhookSecrets,
};
use rawdrive_store::Store;
use rawdrive_tenancy_core::WorkspaceScope;

/// What a use case of billing comes to.
pub type Asked<'a, T> = BoxFuture<'a, Result<T, BillingError>>;

/// Billing's use cases. [`Desk`] has them for every gateway.
pub trait BillingDesk: Send + Sync + fmt::Debug {
    /// See [`rawdrive_billing::subscribe`].
    fn subscribe<'a>(
        &'a self,
        scope: &'a WorkspaceScope,
        order: &'a Order,
        method: Option<PaymentMethodId>,
    ) -> Asked<'a, Subscription>;
    /// See [`rawdrive_billing::preview`].
    fn preview<'a>(&'a self, scope: &'a WorkspaceScope, order: &'a Order) -> Asked<'a, Preview>;
    /// See [`rawdrive_billing::change_plan`].
    fn change_plan<'a>(
        &'a self,
        scope: &'a WorkspaceScope,
        order: &'a Order,
        commit_token: Option<&'a str>,
    ) -> Asked<'a, Subscription>;
    /// See [`rawdrive_billing::cancel`].
    fn cancel<'a>(&'a self, scope: &'a WorkspaceScope, when: CancelWhen)
    -> Asked<'a, Subscription>;
    /// See [`rawdrive_billing::resume`].
    fn resume<'a>(&'a self, scope: &'a WorkspaceScope) -> Asked<'a, Subscription>;
    /// See [`rawdrive_billing::checkout`].
    fn checkout<'a>(
        &'a self,
        scope: &'a WorkspaceScope,
        order: &'a Order,
        success_url: String,
        cancel_url: String,
    ) -> Asked<'a, String>;
    /// See [`rawdrive_billing::portal`].
    fn portal<'a>(&'a self, scope: &'a WorkspaceScope, return_url: &'a str) -> Asked<'a, String>;
    /// See [`rawdrive_billing::take_webhook`].
    fn take_webhook<'a>(
        &'a self,
        signature: &'a str,
        body: Vec<u8>,
    ) -> BoxFuture<'a, Result<Receipt, WebhookError>>;
    /// See [`PaymentGateway::answers`].
    fn provider_answers(&self) -> Option<bool>;
}

/// Billing on the store, with one gateway.
pub struct Desk<G> {
    billing: Arc<Billing<Store, G>>,
    previews: PreviewKey,
    webhooks: WebhookSecrets,
}

impl<G> fmt::Debug for Desk<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

impl<G> Desk<G> {
    /// A desk. Without webhook secrets no webhook is anybody's.
    #[must_use]
    pub fn new(
        billing: Arc<Billing<Store, G>>,
        previews: PreviewKey,
        webhooks: WebhookSecrets,
    ) -> Self {
        Self {
            billing,
            previews,
            webhooks,
        }
    }
}

impl<G: PaymentGateway> Desk<G> {
    /// Whatever is asked of an installation that takes no payments has this answer, before anything else is looked at.
    fn ask<'a, T: Send + 'a>(
        &'a self,
        asked: impl Future<Output = Result<T, BillingError>> + Send + 'a,
    ) -> Asked<'a, T> {
        if self.billing.gateway.livemode().is_none() {
            return ready(Err(BillingError::NotConfigured)).boxed();
        }
        asked.boxed()
    }
}

impl<G: PaymentGateway + 'static> BillingDesk for Desk<G> {
    fn provider_answers(&self) -> Option<bool> {
        self.billing.gateway.answers()
    }
    fn subscribe<'a>(
        &'a self,
        scope: &'a WorkspaceScope,
        order: &'a Order,
        method: Option<PaymentMethodId>,
    ) -> Asked<'a, Subscription> {
        self.ask(rawdrive_billing::subscribe(
            &*self.billing,
            scope,
            order,
            method,
        ))
    }
    fn preview<'a>(&'a self, scope: &'a WorkspaceScope, order: &'a Order) -> Asked<'a, Preview> {
        self.ask(rawdrive_billing::preview(
            &*self.billing,
            scope,
            &self.previews,
            order,
        ))
    }
    fn change_plan<'a>(
        &'a self,
        scope: &'a WorkspaceScope,
        order: &'a Order,
        commit_token: Option<&'a str>,
    ) -> Asked<'a, Subscription> {
        let (billing, key) = (&*self.billing, &self.previews);
        self.ask(rawdrive_billing::change_plan(
            billing,
            scope,
            key,
            order,
            commit_token,
        ))
    }
    fn cancel<'a>(
        &'a self,
        scope: &'a WorkspaceScope,
        when: CancelWhen,
    ) -> Asked<'a, Subscription> {
        self.ask(rawdrive_billing::cancel(&*self.billing, scope, when))
    }
    fn resume<'a>(&'a self, scope: &'a WorkspaceScope) -> Asked<'a, Subscription> {
        self.ask(rawdrive_billing::resume(&*self.billing, scope))
    }
    fn checkout<'a>(
        &'a self,
        scope: &'a WorkspaceScope,
        order: &'a Order,
        success_url: String,
        cancel_url: String,
    ) -> Asked<'a, String> {
        let billing = &*self.billing;
        self.ask(rawdrive_billing::checkout(
            billing,
            scope,
            order,
            success_url,
            cancel_url,
        ))
    }
    fn portal<'a>(&'a self, scope: &'a WorkspaceScope, return_url: &'a str) -> Asked<'a, String> {
        self.ask(rawdrive_billing::portal(&*self.billing, scope, return_url))
    }
    fn take_webhook<'a>(
        &'a self,
        signature: &'a str,
        body: Vec<u8>,
    ) -> BoxFuture<'a, Result<Receipt, WebhookError>> {
        rawdrive_billing::take_webhook(&*self.billing, &self.webhooks, signature, body).boxed()
    }
}
