use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_plans::{
    Access, Entitlement, Entitlements, Feature, Limit, Metric, Origin, Override, Plan, PlanEnd,
    ReadOnly, Schedule, Setting,
};
use rawdrive_tenancy_core::id::{OverrideId, TypedId as _, WorkspaceId};

fn plan(seats: u64, reports: bool) -> Arc<Plan> {
    let text = format!(
        r#"{{"slug":"pro","version":1,"name":"Pro","limits":{{"team_members":{seats}}},"features":{{"reports":{reports}}}}}"#
    );
    Arc::new(serde_json::from_str(&text).expect("a plan has these fields"))
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::seconds(seconds)
}

fn entitled() -> Entitlements {
    Entitlements {
        workspace: WorkspaceId::from_uuid(Default::default()),
        plan: plan(10, true),
        overrides: Vec::new(),
        billing_anchor: None,
        grace_until: None,
        read_only: None,
        ends: None,
        metrics: Arc::default(),
        currency: "usd".to_owned(),
        plans_today: Arc::default(),
    }
}

fn over(setting: Setting, until: Option<DateTime<Utc>>) -> Override {
    Override {
        id: OverrideId::from_uuid(Default::default()),
        setting,
        reason: "test".to_owned(),
        until,
    }
}

const SEATS: Metric = Metric::new("team_members");
const REPORTS: Feature = Feature::new("reports");

fn seats(n: u64) -> Setting {
    Setting::Limit(SEATS, Limit::AtMost(n))
}

fn failed(since: i64) -> ReadOnly {
    ReadOnly {
        reason: "payment_failed".to_owned(),
        since: at(since),
    }
}

#[test]
fn access_ends_with_grace_and_begins_again_never_by_itself() {
    let full = entitled();
    assert_eq!(full.access(at(0)), Access::Full);
    let late = Entitlements {
        grace_until: Some(at(10)),
        read_only: Some(failed(10)),
        ..entitled()
    };
    let grace = Access::Grace { until: at(10) };
    for (now, expected, word) in [
        (-1, grace.clone(), "grace"),
        (9, grace, "grace"),
        (10, Access::ReadOnly(failed(10)), "read_only"),
        (11, Access::ReadOnly(failed(10)), "read_only"),
    ] {
        let access = late.access(at(now));
        assert_eq!((access.as_str(), &access), (word, &expected), "{now}");
    }
    assert_eq!(full.access(at(0)).as_str(), "full");
    // Grace that nothing follows ends in full access; read-only stands above grace.
    let forgiven = Entitlements {
        read_only: None,
        ..late.clone()
    };
    assert_eq!(forgiven.access(at(10)), Access::Full);
    let both = Entitlements {
        read_only: Some(failed(0)),
        ..late
    };
    assert_eq!(both.access(at(0)), Access::ReadOnly(failed(0)));
}

#[test]
fn a_plan_that_ends_is_followed_at_that_instant() {
    let then = plan(1, false);
    let ending = Entitlements {
        ends: Some(PlanEnd {
            at: at(10),
            then: then.clone(),
        }),
        ..entitled()
    };
    for (now, seats, reports) in [(9, 10, true), (10, 1, false), (11, 1, false)] {
        let now = at(now);
        assert_eq!(ending.limit(&SEATS, now).value, Limit::AtMost(seats));
        assert_eq!(ending.feature(&REPORTS, now).value, reports);
        let expected = if seats == 1 { &then } else { &ending.plan };
        assert_eq!(ending.plan_at(now), expected);
    }
    assert_eq!(entitled().plan_at(at(10)).limit(&SEATS), Limit::AtMost(10));
}

#[test]
fn the_newest_override_in_force_wins_and_says_when_it_ends() {
    let of_plan = Entitlement {
        value: Limit::AtMost(10),
        origin: Origin::Plan,
        until: None,
    };
    assert_eq!(entitled().limit(&SEATS, at(0)), of_plan);
    let other = Setting::Limit(Metric::new("pages"), Limit::AtMost(3));
    let overridden = Entitlements {
        overrides: vec![
            over(seats(20), None),
            over(seats(30), Some(at(10))),
            over(other, None),
            over(Setting::Feature(REPORTS, false), Some(at(10))),
        ],
        ..entitled()
    };
    for (now, seats, until) in [(9, 30, Some(at(10))), (10, 20, None), (11, 20, None)] {
        let limit = overridden.limit(&SEATS, at(now));
        let expected = Entitlement {
            value: Limit::AtMost(seats),
            origin: Origin::Override,
            until,
        };
        assert_eq!(limit, expected, "{now}");
    }
    let pages = overridden.limit(&Metric::new("pages"), at(0));
    assert_eq!(pages.value, Limit::AtMost(3));
    let unknown = overridden.limit(&Metric::new("calls"), at(0));
    assert_eq!(
        (unknown.value, unknown.origin),
        (Limit::Unlimited, Origin::Plan)
    );
    for (now, on, origin) in [(9, false, Origin::Override), (10, true, Origin::Plan)] {
        let feature = overridden.feature(&REPORTS, at(now));
        assert_eq!((feature.value, feature.origin), (on, origin), "{now}");
    }
    let unknown = overridden.feature(&Feature::new("exports"), at(0));
    assert_eq!((unknown.value, unknown.origin), (false, Origin::Plan));
    assert_eq!(
        [Origin::Plan, Origin::Override].map(Origin::as_str),
        ["plan", "override"]
    );
}

#[test]
fn the_schedule_is_all_that_billing_writes_beside_the_plan() {
    let schedule = Schedule {
        billing_anchor: Some(at(1)),
        grace_until: Some(at(2)),
        read_only: Some(failed(3)),
        ends: Some(PlanEnd {
            at: at(4),
            then: plan(1, false),
        }),
    };
    let Schedule {
        billing_anchor,
        grace_until,
        read_only,
        ends,
    } = schedule.clone();
    let entitled = Entitlements {
        billing_anchor,
        grace_until,
        read_only,
        ends,
        ..entitled()
    };
    assert_eq!(entitled.schedule(), schedule);
    assert_ne!(schedule, Schedule::default());
}
