//! What `localstripe` serves: customers, payment methods, products, subscriptions, invoices, charges, refunds and
//! events, as of API versions from 2017 on. It has plans where the double has prices.

use super::asking::Call;
use super::{Difference, row};

const CUSTOMER: &[&str] = &[
    "id",
    "deleted",
    "email",
    "name",
    "currency",
    "invoice_settings.default_payment_method",
    "created",
    "livemode",
    "metadata",
];

const SUBSCRIPTION: &[&str] = &[
    "id",
    "customer",
    "status",
    "created",
    "livemode",
    "items.data.*.id",
    "items.data.*.quantity",
    "items.data.0.price|items.data.0.plan",
    "items.data.0.price.product|items.data.0.plan.product",
    "items.data.0.price.currency|items.data.0.plan.currency",
    "items.data.0.price.recurring.interval|items.data.0.plan.interval",
    "items.data.0.price.recurring.interval_count|items.data.0.plan.interval_count",
    "items.data.0.price.unit_amount|items.data.0.plan.amount",
    "items.data.0.price.active|items.data.0.plan.active",
    "items.data.0.current_period_start|current_period_start",
    "items.data.0.current_period_end|current_period_end",
    "billing_cycle_anchor",
    "trial_end",
    "cancel_at_period_end",
    "cancel_at",
    "canceled_at",
    "ended_at",
    "pause_collection",
    "default_payment_method",
    "latest_invoice",
    "schedule",
    "pending_update",
    "metadata",
];

const INVOICE: &[&str] = &[
    "id",
    "customer",
    "parent.subscription_details.subscription|subscription",
    "number",
    "status",
    "billing_reason",
    "currency",
    "total",
    "amount_due",
    "amount_paid",
    "amount_remaining",
    "created",
    "lines.data.*.period.start",
    "lines.data.*.period.end",
    "status_transitions.finalized_at",
    "status_transitions.paid_at",
    "status_transitions.voided_at",
    "status_transitions.marked_uncollectible_at",
    "attempted",
    "attempt_count",
    "next_payment_attempt",
    "last_finalization_error",
    "livemode",
    "metadata",
];

const CHARGE: &[&str] = &[
    "id",
    "customer",
    "amount",
    "currency",
    "amount_refunded",
    "created",
    "status",
    "failure_code",
    "outcome.reason",
    "livemode",
];

const REFUSAL: &[&str] = &["error.type", "error.code", "error.decline_code"];

pub(super) fn calls() -> Vec<Call> {
    let mut calls = Vec::new();
    calls.extend(customers());
    calls.extend(catalogue());
    calls.extend(subscriptions());
    calls.extend(invoices());
    calls.extend(refusals());
    calls
}

