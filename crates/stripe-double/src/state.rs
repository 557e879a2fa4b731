//! Everything the double knows: objects by id, the events they caused, and the time being lived.
//!
//! One lock holds one [`World`]. A request or a tick works on it from beginning to end, so that no reader sees
//! half of a change. Objects are shared until written, which makes a copy cheap: previews work on one, and a
//! change that Stripe would undo is undone by going back to one.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::config::Account;
use crate::engine::scheduler::{self, Deed};
use crate::json::{Fields as _, previous_attributes, visible};
use crate::wire::error::ApiError;

/// The API version that every object follows.
pub(crate) const API_VERSION: &str = "2026-09-30.endive";

/// The collections that objects lie in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Customer,
    BalanceTransaction,
    Product,
    Price,
    PaymentMethod,
    SetupIntent,
    PaymentIntent,
    Charge,
    Refund,
    Dispute,
    Subscription,
    Schedule,
    Invoice,
    InvoicePayment,
    InvoiceItem,
    CheckoutSession,
    PortalSession,
    PortalConfiguration,
    Event,
    WebhookEndpoint,
    TestClock,
}

impl Kind {
    pub(crate) const ALL: [Self; 21] = [
        Self::Customer,
        Self::BalanceTransaction,
        Self::Product,
        Self::Price,
        Self::PaymentMethod,
        Self::SetupIntent,
        Self::PaymentIntent,
        Self::Charge,
        Self::Refund,
        Self::Dispute,
        Self::Subscription,
        Self::Schedule,
        Self::Invoice,
        Self::InvoicePayment,
        Self::InvoiceItem,
        Self::CheckoutSession,
        Self::PortalSession,
        Self::PortalConfiguration,
        Self::Event,
        Self::WebhookEndpoint,
        Self::TestClock,
    ];

    /// What `object` says.
    pub(crate) fn object(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::BalanceTransaction => "customer_balance_transaction",
            Self::Product => "product",
            Self::Price => "price",
            Self::PaymentMethod => "payment_method",
            Self::SetupIntent => "setup_intent",
            Self::PaymentIntent => "payment_intent",
            Self::Charge => "charge",
            Self::Refund => "refund",
            Self::Dispute => "dispute",
            Self::Subscription => "subscription",
            Self::Schedule => "subscription_schedule",
            Self::Invoice => "invoice",
            Self::InvoicePayment => "invoice_payment",
            Self::InvoiceItem => "invoiceitem",
            Self::CheckoutSession => "checkout.session",
            Self::PortalSession => "billing_portal.session",
            Self::PortalConfiguration => "billing_portal.configuration",
            Self::Event => "event",
            Self::WebhookEndpoint => "webhook_endpoint",
            Self::TestClock => "test_helpers.test_clock",
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Customer => "cus_",
            Self::BalanceTransaction => "cbtxn_1",
            Self::Product => "prod_",
            Self::Price => "price_1",
            Self::PaymentMethod => "pm_1",
            Self::SetupIntent => "seti_1",
            Self::PaymentIntent => "pi_3",
            Self::Charge => "ch_3",
            Self::Refund => "re_3",
            Self::Dispute => "du_1",
            Self::Subscription => "sub_1",
            Self::Schedule => "sub_sched_1",
            Self::Invoice => "in_1",
            Self::InvoicePayment => "inpay_1",
            Self::InvoiceItem => "ii_1",
            Self::CheckoutSession => "cs_test_a1",
            Self::PortalSession => "bps_1",
            Self::PortalConfiguration => "bpc_1",
            Self::Event => "evt_1",
            Self::WebhookEndpoint => "we_1",
            Self::TestClock => "clock_1",
        }
    }

    /// How an error names one.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::PaymentMethod => "PaymentMethod",
            Self::SetupIntent => "setupintent",
            Self::Schedule => "subscription schedule",
            Self::CheckoutSession => "checkout.session",
            Self::PortalConfiguration => "configuration",
            Self::WebhookEndpoint => "webhook endpoint",
            Self::TestClock => "test clock",
            other => other.object(),
        }
    }
}

/// What caused an event: the request's id and idempotency key, both absent when time did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cause {
    pub(crate) request_id: Option<String>,
    pub(crate) idempotency_key: Option<String>,
}

type Wish = (i64, Deed, u64, String);

