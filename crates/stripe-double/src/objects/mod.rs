//! New objects, with every field that Stripe shows.

mod invoices;
mod payments;
mod subscriptions;

pub(crate) use invoices::{
    InvoiceDraft, InvoiceLine, invoice, invoice_item, invoice_payment, line,
};
pub(crate) use payments::{NewCharge, charge, dispute, payment_intent, refund, setup_intent};
pub(crate) use subscriptions::{plan, subscription, subscription_item};