fn customers() -> Vec<Call> {
    vec![
        Call::post(
            "create a customer",
            "/v1/customers",
            &[
                ("name", "Jo"),
                ("email", "jo@example.com"),
                ("metadata[workspace]", "one"),
            ],
        )
        .keep("customer", "id")
        .keep("prefix", "invoice_prefix")
        .agree(CUSTOMER),
        Call::get("read a customer", "/v1/customers/{customer}").agree(CUSTOMER),
        Call::get("read no customer", "/v1/customers/cus_none").agree(REFUSAL),
        Call::post(
            "create another customer",
            "/v1/customers",
            &[("name", "Jim")],
        )
        .keep("other customer", "id")
        .keep("other prefix", "invoice_prefix")
        .agree(CUSTOMER),
        Call::get("list customers", "/v1/customers?limit=100").agree(&["data.*.id", "has_more"]),
        Call::get("list a page of customers", "/v1/customers?limit=1").agree(&["has_more"]),
        Call::get(
            "list customers from a time on",
            "/v1/customers?created[gte]=1500000000",
        ),
        Call::post(
            "attach a card",
            "/v1/payment_methods/pm_card_visa/attach",
            &[("customer", "{customer}")],
        )
        .keep("card", "id")
        .agree(&["id", "customer"]),
        Call::post(
            "make a card the default",
            "/v1/customers/{customer}",
            &[("invoice_settings[default_payment_method]", "{card}")],
        )
        .agree(CUSTOMER),
        Call::post(
            "attach a card to no customer",
            "/v1/payment_methods/pm_card_visa/attach",
            &[("customer", "cus_none")],
        )
        .agree(REFUSAL),
        Call::post(
            "attach a card that is declined",
            "/v1/payment_methods/pm_card_visa_chargeDeclined/attach",
            &[("customer", "{customer}")],
        )
        .agree(REFUSAL),
        Call::get(
            "list cards",
            "/v1/payment_methods?customer={customer}&type=card",
        )
        .agree(&["data.*.id", "has_more"]),
        Call::get(
            "read events of a type",
            "/v1/events?type=customer.created&limit=100",
        )
        .agree(&[
            "data.*.type",
            "data.*.created",
            "data.*.livemode",
            "data.*.data.object.id",
            "has_more",
        ]),
        Call::get(
            "read events from a time on",
            "/v1/events?type=customer.created&created[gte]=1801389600&limit=100",
        )
        .agree(&["data.*.data.object.id"]),
        Call::get(
            "read events that were not delivered",
            "/v1/events?delivery_success=false&limit=100",
        ),
    ]
}

fn catalogue() -> Vec<Call> {
    vec![
        Call::post(
            "create a product",
            "/v1/products",
            &[
                ("id", "professional"),
                ("name", "Professional"),
                ("metadata[plan]", "professional"),
            ],
        )
        .agree(&["id"]),
        Call::get("read a product", "/v1/products/professional").agree(&["id"]),
        Call::get("read no product", "/v1/products/none").agree(REFUSAL),
        Call::post(
            "create a product that is there",
            "/v1/products",
            &[("id", "professional"), ("name", "Professional")],
        )
        .agree(REFUSAL),
        price("professional", "2900"),
        plan("professional", "2900"),
        price("enterprise", "9900"),
        plan("enterprise", "9900"),
    ]
}

/// What a plan is to `localstripe`.
fn price(name: &'static str, amount: &'static str) -> Call {
    let form = [
        ("product", "professional"),
        ("currency", "usd"),
        ("unit_amount", amount),
        ("recurring[interval]", "month"),
    ];
    Call::post("create a price", "/v1/prices", &form)
        .keep(name, "id")
        .double_alone()
}

fn plan(name: &'static str, amount: &'static str) -> Call {
    let form = [
        ("product", "professional"),
        ("currency", "usd"),
        ("amount", amount),
        ("interval", "month"),
    ];
    Call::post("create a plan", "/v1/plans", &form)
        .keep(name, "id")
        .other_alone()
}

