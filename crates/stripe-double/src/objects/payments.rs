//! Intents, charges, refunds and disputes.

use serde_json::{Value, json};

use crate::cards::Decline;
use crate::json::Fields as _;
use crate::state::random_text;

/// An intent to pay, without a payment method yet.
pub(crate) fn payment_intent(
    id: &str,
    customer: &Value,
    amount: i64,
    currency: &str,
    description: &str,
    now: i64,
) -> Value {
    json!({
        "id": id,
        "object": "payment_intent",
        "allowed_payment_method_types": null,
        "amount": amount,
        "amount_capturable": 0,
        "amount_details": { "tip": {} },
        "amount_received": 0,
        "application": null,
        "application_fee_amount": null,
        "automatic_payment_methods": null,
        "canceled_at": null,
        "cancellation_reason": null,
        "capture_method": "automatic",
        "client_secret": format!("{id}_secret_{}", random_text(25)),
        "confirmation_method": "automatic",
        "created": now,
        "currency": currency,
        "customer": customer["id"],
        "customer_account": null,
        "description": description,
        "excluded_payment_method_types": null,
        "last_payment_error": null,
        "latest_charge": null,
        "livemode": false,
        "managed_payments": { "enabled": false },
        "metadata": {},
        "next_action": null,
        "on_behalf_of": null,
        "payment_method": null,
        "payment_method_configuration_details": null,
        "payment_method_options": {
            "card": {
                "installments": null,
                "mandate_options": null,
                "network": null,
                "request_three_d_secure": "automatic",
            },
        },
        "payment_method_types": ["card"],
        "payment_record": null,
        "processing": null,
        "receipt_email": null,
        "review": null,
        "setup_future_usage": "off_session",
        "shipping": null,
        "source": null,
        "statement_descriptor": null,
        "statement_descriptor_suffix": null,
        "status": "requires_payment_method",
        "transfer_data": null,
        "transfer_group": null,
        "_invoice": null,
    })
}

/// An intent to set a payment method up for later.
pub(crate) fn setup_intent(id: &str, customer: &Value, now: i64) -> Value {
    json!({
        "id": id,
        "object": "setup_intent",
        "allowed_payment_method_types": null,
        "application": null,
        "automatic_payment_methods": null,
        "cancellation_reason": null,
        "client_secret": format!("{id}_secret_{}", random_text(31)),
        "created": now,
        "customer": customer["id"],
        "customer_account": null,
        "description": null,
        "excluded_payment_method_types": null,
        "flow_directions": null,
        "last_setup_error": null,
        "latest_attempt": null,
        "livemode": false,
        "mandate": null,
        "metadata": {},
        "next_action": null,
        "on_behalf_of": null,
        "payment_method": null,
        "payment_method_configuration_details": null,
        "payment_method_options": {
            "card": { "mandate_options": null, "network": null, "request_three_d_secure": "automatic" },
        },
        "payment_method_types": ["card"],
        "single_use_mandate": null,
        "status": "requires_payment_method",
        "usage": "off_session",
        "_subscription": null,
    })
}

/// An attempt on a card.
pub(crate) struct NewCharge<'a> {
    pub(crate) id: String,
    pub(crate) intent: &'a Value,
    pub(crate) payment_method: &'a Value,
    /// Why it failed, if it did.
    pub(crate) decline: Option<Decline>,
    pub(crate) authenticated: bool,
    pub(crate) base_url: &'a str,
    pub(crate) now: i64,
}

