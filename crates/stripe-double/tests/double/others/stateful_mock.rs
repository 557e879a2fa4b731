//! What `stripe-stateful-mock` serves: customers, products, prices, subscriptions that are made and read, charges,
//! refunds, disputes and idempotency, as of a version of 2020. A charge is made by itself there and by a
//! subscription at the double.

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

const PRICE: &[&str] = &[
    "id",
    "product",
    "currency",
    "recurring.interval",
    "recurring.interval_count",
    "unit_amount",
    "active",
    "lookup_key",
    "metadata",
];

const SUBSCRIPTION: &[&str] = &[
    "id",
    "customer",
    "status",
    "created",
    "livemode",
    "items.data.*.id",
    "items.data.*.price.id",
    "items.data.*.quantity",
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
    "schedule",
    "pending_update",
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

const DISPUTE: &[&str] = &[
    "id", "charge", "amount", "currency", "status", "reason", "created", "livemode",
];

const REFUSAL: &[&str] = &["error.type", "error.code", "error.decline_code"];

pub(super) fn calls() -> Vec<Call> {
    let mut calls = Vec::new();
    calls.extend(customers());
    calls.extend(idempotency());
    calls.extend(catalogue());
    calls.extend(subscriptions());
    calls.extend(charges());
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
        .agree(CUSTOMER),
        Call::get("read a customer", "/v1/customers/{customer}").agree(CUSTOMER),
        Call::get("read no customer", "/v1/customers/cus_none").agree(REFUSAL),
        Call::post(
            "rename a customer",
            "/v1/customers/{customer}",
            &[("name", "Joe")],
        )
        .agree(CUSTOMER),
        Call::post(
            "create another customer",
            "/v1/customers",
            &[("email", "jim@example.com")],
        )
        .keep("other customer", "id")
        .agree(CUSTOMER),
        Call::get("list customers", "/v1/customers?limit=100").agree(&["data.*.id", "has_more"]),
        Call::get("list a page of customers", "/v1/customers?limit=1").agree(&["has_more"]),
        Call::get(
            "list customers from a time on",
            "/v1/customers?created[gte]=4000000000&limit=100",
        )
        .agree(&["data.*.id"]),
        Call::get("ask without a key", "/v1/customers/{customer}")
            .anonymous()
            .agree(&["error.type"]),
    ]
}

fn idempotency() -> Vec<Call> {
    let create =
        |name, email| Call::post(name, "/v1/customers", &[("email", email)]).keyed("customer-1");
    vec![
        create("create a customer under a key", "ann@example.com")
            .keep("keyed customer", "id")
            .agree(&["id", "Idempotent-Replayed"]),
        create("create it again under its key", "ann@example.com").agree(&[
            "id",
            "email",
            "Idempotent-Replayed",
        ]),
        create("create another under its key", "eve@example.com").agree(REFUSAL),
        Call::get(
            "list what was made under keys",
            "/v1/customers?email=ann@example.com",
        )
        .agree(&["data.*.id"]),
        Call::post(
            "be refused under a key",
            "/v1/customers/cus_none",
            &[("name", "Jo")],
        )
        .keyed("customer-2")
        .agree(REFUSAL),
        Call::post(
            "be refused again under its key",
            "/v1/customers/cus_none",
            &[("name", "Jo")],
        )
        .keyed("customer-2")
        .agree(&["error.code", "Idempotent-Replayed"]),
    ]
}