fn subscriptions() -> Vec<Call> {
    vec![
        Call::post(
            "subscribe",
            "/v1/subscriptions",
            &[
                ("customer", "{customer}"),
                ("items[0][price]", "{professional}"),
                ("payment_behavior", "allow_incomplete"),
                ("metadata[operation]", "one"),
            ],
        )
        .of_other(&[
            ("customer", "{customer}"),
            ("items[0][plan]", "{professional}"),
            ("payment_behavior", "allow_incomplete"),
            ("metadata[operation]", "one"),
        ])
        .keep("subscription", "id")
        .keep("item", "items.data.0.id")
        .keep("first invoice", "latest_invoice")
        .agree(SUBSCRIPTION),
        Call::get("read a subscription", "/v1/subscriptions/{subscription}").agree(SUBSCRIPTION),
        Call::get("read no subscription", "/v1/subscriptions/sub_none").agree(REFUSAL),
        Call::get(
            "read a subscription with its schedule",
            "/v1/subscriptions/{subscription}?expand[]=schedule",
        ),
        Call::get(
            "list subscriptions",
            "/v1/subscriptions?customer={customer}&status=all&limit=100",
        )
        .agree(&["data.*.id", "data.*.status", "has_more"]),
        Call::post(
            "leave a mark on a subscription",
            "/v1/subscriptions/{subscription}",
            &[("metadata[operation]", "two")],
        )
        .agree(SUBSCRIPTION),
        Call::post(
            "plan an end",
            "/v1/subscriptions/{subscription}",
            &[("cancel_at_period_end", "true")],
        )
        .agree(SUBSCRIPTION),
        Call::post(
            "take the end back",
            "/v1/subscriptions/{subscription}",
            &[("cancel_at_period_end", "false")],
        )
        .agree(SUBSCRIPTION),
        Call::post(
            "preview a change",
            "/v1/invoices/create_preview",
            &[
                ("customer", "{customer}"),
                ("subscription", "{subscription}"),
                ("subscription_details[items][0][id]", "{item}"),
                ("subscription_details[items][0][price]", "{enterprise}"),
                ("subscription_details[proration_behavior]", "always_invoice"),
                ("subscription_details[proration_date]", "1801389600"),
            ],
        )
        .of_other(&[
            ("customer", "{customer}"),
            ("subscription", "{subscription}"),
            ("subscription_details[items][0][plan]", "{enterprise}"),
            ("subscription_details[proration_date]", "1801389600"),
        ])
        .agree(&["currency", "total", "amount_due"]),
        Call::post(
            "change the price",
            "/v1/subscriptions/{subscription}",
            &[
                ("items[0][id]", "{item}"),
                ("items[0][price]", "{enterprise}"),
                ("proration_behavior", "create_prorations"),
            ],
        )
        .of_other(&[
            ("items[0][id]", "{item}"),
            ("items[0][plan]", "{enterprise}"),
        ])
        .agree(SUBSCRIPTION),
        Call::post(
            "subscribe on trial",
            "/v1/subscriptions",
            &[
                ("customer", "{customer}"),
                ("items[0][price]", "{professional}"),
                ("trial_period_days", "14"),
            ],
        )
        .of_other(&[
            ("customer", "{customer}"),
            ("items[0][plan]", "{professional}"),
            ("trial_period_days", "14"),
        ])
        .keep("trial", "id")
        .agree(&[
            "status",
            "trial_end",
            "items.data.0.current_period_end|current_period_end",
            "latest_invoice",
        ]),
        Call::delete("end a subscription", "/v1/subscriptions/{trial}").agree(&[
            "id",
            "status",
            "ended_at",
            "canceled_at",
            "cancel_at_period_end",
        ]),
        Call::get("read what has ended", "/v1/subscriptions/{trial}").agree(&[
            "id",
            "status",
            "ended_at",
            "canceled_at",
        ]),
        Call::delete("end what has ended", "/v1/subscriptions/{trial}").agree(REFUSAL),
    ]
}

fn invoices() -> Vec<Call> {
    vec![
        Call::get("read a paid invoice", "/v1/invoices/{first invoice}").agree(INVOICE),
        Call::get("read no invoice", "/v1/invoices/in_none").agree(REFUSAL),
        Call::get(
            "list a subscription's invoices",
            "/v1/invoices?customer={customer}&subscription={subscription}&limit=100",
        )
        .agree(&["data.*.id", "data.*.status", "data.*.total", "has_more"]),
        Call::post(
            "void a paid invoice",
            "/v1/invoices/{first invoice}/void",
            &[],
        )
        .agree(REFUSAL),
        Call::get("list charges", "/v1/charges?customer={customer}&limit=100")
            .keep("charge", "data.0.id")
            .keep("intent", "data.0.payment_intent")
            .agree(&["data.*.id", "data.*.amount", "data.*.status", "has_more"]),
        Call::get(
            "list an intent's charges",
            "/v1/charges?payment_intent={intent}&limit=100",
        ),
        Call::get("read a charge", "/v1/charges/{charge}").agree(CHARGE),
        Call::get("read no charge", "/v1/charges/ch_none").agree(REFUSAL),
        Call::get("read an intent", "/v1/payment_intents/{intent}").agree(&[
            "id",
            "status",
            "created",
            "last_payment_error",
        ]),
        Call::post(
            "refund a part",
            "/v1/refunds",
            &[("charge", "{charge}"), ("amount", "900")],
        )
        .agree(&["amount", "charge", "status"]),
        Call::get("read a charge after a refund", "/v1/charges/{charge}").agree(CHARGE),
    ]
}