/// A charge, succeeded or failed.
pub(crate) fn charge(new: NewCharge<'_>) -> Value {
    let NewCharge {
        id,
        intent,
        payment_method,
        decline,
        authenticated,
        base_url,
        now,
    } = new;
    let amount = intent.number("amount");
    let paid = decline.is_none();
    let card = &payment_method["card"];
    let secure = authenticated.then(|| {
        json!({
            "authentication_flow": "challenge",
            "electronic_commerce_indicator": "05",
            "exemption_indicator": null,
            "result": "authenticated",
            "result_reason": null,
            "transaction_id": null,
            "version": "2.2.0",
        })
    });
    let outcome = match decline {
        None => json!({
            "advice_code": null,
            "network_advice_code": null,
            "network_decline_code": null,
            "network_status": "approved_by_network",
            "reason": null,
            "risk_level": "normal",
            "seller_message": "Payment complete.",
            "type": "authorized",
        }),
        Some(why) => json!({
            "advice_code": if Decline::is_final(why.decline_code) { "do_not_try_again" } else { "try_again_later" },
            "network_advice_code": null,
            "network_decline_code": null,
            "network_status": "declined_by_network",
            "reason": why.decline_code,
            "risk_level": "normal",
            "seller_message": "The bank did not return any further details with this decline.",
            "type": "issuer_declined",
        }),
    };
    let receipt = paid.then(|| format!("{base_url}/receipts/{id}"));
    let transaction = paid.then(|| format!("txn_3{}", random_text(23)));
    json!({
        "id": id,
        "object": "charge",
        "amount": amount,
        "amount_captured": if paid { amount } else { 0 },
        "amount_refunded": 0,
        "application": null,
        "application_fee": null,
        "application_fee_amount": null,
        "balance_transaction": transaction,
        "billing_details": payment_method["billing_details"],
        "calculated_statement_descriptor": "DOUBLE",
        "captured": paid,
        "created": now,
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "disputed": false,
        "failure_balance_transaction": null,
        "failure_code": decline.map(|why| why.code),
        "failure_message": decline.map(|why| why.message),
        "fraud_details": {},
        "livemode": false,
        "metadata": {},
        "on_behalf_of": null,
        "outcome": outcome,
        "paid": paid,
        "payment_intent": intent["id"],
        "payment_method": payment_method["id"],
        "payment_method_details": {
            "card": {
                "amount_authorized": if paid { Some(amount) } else { None },
                "authorization_code": null,
                "brand": card["brand"],
                "checks": card["checks"],
                "country": card["country"],
                "electronic_commerce_indicator": null,
                "exp_month": card["exp_month"],
                "exp_year": card["exp_year"],
                "extended_authorization": { "status": "disabled" },
                "fingerprint": card["fingerprint"],
                "funding": card["funding"],
                "incremental_authorization": { "status": "unavailable" },
                "installments": null,
                "last4": card["last4"],
                "mandate": null,
                "multicapture": { "status": "unavailable" },
                "network": card["brand"],
                "network_token": { "used": false },
                "network_transaction_id": null,
                "overcapture": { "maximum_amount_capturable": amount, "status": "unavailable" },
                "regulated_status": "unregulated",
                "three_d_secure": secure,
                "transaction_link_id": null,
                "wallet": null,
            },
            "type": "card",
        },
        "receipt_email": null,
        "receipt_number": null,
        "receipt_url": receipt,
        "refunded": false,
        "review": null,
        "shipping": null,
        "source": null,
        "source_transfer": null,
        "statement_descriptor": null,
        "statement_descriptor_suffix": null,
        "status": if paid { "succeeded" } else { "failed" },
        "transfer_data": null,
        "transfer_group": null,
        "_dispute_due": false,
    })
}

/// Money given back.
pub(crate) fn refund(
    id: &str,
    charge: &Value,
    amount: i64,
    reason: Option<String>,
    now: i64,
) -> Value {
    json!({
        "id": id,
        "object": "refund",
        "amount": amount,
        "balance_transaction": format!("txn_3{}", random_text(23)),
        "charge": charge["id"],
        "created": now,
        "currency": charge["currency"],
        "customer": charge["customer"],
        "customer_account": null,
        "destination_details": {
            "card": {
                "reference_status": "pending",
                "reference_type": "acquirer_reference_number",
                "type": "refund",
            },
            "type": "card",
        },
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "payment_method": charge["payment_method"],
        "reason": reason,
        "receipt_number": null,
        "source_transfer_reversal": null,
        "status": "succeeded",
        "transfer_reversal": null,
    })
}

/// A dispute of a charge by its card's holder.
pub(crate) fn dispute(id: &str, charge: &Value, reason: &str, now: i64) -> Value {
    let files_and_texts = [
        "access_activity_log",
        "billing_address",
        "cancellation_policy",
        "cancellation_policy_disclosure",
        "cancellation_rebuttal",
        "customer_communication",
        "customer_email_address",
        "customer_name",
        "customer_purchase_ip",
        "customer_signature",
        "duplicate_charge_documentation",
        "duplicate_charge_explanation",
        "duplicate_charge_id",
        "product_description",
        "receipt",
        "refund_policy",
        "refund_policy_disclosure",
        "refund_refusal_explanation",
        "service_date",
        "service_documentation",
        "shipping_address",
        "shipping_carrier",
        "shipping_date",
        "shipping_documentation",
        "shipping_tracking_number",
        "uncategorized_file",
        "uncategorized_text",
    ];
    let mut evidence = json!({ "enhanced_evidence": {} });
    for name in files_and_texts {
        evidence[name] = Value::Null;
    }
    json!({
        "id": id,
        "object": "dispute",
        "amount": charge["amount"],
        "balance_transactions": [],
        "charge": charge["id"],
        "created": now,
        "currency": charge["currency"],
        "enhanced_eligibility_types": [],
        "evidence": evidence,
        "evidence_details": {
            "due_by": now + 9 * crate::calendar::DAY,
            "enhanced_eligibility": {},
            "has_evidence": false,
            "past_due": false,
            "submission_count": 0,
        },
        "is_charge_refundable": false,
        "livemode": false,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "payment_method_details": {
            "card": {
                "brand": charge["payment_method_details"]["card"]["brand"],
                "case_type": "chargeback",
                "network": charge["payment_method_details"]["card"]["network"],
                "network_reason_code": "10.4",
            },
            "type": "card",
        },
        "reason": reason,
        "status": "needs_response",
    })
}
