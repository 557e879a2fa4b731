//! What a preview says is what is charged, over changes at random: which plan, which interval, when in the period, and
//! how long somebody thinks about it.

use chrono::{DateTime, TimeDelta, Utc};
use e2e::previews;
use serde_json::{Value, json};

use crate::stage::{Stage, id, subscription};

const PATH: &str = "/v1/billing/subscription";

/// Numbers that follow from a seed (`SplitMix64`): a failure comes again.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn seconds(&mut self, end: u64) -> TimeDelta {
        let seconds = self.below(end);
        TimeDelta::seconds(i64::try_from(seconds).expect("a time"))
    }
}

const ORDERS: [(&str, &str); 4] = [
    ("trial", "month"),
    ("professional", "month"),
    ("professional", "year"),
    ("studio", "month"),
];

fn order(at: usize) -> Value {
    let (plan, interval) = ORDERS[at];
    json!({ "plan": plan, "interval": interval })
}

fn invoices_of(stage: &Stage, customer: &str) -> Vec<Value> {
    let mut all = stage.state().objects("invoice");
    all.retain(|invoice| invoice["customer"] == customer);
    all
}

fn sum(all: &[Value], member: &str) -> i64 {
    all.iter()
        .map(|one| one[member].as_i64().expect("an amount"))
        .sum()
}

/// What people have beside the plan: seats, something else that is sold, credit on the account.
async fn adorn(stage: &Stage, chance: &mut Chance, customer: &str, by_month: bool) {
    let all = stage.subscriptions(customer);
    let subscription = all.last().expect("a subscription");
    let (path, item) = (
        format!("/v1/subscriptions/{}", id(subscription)),
        id(&subscription["items"]["data"][0]),
    );
    let quantity = (1 + chance.below(3)).to_string();
    let mut form = vec![
        ("proration_behavior", "none"),
        ("items[0][id]", item.as_str()),
        ("items[0][quantity]", &quantity),
    ];
    let extra;
    // The double mixes no intervals.
    if by_month && chance.below(2) == 0 {
        let price = [
            ("currency", "usd"),
            ("unit_amount", "700"),
            ("recurring[interval]", "month"),
            ("product_data[name]", "Extra backup"),
        ];
        extra = id(&stage.stripe("/v1/prices", &price).await);
        form.push(("items[1][price]", &extra));
        form.push(("items[1][quantity]", "2"));
    }
    let _ = stage.stripe(&path, &form).await;
    if chance.below(3) == 0 {
        let credit = format!("-{}", 1 + chance.below(20_000));
        let path = format!("/v1/customers/{customer}/balance_transactions");
        let form = [("amount", credit.as_str()), ("currency", "usd")];
        let _ = stage.stripe(&path, &form).await;
    }
    stage.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_preview_says_is_what_is_charged() {
    let stage = Stage::start().await;
    let mut charged_now = 0;
    for case in 0..previews(25) {
        let mut chance = Chance(case as u64);
        let from = chance.below(4) as usize;
        let to = (from + 1 + chance.below(3) as usize) % 4;
        let (ada, api) = stage.owner("previews").await;
        let mut body = order(from);
        body["payment_method_id"] = json!("pm_card_visa");
        let _ = api.post(PATH, &body).await.is(201);
        stage.settled().await;
        let customer = stage.customer(&ada);
        let by_month = ORDERS[from].1 == "month" && ORDERS[to].1 == "month";
        adorn(&stage, &mut chance, &customer, by_month).await;
        // Sometimes in a trial, sometimes in a later period than the first.
        stage.turn(chance.seconds(50 * 86_400));
        stage.settled().await;

        let mut body = order(to);
        let seen = api
            .post(&format!("{PATH}/preview"), &body)
            .await
            .is(200)
            .json();
        let what = format!(
            "case {case}, {:?} to {:?}: {seen}",
            ORDERS[from], ORDERS[to]
        );
        let before = invoices_of(&stage, &customer);
        let paid_before = stage.state().paid_charges(&customer);
        stage.turn(chance.seconds(1_700));
        body["commit_token"] = seen["commit_token"].clone();
        let changed = api.patch(PATH, &body).await;
        assert_eq!(changed.status, 200, "{what}: {changed:?}");
        let changed = changed.json();
        stage.settled().await;

        let amount = |member: &str| seen[member].as_i64().expect("an amount");
        let made = &invoices_of(&stage, &customer)[before.len()..];
        let paid = &stage.state().paid_charges(&customer)[paid_before.len()..];
        // What is less than Stripe charges at all is left to the next invoice, as what is credited is.
        let member = if amount("amount_now") < 0 {
            "total"
        } else {
            "amount_due"
        };
        assert_eq!(sum(made, member), amount("amount_now"), "{what} {made:#?}");
        assert_eq!(
            sum(paid, "amount"),
            amount("amount_now").max(0),
            "{what} {paid:#?}"
        );
        charged_now += usize::from(amount("amount_now") > 0);
        let at_once = seen["effective"] == "now";
        assert_eq!(
            changed["plan"] == ORDERS[to].0 && changed["interval"] == ORDERS[to].1,
            at_once,
            "{what} {changed}"
        );

        // And what it says of the next time comes then.
        let next: DateTime<Utc> = seen["next_charge_at"]
            .as_str()
            .and_then(|time| time.parse().ok())
            .unwrap_or_else(|| panic!("{what}"));
        let before = invoices_of(&stage, &customer).len();
        stage.turn_to(next - TimeDelta::seconds(1));
        assert_eq!(invoices_of(&stage, &customer).len(), before, "{what}");
        stage.turn_to(next + TimeDelta::hours(2));
        stage.settled().await;
        let made = &invoices_of(&stage, &customer)[before..];
        assert_eq!(
            (made.len(), sum(made, "total")),
            (1, amount("amount_next")),
            "{what} {made:#?}"
        );
        let shown = subscription(&api).await;
        assert_eq!(
            (&shown["plan"], &shown["interval"]),
            (&json!(ORDERS[to].0), &json!(ORDERS[to].1)),
            "{what}"
        );
        // Nobody's renewals are in the way of the next case.
        let _ = api
            .post(
                &format!("{PATH}/cancel"),
                &json!({ "at_period_end": false }),
            )
            .await
            .is(200);
        stage.settled().await;
    }
    assert!(charged_now > 0, "no case charged anything at once");
}
