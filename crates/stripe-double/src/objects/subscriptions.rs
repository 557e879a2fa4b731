//! Subscriptions and their items.

use serde_json::{Value, json};

use crate::json::{Fields as _, embedded_list};

/// A new subscription of a customer; what the request chose is set afterwards.
pub(crate) fn subscription(id: &str, customer: &Value, currency: &str, now: i64) -> Value {
    json!({
        "id": id,
        "object": "subscription",
        "application": null,
        "application_fee_percent": null,
        "automatic_tax": { "disabled_reason": null, "enabled": false, "liability": null },
        "billing_cycle_anchor": now,
        "billing_cycle_anchor_config": null,
        // What this version gives where the request says nothing.
        "billing_mode": { "flexible": { "proration_discounts": "included" }, "type": "flexible" },
        "billing_schedules": [],
        "billing_thresholds": null,
        "cancel_at": null,
        "cancel_at_period_end": false,
        "canceled_at": null,
        "cancellation_details": {
            "comment": null,
            "feedback": null,
            "feedback_option": null,
            "reason": null,
        },
        "collection_method": "charge_automatically",
        "created": now,
        "currency": currency,
        "customer": customer["id"],
        "customer_account": null,
        "days_until_due": null,
        "default_payment_method": null,
        "default_source": null,
        "default_tax_rates": [],
        "description": null,
        "discounts": [],
        "ended_at": null,
        "invoice_settings": {
            "account_tax_ids": null,
            "custom_fields": null,
            "description": null,
            "footer": null,
            "issuer": { "type": "self" },
        },
        "items": embedded_list(Vec::new(), &format!("/v1/subscription_items?subscription={id}")),
        "latest_invoice": null,
        "livemode": false,
        "managed_payments": { "enabled": false },
        "metadata": {},
        "next_pending_invoice_item_invoice": null,
        "on_behalf_of": null,
        "pause_collection": null,
        "payment_settings": {
            "payment_method_options": null,
            "payment_method_types": null,
            "save_default_payment_method": "off",
        },
        "pending_invoice_item_interval": null,
        "pending_setup_intent": null,
        "pending_update": null,
        "schedule": null,
        "start_date": now,
        "status": "active",
        "test_clock": customer["test_clock"],
        "transfer_data": null,
        "trial_end": null,
        "trial_settings": {
            "end_behavior": {
                "billing_cycle_anchor": null,
                "missing_payment_method": "create_invoice",
            },
        },
        "trial_start": null,
    })
}

/// An item of a subscription. `current_period_start` and `current_period_end` live here, not on the
/// subscription, since 2025-03-31.basil.
pub(crate) fn subscription_item(
    id: &str,
    subscription: &str,
    price: &Value,
    quantity: i64,
    now: i64,
) -> Value {
    json!({
        "id": id,
        "object": "subscription_item",
        "billing_thresholds": null,
        "created": now,
        "current_period_end": now,
        "current_period_start": now,
        "current_trial": null,
        "discounts": [],
        "metadata": {},
        "plan": plan(price),
        "price": price,
        "quantity": quantity,
        "subscription": subscription,
        "tax_rates": [],
        "_billed": null,
    })
}

/// The deprecated plan that Stripe still shows beside a price.
pub(crate) fn plan(price: &Value) -> Value {
    let recurring = &price["recurring"];
    json!({
        "id": price["id"],
        "object": "plan",
        "active": price["active"],
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
        "billing_scheme": price["billing_scheme"],
        "created": price["created"],
        "currency": price["currency"],
        "interval": recurring.text("interval"),
        "interval_count": recurring.number("interval_count"),
        "livemode": false,
        "metadata": price["metadata"],
        "meter": null,
        "nickname": price["nickname"],
        "product": price["product"],
        "tiers_mode": null,
        "transform_usage": null,
        "trial_period_days": null,
        "usage_type": "licensed",
    })
}