/// Everything the double knows.
#[derive(Clone)]
pub(crate) struct World {
    tables: HashMap<Kind, Vec<String>>,
    objects: HashMap<String, (Kind, Arc<Value>)>,
    /// What time will do, by clock: when, what, the order of coming about, to which object.
    agenda: HashMap<Option<String>, BTreeSet<Wish>>,
    wishes: HashMap<String, (Option<String>, Wish)>,
    /// The time being lived: the clock's, a test clock's, or the due time of what is being made up for.
    pub(crate) now: i64,
    pub(crate) cause: Cause,
    pub(crate) account: Account,
    /// Where the double can be reached, for the addresses of hosted pages.
    pub(crate) base_url: String,
    /// Events that nobody has been told of yet.
    pub(crate) outbox: Vec<String>,
    /// In a preview nothing is announced.
    pub(crate) silent: bool,
    /// Counts changes; breaks ties between what is due at one moment.
    revision: u64,
}

impl World {
    pub(crate) fn new(account: Account, base_url: String, now: i64) -> Self {
        Self {
            tables: HashMap::new(),
            objects: HashMap::new(),
            agenda: HashMap::new(),
            wishes: HashMap::new(),
            now,
            cause: Cause::default(),
            account,
            base_url,
            outbox: Vec::new(),
            silent: false,
            revision: 0,
        }
    }

    /// Counts changes: the same number means the same objects.
    pub(crate) const fn revision(&self) -> u64 {
        self.revision
    }

    /// A new id of a kind, random so that a restarted double never gives one again.
    pub(crate) fn new_id(&self, kind: Kind) -> String {
        let length = match kind {
            Kind::Customer | Kind::Product => 14,
            Kind::CheckoutSession => 56,
            _ => 23,
        };
        format!("{}{}", kind.prefix(), random_text(length))
    }

    pub(crate) fn insert(&mut self, kind: Kind, object: Value) -> String {
        let id = object.text("id").to_owned();
        self.tables.entry(kind).or_default().push(id.clone());
        self.objects.insert(id.clone(), (kind, Arc::new(object)));
        self.reconsider(&id);
        id
    }

    /// Takes an object away without a trace, as if it had never been made.
    pub(crate) fn forget(&mut self, id: &str) {
        if let Some((kind, _)) = self.objects.remove(id)
            && let Some(ids) = self.tables.get_mut(&kind)
        {
            ids.retain(|other| other != id);
        }
        self.reconsider(id);
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Value> {
        self.objects.get(id).map(|(_, object)| object.as_ref())
    }

    pub(crate) fn kind_of(&self, id: &str) -> Option<Kind> {
        self.objects.get(id).map(|(kind, _)| *kind)
    }

    /// A copy of an object; null where there is none.
    pub(crate) fn copy(&self, id: &str) -> Value {
        self.get(id).cloned().unwrap_or(Value::Null)
    }

    /// An object that a parameter or the path names, or Stripe's error.
    pub(crate) fn find(
        &self,
        kind: Kind,
        id: &str,
        param: &str,
        in_path: bool,
    ) -> Result<Value, ApiError> {
        match self.objects.get(id) {
            Some((found, object)) if *found == kind && !object.flag("deleted") => {
                Ok(object.as_ref().clone())
            }
            _ => Err(ApiError::no_such(kind.noun(), id, param, in_path)),
        }
    }

    /// All objects of a kind, oldest first; deleted ones too.
    pub(crate) fn all(&self, kind: Kind) -> impl DoubleEndedIterator<Item = &Value> {
        let ids = self.tables.get(&kind).map_or(&[][..], Vec::as_slice);
        ids.iter().filter_map(|id| self.get(id))
    }

    pub(crate) fn ids(&self, kind: Kind) -> Vec<String> {
        self.tables.get(&kind).cloned().unwrap_or_default()
    }

    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.tables.get(&kind).map_or(0, Vec::len)
    }

    /// Changes an object without telling anybody.
    pub(crate) fn edit(&mut self, id: &str, change: impl FnOnce(&mut Value)) {
        if let Some((_, object)) = self.objects.get_mut(id) {
            change(Arc::make_mut(object));
            self.reconsider(id);
        }
    }