/// What a card that attaches and does not pay leads to.
fn refusals() -> Vec<Call> {
    vec![
        Call::post(
            "attach a card that will not pay",
            "/v1/payment_methods/pm_card_chargeCustomerFail/attach",
            &[("customer", "{other customer}")],
        )
        .keep("bad card", "id")
        .agree(&["id", "customer"]),
        Call::post(
            "make it the default",
            "/v1/customers/{other customer}",
            &[("invoice_settings[default_payment_method]", "{bad card}")],
        )
        .agree(CUSTOMER),
        Call::post(
            "subscribe without a success",
            "/v1/subscriptions",
            &[
                ("customer", "{other customer}"),
                ("items[0][price]", "{professional}"),
                ("payment_behavior", "error_if_incomplete"),
            ],
        )
        .of_other(&[
            ("customer", "{other customer}"),
            ("items[0][plan]", "{professional}"),
            ("payment_behavior", "error_if_incomplete"),
        ])
        .agree(REFUSAL),
        Call::post(
            "subscribe, unpaid",
            "/v1/subscriptions",
            &[
                ("customer", "{other customer}"),
                ("items[0][price]", "{professional}"),
                ("payment_behavior", "allow_incomplete"),
            ],
        )
        .of_other(&[
            ("customer", "{other customer}"),
            ("items[0][plan]", "{professional}"),
            ("payment_behavior", "allow_incomplete"),
        ])
        .keep("incomplete", "id")
        .keep("unpaid invoice", "latest_invoice")
        .agree(&[
            "customer",
            "status",
            "latest_invoice",
            "items.data.0.current_period_start|current_period_start",
            "items.data.0.current_period_end|current_period_end",
        ]),
        Call::get("read an unpaid invoice", "/v1/invoices/{unpaid invoice}").agree(INVOICE),
        Call::get(
            "list failed charges",
            "/v1/charges?customer={other customer}&limit=100",
        )
        .keep("failed charge", "data.0.id")
        .keep("failed intent", "data.0.payment_intent"),
        Call::get("read a failed charge", "/v1/charges/{failed charge}").agree(CHARGE),
        Call::get(
            "read an intent that failed",
            "/v1/payment_intents/{failed intent}",
        )
        .agree(&[
            "status",
            "last_payment_error.type",
            "last_payment_error.code",
            "last_payment_error.decline_code",
        ]),
        Call::post(
            "void an unpaid invoice",
            "/v1/invoices/{unpaid invoice}/void",
            &[],
        )
        .agree(&[
            "id",
            "status",
            "status_transitions.voided_at",
            "amount_paid",
        ]),
        Call::get(
            "read a subscription whose first invoice is void",
            "/v1/subscriptions/{incomplete}",
        )
        .agree(&["status"]),
        Call::delete("delete a customer", "/v1/customers/{other customer}")
            .agree(&["id", "deleted"]),
        Call::get("read a deleted customer", "/v1/customers/{other customer}")
            .agree(&["id", "deleted"]),
        Call::get("ask without a key", "/v1/customers/{customer}")
            .anonymous()
            .agree(&["error.type"]),
    ]
}

