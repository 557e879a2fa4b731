//! `rawdrive stripe adopt`: what a business had at Stripe before it had this.

use std::collections::BTreeMap;

use e2e::Actor;
use serde_json::{Value, json};

use crate::stage::{Stage, actions, count_of, id, subscription};

/// Somebody at Stripe alone, who pays by a card for a price, if for any.
async fn at_stripe(stage: &Stage, fields: &[(&str, &str)], price: Option<&str>) -> String {
    let customer = id(&stage.stripe("/v1/customers", fields).await);
    if let Some(price) = price {
        let form = [("customer", customer.as_str())];
        let card = stage
            .stripe("/v1/payment_methods/pm_card_visa/attach", &form)
            .await;
        let form = [
            ("customer", customer.as_str()),
            ("items[0][price]", price),
            (
                "default_payment_method",
                card["id"].as_str().expect("an id"),
            ),
        ];
        let sold = stage.stripe("/v1/subscriptions", &form).await;
        assert_eq!(sold["status"], "active", "{sold}");
    }
    customer
}

async fn verify(stage: &Stage, actor: &Actor) {
    let anybody = stage.server.anonymous();
    let body = json!({ "email": actor.email });
    let _ = anybody.post("/v1/email-verifications", &body).await.is(202);
    let token = stage.server.mailed_token(&actor.email, 1).await;
    let body = json!({ "token": token });
    let _ = anybody
        .post("/v1/email-verifications/complete", &body)
        .await
        .is(204);
}

/// What the command says, by customer.
async fn adopt(stage: &Stage, more: &[&str]) -> BTreeMap<String, Value> {
    let arguments = [&["stripe", "adopt", "--json"], more].concat();
    let output = stage.server.admin(&arguments).await.succeeded();
    let told: Value = serde_json::from_str(&output.stdout).expect("JSON");
    let customers = told["customers"].as_array().expect("a list");
    let customer = |one: &Value| one["customer"].as_str().expect("an id").to_owned();
    customers
        .iter()
        .map(|one| (customer(one), one.clone()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn customers_of_before_are_linked_where_it_is_clear_whose_they_are_and_nowhere_else() {
    let stage = Stage::start().await;
    let prices = stage.state().objects("price");
    let priced = |key: &str| {
        let found = prices.iter().find(|price| price["lookup_key"] == key);
        id(found.unwrap_or_else(|| panic!("no price {key}: {prices:#?}")))
    };
    let professional = priced("rawdrive_professional_v1_usd_month");
    let in_euros = priced("rawdrive_studio_v1_eur_month");
    let own = [
        ("currency", "usd"),
        ("unit_amount", "700"),
        ("recurring[interval]", "month"),
        ("product_data[name]", "Of before"),
    ];
    let of_before = id(&stage.stripe("/v1/prices", &own).await);

    let (proven, proven_key) = stage.owner("proven").await;
    let (claimed, claimed_key) = stage.owner("claimed").await;
    let (paired, paired_key) = stage.owner("paired").await;
    let (marked, _) = stage.owner("marked").await;
    let (abroad, abroad_key) = stage.owner("abroad").await;
    verify(&stage, &proven).await;

    let address = proven.email.to_uppercase();
    let paying = at_stripe(&stage, &[("email", &address)], Some(&professional)).await;
    let left_over = at_stripe(&stage, &[("email", &proven.email)], None).await;
    // Whoever types somebody's address does not get what they pay for.
    let unproven = at_stripe(&stage, &[("email", &claimed.email)], Some(&professional)).await;
    let written_down = at_stripe(&stage, &[], Some(&of_before)).await;
    let mark = ("metadata[rawdrive_workspace]", marked.workspace_id.as_str());
    let named = at_stripe(&stage, &[mark], None).await;
    let euros = at_stripe(&stage, &[], Some(&in_euros)).await;
    let nobodys = at_stripe(&stage, &[("name", "Nobody")], None).await;

    let pairs = stage.server.scratch("pairs.csv");
    let text = format!(
        "# customer,workspace\n{written_down},{}\n{euros}, {}\ncus_gone,{}\n",
        paired.workspace_id, abroad.workspace_id, marked.workspace_id
    );
    std::fs::write(&pairs, text).expect("failed to write the pairs");
    let pairs = pairs.to_str().expect("a path of text");

    let expected = [
        (&paying, "linked"),
        (&left_over, "has_another"),
        (&unproven, "no_workspace"),
        (&written_down, "linked"),
        (&named, "linked"),
        (&euros, "other_currency"),
        (&nobodys, "no_workspace"),
    ];
    let would = adopt(&stage, &["--dry-run", "--pairs", pairs]).await;
    for (customer, kind) in expected {
        assert_eq!(would[customer]["kind"], kind, "{would:#?}");
    }
    assert_eq!(would["cus_gone"]["kind"], "not_there");
    assert_eq!(would[&paying]["found_by"], "address");
    assert_eq!(
        would[&paying]["subscriptions"][0]["plan"], "professional",
        "{would:#?}"
    );
    assert_eq!(would[&written_down]["found_by"], "pair");
    assert_eq!(
        would[&written_down]["subscriptions"][0]["plan"],
        Value::Null
    );
    assert_eq!(would[&named]["found_by"], "metadata");
    assert_eq!(subscription(&proven_key).await["status"], "none");

    let did = adopt(&stage, &["--pairs", pairs]).await;
    for (customer, kind) in expected {
        assert_eq!(did[customer]["kind"], kind, "{did:#?}");
    }
    stage.settled().await;
    let shown = subscription(&proven_key).await;
    assert_eq!(shown["plan"], "professional", "{shown}");
    assert_eq!(shown["status"], "active", "{shown}");
    assert_eq!(
        count_of(&proven_key, "subscription.created").await,
        1,
        "{:?}",
        actions(&proven_key).await
    );
    // What is none of the catalogue's is seen, and grants nothing.
    let shown = subscription(&paired_key).await;
    assert_eq!(
        (&shown["plan"], &shown["status"]),
        (&json!("free"), &json!("active"))
    );
    for left in [&claimed_key, &abroad_key] {
        assert_eq!(subscription(left).await["status"], "none");
    }

    // From here on it is a subscription as any other.
    let _ = proven_key
        .post("/v1/billing/subscription/cancel", &json!({}))
        .await
        .is(200);
    let again = adopt(&stage, &["--pairs", pairs]).await;
    assert!(!again.contains_key(&paying), "{again:#?}");
    assert!(
        again.values().all(|one| one["kind"] != "linked"),
        "{again:#?}"
    );
    let spoilt = stage.server.scratch("spoilt.csv");
    std::fs::write(&spoilt, "cus_1 ws_1\n").expect("failed to write the pairs");
    let spoilt = spoilt.to_str().expect("a path of text");
    let refused = stage
        .server
        .admin(&["stripe", "adopt", "--pairs", spoilt])
        .await;
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    assert!(refused.stderr.contains("line 1"), "{refused:#?}");
}