    /// Changes an object and, if that shows, emits `event` with what the fields were before.
    pub(crate) fn update(&mut self, id: &str, event: &str, change: impl FnOnce(&mut Value)) {
        let before = visible(&self.copy(id));
        self.edit(id, change);
        let after = visible(&self.copy(id));
        if before != after {
            self.emit_changed(event, id, &before);
        }
    }

    /// Emits an event about an object as it is now.
    pub(crate) fn emit(&mut self, event: &str, id: &str) {
        let object = self.copy(id);
        self.emit_object(event, &object, None);
    }

    /// Emits an event about an object as it is now, with what differs from `before`.
    pub(crate) fn emit_changed(&mut self, event: &str, id: &str, before: &Value) {
        let object = self.copy(id);
        let previous = previous_attributes(&visible(before), &visible(&object));
        self.emit_object(event, &object, Some(Value::Object(previous)));
    }

    /// Emits an event about an object that need not be stored.
    pub(crate) fn emit_object(&mut self, event: &str, object: &Value, previous: Option<Value>) {
        if self.silent || object.flag("_unannounced") {
            return;
        }
        let mut data = json!({ "object": visible(object) });
        if let Some(previous) = previous {
            data["previous_attributes"] = previous;
        }
        let listeners = self
            .all(Kind::WebhookEndpoint)
            .filter(|endpoint| endpoint.text("status") == "enabled" && listens(endpoint, event));
        let pending = listeners.count();
        let id = self.new_id(Kind::Event);
        let event = json!({
            "id": id,
            "object": "event",
            "api_version": API_VERSION,
            "created": self.now,
            "data": data,
            "livemode": false,
            "pending_webhooks": pending,
            "request": {
                "id": self.cause.request_id,
                "idempotency_key": self.cause.idempotency_key,
            },
            "type": event,
        });
        self.insert(Kind::Event, event);
        self.outbox.push(id);
    }

    /// Notes anew what time will do to an object.
    fn reconsider(&mut self, id: &str) {
        self.revision += 1;
        self.silence_wish(id);
        let Some((kind, object)) = self.objects.get(id) else {
            return;
        };
        let Some((at, deed)) = scheduler::wish(*kind, object, &self.account) else {
            return;
        };
        let wish = (at, deed, self.revision, id.to_owned());
        let clock = self.clock_of(id);
        self.agenda
            .entry(clock.clone())
            .or_default()
            .insert(wish.clone());
        self.wishes.insert(id.to_owned(), (clock, wish));
    }

    /// Time will do nothing to an object until it changes.
    pub(crate) fn silence_wish(&mut self, id: &str) {
        if let Some((clock, wish)) = self.wishes.remove(id)
            && let Some(agenda) = self.agenda.get_mut(&clock)
        {
            agenda.remove(&wish);
        }
    }

    /// What is due first on a clock, if anything is by `horizon`.
    pub(crate) fn next_due(
        &self,
        clock: Option<&str>,
        horizon: i64,
    ) -> Option<(i64, Deed, String)> {
        let agenda = self.agenda.get(&clock.map(str::to_owned))?;
        let (at, deed, _, id) = agenda.first()?;
        (*at <= horizon).then(|| (*at, *deed, id.clone()))
    }

    /// The test clock that an object lives by, its own or its customer's.
    pub(crate) fn clock_of(&self, id: &str) -> Option<String> {
        let object = self.get(id)?;
        if self.kind_of(id) == Some(Kind::TestClock) {
            return Some(id.to_owned());
        }
        if let Some(clock) = object.link("test_clock") {
            return Some(clock.to_owned());
        }
        let customer = self.get(object.link("customer")?)?;
        customer.link("test_clock").map(str::to_owned)
    }
}

/// Whether an endpoint asked for a type of event.
pub(crate) fn listens(endpoint: &Value, event: &str) -> bool {
    let wanted = endpoint.rows("enabled_events");
    wanted
        .iter()
        .any(|kind| kind == "*" || kind.as_str() == Some(event))
}

/// Letters and digits that nobody can guess.
pub(crate) fn random_text(length: usize) -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut bytes = vec![0_u8; length];
    // The generator fails only where the system has no randomness at all; ids would then collide, loudly.
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        tracing::error!("the system gives no randomness");
    }
    let letters = bytes.iter().map(|byte| ALPHABET[usize::from(*byte) % 62]);
    letters.map(char::from).collect()
}