const CODE: &str = "every error of this kind has a code, <https://docs.stripe.com/error-codes>; localstripe's have none";
const CURRENCY: &str = "null until something is billed in one, <https://docs.stripe.com/api/customers/object>; localstripe says eur of everybody";
const ORDER: &str = "lists are sorted with the newest first, <https://docs.stripe.com/api/pagination>; localstripe sorts by age";
const NO_CREATED: &str = "a list of customers takes created, <https://docs.stripe.com/api/customers/list>; localstripe refuses it";
const NOT_IN_PATH: &str = "404 is for what the path names, 400 for what a parameter names, <https://docs.stripe.com/api/errors>";
const CARD_ERROR: &str = "a decline is a card_error with the decline's code, <https://docs.stripe.com/api/errors>; every error of localstripe has one type";
const NO_DELIVERY: &str = "a list of events takes delivery_success, <https://docs.stripe.com/api/events/list>; localstripe refuses it";
const TAKEN: &str = "400 with resource_already_exists, <https://docs.stripe.com/error-codes>; 409 is kept for a conflict such as of idempotency keys, <https://docs.stripe.com/api/errors>";
const ANCHOR: &str = "the start, where nothing else was asked for, <https://docs.stripe.com/api/subscriptions/object>; localstripe only repeats what was sent";
const NO_SCHEDULE: &str = "a subscription has a schedule to expand, if a null one, <https://docs.stripe.com/api/subscriptions/object>; localstripe's have none";
const METADATA: &str = "an update takes metadata, <https://docs.stripe.com/api/subscriptions/update>; localstripe drops it";
const PLANNED_END: &str = "the end and the moment of the request are told, <https://docs.stripe.com/api/subscriptions/object>; localstripe keeps the flag alone";
const ITEM_STAYS: &str = "an item that is named by its id is changed and stays the same item, <https://docs.stripe.com/api/subscriptions/update>; localstripe makes another";
const TRIAL: &str = "trialing from the start, with the trial as the first period and an invoice over nothing, <https://docs.stripe.com/billing/subscriptions/trials>; localstripe leaves it incomplete";
const CANCELED_AT: &str = "the time of the cancellation, <https://docs.stripe.com/api/subscriptions/object>; localstripe says ended_at alone";
const ENDED: &str = "what is canceled cannot be canceled again, <https://docs.stripe.com/api/subscriptions/cancel>; localstripe cancels it anew";
const INVOICE_FIELDS: &str = "a final invoice of a subscription has them, <https://docs.stripe.com/api/invoices/object>; localstripe knows none";
const NO_INTENT: &str = "a list of charges takes payment_intent, <https://docs.stripe.com/api/charges/list>; localstripe fails on it";
const ERROR_IF_INCOMPLETE: &str = "402 and no subscription, <https://docs.stripe.com/api/subscriptions/create>; localstripe ignores the decline";
const FIRST_INVOICE: &str = "a first invoice is not tried again by itself: the subscription expires after 23 hours, <https://docs.stripe.com/billing/subscriptions/overview>";
const OUTCOME: &str = "a charge that was declined says why in its outcome, <https://docs.stripe.com/api/charges/object>; localstripe's have none";
const PAYMENT_ERROR: &str = "an error of a payment has its type and the decline's code, <https://docs.stripe.com/api/payment_intents/object>; localstripe says the code alone";
const DELETED: &str = "a deleted customer can still be read, as one that is deleted, <https://docs.stripe.com/api/customers/delete>; localstripe forgets it";