fn catalogue() -> Vec<Call> {
    vec![
        Call::post(
            "create a product",
            "/v1/products",
            &[("id", "professional"), ("name", "Professional")],
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
        Call::post(
            "create a price",
            "/v1/prices",
            &[
                ("product", "professional"),
                ("currency", "usd"),
                ("unit_amount", "2900"),
                ("recurring[interval]", "month"),
                ("lookup_key", "professional_month"),
                ("metadata[plan]", "professional"),
            ],
        )
        .keep("price", "id")
        .agree(PRICE),
        Call::get("read a price", "/v1/prices/{price}").agree(PRICE),
        Call::get("read no price", "/v1/prices/price_none").agree(REFUSAL),
        Call::get(
            "find a price by its key",
            "/v1/prices?lookup_keys[0]=professional_month&active=true&limit=1",
        )
        .agree(&["data.*.id", "has_more"]),
        Call::get(
            "find no price by its key",
            "/v1/prices?lookup_keys[0]=enterprise_month&active=true&limit=1",
        )
        .agree(&["data.*.id"]),
        Call::get("list prices that are not sold", "/v1/prices?active=false").agree(&["data.*.id"]),
        Call::post(
            "create a price without a currency",
            "/v1/prices",
            &[("product", "professional")],
        )
        .agree(REFUSAL),
    ]
}

fn subscriptions() -> Vec<Call> {
    vec![
        card("attach a card", "pm_card_visa", "{customer}").keep("card", "id"),
        default("{customer}", "{card}"),
        source("{customer}", "tok_visa"),
        // It makes a plan beside each price, which it cannot without a product.
        Call::post(
            "create a plan",
            "/v1/plans",
            &[
                ("product", "professional"),
                ("currency", "usd"),
                ("amount", "2900"),
                ("interval", "month"),
            ],
        )
        .keep("plan", "id")
        .other_alone(),
        Call::post(
            "subscribe",
            "/v1/subscriptions",
            &[
                ("customer", "{customer}"),
                ("items[0][price]", "{price}"),
                ("payment_behavior", "allow_incomplete"),
                ("metadata[operation]", "one"),
            ],
        )
        .of_other(&[
            ("customer", "{customer}"),
            ("items[0][price]", "{price}"),
            ("items[0][plan]", "{plan}"),
            ("payment_behavior", "allow_incomplete"),
            ("metadata[operation]", "one"),
        ])
        .keep("subscription", "id")
        .keep("item", "items.data.0.id")
        .agree(SUBSCRIPTION),
        Call::get("read a subscription", "/v1/subscriptions/{subscription}").agree(SUBSCRIPTION),
        Call::get("read no subscription", "/v1/subscriptions/sub_none").agree(REFUSAL),
        Call::get(
            "list subscriptions",
            "/v1/subscriptions?customer={customer}&status=all&limit=100",
        )
        .agree(&["data.*.id", "has_more"]),
        Call::post(
            "subscribe to no price",
            "/v1/subscriptions",
            &[
                ("customer", "{customer}"),
                ("items[0][price]", "price_none"),
            ],
        )
        .of_other(&[
            ("customer", "{customer}"),
            ("items[0][price]", "price_none"),
            ("items[0][plan]", "{plan}"),
        ])
        .agree(REFUSAL),
    ]
}

fn charges() -> Vec<Call> {
    vec![
        Call::post(
            "charge",
            "/v1/charges",
            &[
                ("customer", "{customer}"),
                ("amount", "2900"),
                ("currency", "usd"),
            ],
        )
        .keep("charge", "id")
        .other_alone(),
        Call::get("list charges", "/v1/charges?customer={customer}&limit=100")
            .keep("charge", "data.0.id")
            .agree(&["data.*.id", "data.*.amount", "data.*.status", "has_more"]),
        Call::get("read a charge", "/v1/charges/{charge}").agree(CHARGE),
        Call::get("read no charge", "/v1/charges/ch_none").agree(REFUSAL),
        Call::post(
            "refund a part",
            "/v1/refunds",
            &[("charge", "{charge}"), ("amount", "900")],
        )
        .agree(&["amount", "charge", "status"]),
        Call::get("read a charge after a refund", "/v1/charges/{charge}").agree(CHARGE),
        Call::post(
            "refund too much",
            "/v1/refunds",
            &[("charge", "{charge}"), ("amount", "2900")],
        )
        .agree(REFUSAL),
        Call::post("refund the rest", "/v1/refunds", &[("charge", "{charge}")])
            .agree(&["amount", "charge", "status"]),
        Call::post(
            "refund what is refunded",
            "/v1/refunds",
            &[("charge", "{charge}")],
        )
        .agree(REFUSAL),
        // A card whose holder disputes what it pays.
        card(
            "attach a disputing card",
            "pm_card_createDispute",
            "{other customer}",
        )
        .keep("other card", "id"),
        default("{other customer}", "{other card}"),
        Call::post(
            "subscribe with it",
            "/v1/subscriptions",
            &[
                ("customer", "{other customer}"),
                ("items[0][price]", "{price}"),
            ],
        )
        .double_alone(),
        source("{other customer}", "tok_createDispute"),
        Call::post(
            "charge with it",
            "/v1/charges",
            &[
                ("customer", "{other customer}"),
                ("amount", "2900"),
                ("currency", "usd"),
            ],
        )
        .keep("disputed", "id")
        .other_alone(),
        Call::get(
            "list disputed charges",
            "/v1/charges?customer={other customer}&limit=100",
        )
        .keep("disputed", "data.0.id"),
        Call::get("list disputes", "/v1/disputes?charge={disputed}")
            .keep("dispute", "data.0.id")
            .double_alone(),
        Call::get("read a disputed charge", "/v1/charges/{disputed}")
            .keep("dispute", "dispute")
            .other_alone(),
        Call::get("read a dispute", "/v1/disputes/{dispute}").agree(DISPUTE),
        Call::get("read no dispute", "/v1/disputes/du_none").agree(REFUSAL),
        Call::post(
            "refund what is disputed",
            "/v1/refunds",
            &[("charge", "{disputed}")],
        )
        .agree(REFUSAL),
        Call::get("read a disputed charge again", "/v1/charges/{disputed}").agree(CHARGE),
    ]
}

/// The double knows payment methods, the other sources.
fn card(name: &'static str, card: &'static str, customer: &'static str) -> Call {
    let path = match card {
        "pm_card_visa" => "/v1/payment_methods/pm_card_visa/attach",
        _ => "/v1/payment_methods/pm_card_createDispute/attach",
    };
    Call::post(name, path, &[("customer", customer)]).double_alone()
}

fn default(customer: &'static str, card: &'static str) -> Call {
    let path = match customer {
        "{customer}" => "/v1/customers/{customer}",
        _ => "/v1/customers/{other customer}",
    };
    let form = [("invoice_settings[default_payment_method]", card)];
    Call::post("make a card the default", path, &form).double_alone()
}

fn source(customer: &'static str, token: &'static str) -> Call {
    let path = match customer {
        "{customer}" => "/v1/customers/{customer}/sources",
        _ => "/v1/customers/{other customer}/sources",
    };
    Call::post("add a source", path, &[("source", token)]).other_alone()
}

const NAME: &str = "a customer is made with a name, <https://docs.stripe.com/api/customers/create>; stripe-stateful-mock takes one by an update alone";
const ORDER: &str = "lists are sorted with the newest first, <https://docs.stripe.com/api/pagination>; stripe-stateful-mock does not tell apart what was made in one second";
const NO_CREATED: &str = "a list of customers takes created, <https://docs.stripe.com/api/customers/list>; stripe-stateful-mock ignores it";
const NO_LOOKUP_KEYS: &str = "a list of prices takes lookup_keys, <https://docs.stripe.com/api/prices/list>; stripe-stateful-mock ignores them";
const SHORT_MONTH: &str = "a month from 31 January ends on the last day of February, <https://docs.stripe.com/billing/subscriptions/billing-cycle>; stripe-stateful-mock counts on into March";
const NOT_IN_PATH: &str = "404 is for what the path names, 400 for what a parameter names, <https://docs.stripe.com/api/errors>";
const NO_CUSTOMER: &str = "a charge says whose it is, <https://docs.stripe.com/api/charges/object>; stripe-stateful-mock forgets the customer and finds none by it";

pub(super) const DIFFERENCES: &[Difference] = &[
    row("create a customer", "name", r#""Jo""#, "null", NAME),
    row("read a customer", "name", r#""Jo""#, "null", NAME),
    row(
        "list customers",
        "data.*.id",
        r#"["{other customer}","{customer}"]"#,
        r#"["{customer}","{other customer}"]"#,
        ORDER,
    ),
    row(
        "list customers from a time on",
        "data.*.id",
        "[]",
        r#"["{customer}","{other customer}"]"#,
        NO_CREATED,
    ),
    row(
        "find no price by its key",
        "data.*.id",
        "[]",
        r#"["{price}"]"#,
        NO_LOOKUP_KEYS,
    ),
    row(
        "subscribe",
        "items.data.0.current_period_end|current_period_end",
        "1803808800",
        "1804068000",
        SHORT_MONTH,
    ),
    row(
        "read a subscription",
        "items.data.0.current_period_end|current_period_end",
        "1803808800",
        "1804068000",
        SHORT_MONTH,
    ),
    row(
        "subscribe to no price",
        "HTTP status",
        "400",
        "404",
        NOT_IN_PATH,
    ),
    row(
        "list charges",
        "data.*.id",
        r#"["{charge}"]"#,
        "[]",
        NO_CUSTOMER,
    ),
    row("list charges", "data.*.amount", "[2900]", "[]", NO_CUSTOMER),
    row(
        "list charges",
        "data.*.status",
        r#"["succeeded"]"#,
        "[]",
        NO_CUSTOMER,
    ),
    row(
        "read a charge",
        "customer",
        r#""{customer}""#,
        "null",
        NO_CUSTOMER,
    ),
    row(
        "read a charge after a refund",
        "customer",
        r#""{customer}""#,
        "null",
        NO_CUSTOMER,
    ),
    row(
        "read a disputed charge again",
        "customer",
        r#""{other customer}""#,
        "null",
        NO_CUSTOMER,
    ),
];