pub(super) const DIFFERENCES: &[Difference] = &[
    row(
        "create a customer",
        "currency",
        "null",
        r#""eur""#,
        CURRENCY,
    ),
    row("read a customer", "currency", "null", r#""eur""#, CURRENCY),
    row(
        "read no customer",
        "error.code",
        r#""resource_missing""#,
        "null",
        CODE,
    ),
    row(
        "create another customer",
        "currency",
        "null",
        r#""eur""#,
        CURRENCY,
    ),
    row(
        "list customers",
        "data.*.id",
        r#"["{other customer}","{customer}"]"#,
        r#"["{customer}","{other customer}"]"#,
        ORDER,
    ),
    row(
        "list customers from a time on",
        "HTTP status",
        "200",
        "400",
        NO_CREATED,
    ),
    row(
        "make a card the default",
        "currency",
        "null",
        r#""eur""#,
        CURRENCY,
    ),
    row(
        "attach a card to no customer",
        "HTTP status",
        "400",
        "404",
        NOT_IN_PATH,
    ),
    row(
        "attach a card to no customer",
        "error.code",
        r#""resource_missing""#,
        "null",
        CODE,
    ),
    row(
        "attach a card that is declined",
        "error.type",
        r#""card_error""#,
        r#""invalid_request_error""#,
        CARD_ERROR,
    ),
    row(
        "attach a card that is declined",
        "error.decline_code",
        r#""generic_decline""#,
        "null",
        CARD_ERROR,
    ),
    row(
        "read events of a type",
        "data.*.data.object.id",
        r#"["{other customer}","{customer}"]"#,
        r#"["{customer}","{other customer}"]"#,
        ORDER,
    ),
    row(
        "read events from a time on",
        "data.*.data.object.id",
        r#"["{other customer}","{customer}"]"#,
        r#"["{customer}","{other customer}"]"#,
        ORDER,
    ),
    row(
        "read events that were not delivered",
        "HTTP status",
        "200",
        "400",
        NO_DELIVERY,
    ),
    row(
        "read no product",
        "error.code",
        r#""resource_missing""#,
        "null",
        CODE,
    ),
    row(
        "create a product that is there",
        "HTTP status",
        "400",
        "409",
        TAKEN,
    ),
    row(
        "create a product that is there",
        "error.code",
        r#""resource_already_exists""#,
        "null",
        TAKEN,
    ),
    row(
        "subscribe",
        "billing_cycle_anchor",
        "1801389600",
        "null",
        ANCHOR,
    ),
    row(
        "read a subscription",
        "billing_cycle_anchor",
        "1801389600",
        "null",
        ANCHOR,
    ),
    row(
        "read no subscription",
        "error.code",
        r#""resource_missing""#,
        "null",
        CODE,
    ),
    row(
        "read a subscription with its schedule",
        "HTTP status",
        "200",
        "400",
        NO_SCHEDULE,
    ),
    row(
        "leave a mark on a subscription",
        "billing_cycle_anchor",
        "1801389600",
        "null",
        ANCHOR,
    ),
    row(
        "leave a mark on a subscription",
        "metadata",
        r#"{"operation":"two"}"#,
        r#"{"operation":"one"}"#,
        METADATA,
    ),
    row(
        "plan an end",
        "billing_cycle_anchor",
        "1801389600",
        "null",
        ANCHOR,
    ),
    row(
        "plan an end",
        "cancel_at",
        "1803808800",
        "null",
        PLANNED_END,
    ),
    row(
        "plan an end",
        "canceled_at",
        "1801389600",
        "null",
        PLANNED_END,
    ),
    row(
        "plan an end",
        "metadata",
        r#"{"operation":"two"}"#,
        r#"{"operation":"one"}"#,
        METADATA,
    ),
    row(
        "take the end back",
        "billing_cycle_anchor",
        "1801389600",
        "null",
        ANCHOR,
    ),
    row(
        "take the end back",
        "metadata",
        r#"{"operation":"two"}"#,
        r#"{"operation":"one"}"#,
        METADATA,
    ),
    row(
        "change the price",
        "items.data.*.id",
        r#"["{item}"]"#,
        r#"["si_…"]"#,
        ITEM_STAYS,
    ),
    row(
        "change the price",
        "billing_cycle_anchor",
        "1801389600",
        "null",
        ANCHOR,
    ),
    row(
        "change the price",
        "metadata",
        r#"{"operation":"two"}"#,
        r#"{"operation":"one"}"#,
        METADATA,
    ),
    row(
        "subscribe on trial",
        "status",
        r#""trialing""#,
        r#""incomplete""#,
        TRIAL,
    ),
    row(
        "subscribe on trial",
        "trial_end",
        "1802599200",
        "null",
        TRIAL,
    ),
    row(
        "subscribe on trial",
        "items.data.0.current_period_end|current_period_end",
        "1802599200",
        "1803808800",
        TRIAL,
    ),
    row(
        "subscribe on trial",
        "latest_invoice",
        r#""in_…""#,
        "null",
        TRIAL,
    ),
    row(
        "end a subscription",
        "canceled_at",
        "1801389600",
        "null",
        CANCELED_AT,
    ),
    row(
        "read what has ended",
        "canceled_at",
        "1801389600",
        "null",
        CANCELED_AT,
    ),
    row("end what has ended", "HTTP status", "404", "200", ENDED),
    row(
        "end what has ended",
        "error.type",
        r#""invalid_request_error""#,
        "null",
        ENDED,
    ),
    row(
        "end what has ended",
        "error.code",
        r#""resource_missing""#,
        "null",
        ENDED,
    ),
    row(
        "read a paid invoice",
        "number",
        r#""{prefix}-0001""#,
        "null",
        INVOICE_FIELDS,
    ),
    row(
        "read a paid invoice",
        "billing_reason",
        r#""subscription_create""#,
        "null",
        INVOICE_FIELDS,
    ),
    row(
        "read a paid invoice",
        "amount_remaining",
        "0",
        "null",
        INVOICE_FIELDS,
    ),
    row(
        "read no invoice",
        "error.code",
        r#""resource_missing""#,
        "null",
        CODE,
    ),
    row(
        "list an intent's charges",
        "HTTP status",
        "200",
        "500",
        NO_INTENT,
    ),
    row(
        "read no charge",
        "error.code",
        r#""resource_missing""#,
        "null",
        CODE,
    ),
    row(
        "make it the default",
        "currency",
        "null",
        r#""eur""#,
        CURRENCY,
    ),
    row(
        "subscribe without a success",
        "HTTP status",
        "402",
        "200",
        ERROR_IF_INCOMPLETE,
    ),
    row(
        "subscribe without a success",
        "error.type",
        r#""card_error""#,
        "null",
        ERROR_IF_INCOMPLETE,
    ),
    row(
        "subscribe without a success",
        "error.code",
        r#""card_declined""#,
        "null",
        ERROR_IF_INCOMPLETE,
    ),
    row(
        "subscribe without a success",
        "error.decline_code",
        r#""generic_decline""#,
        "null",
        ERROR_IF_INCOMPLETE,
    ),
    row(
        "read an unpaid invoice",
        "number",
        r#""{other prefix}-0001""#,
        "null",
        INVOICE_FIELDS,
    ),
    row(
        "read an unpaid invoice",
        "billing_reason",
        r#""subscription_create""#,
        "null",
        INVOICE_FIELDS,
    ),
    row(
        "read an unpaid invoice",
        "amount_remaining",
        "2900",
        "null",
        INVOICE_FIELDS,
    ),
    row(
        "read an unpaid invoice",
        "next_payment_attempt",
        "null",
        "1801389600",
        FIRST_INVOICE,
    ),
    row(
        "read a failed charge",
        "outcome.reason",
        r#""generic_decline""#,
        "null",
        OUTCOME,
    ),
    row(
        "read an intent that failed",
        "last_payment_error.type",
        r#""card_error""#,
        "null",
        PAYMENT_ERROR,
    ),
    row(
        "read an intent that failed",
        "last_payment_error.decline_code",
        r#""generic_decline""#,
        "null",
        PAYMENT_ERROR,
    ),
    row(
        "read a deleted customer",
        "HTTP status",
        "200",
        "404",
        DELETED,
    ),
    row(
        "read a deleted customer",
        "id",
        r#""{other customer}""#,
        "null",
        DELETED,
    ),
    row(
        "read a deleted customer",
        "deleted",
        "true",
        "null",
        DELETED,
    ),
];
