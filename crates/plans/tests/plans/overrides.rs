use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_plans::{
    Catalogue, Entitlements, Feature, GrantError, Limit, Metric, Override, Plan, PlansTx,
    ReviewThresholds, Schedule, Setting, Slug, override_setting, set_plan,
};
use rawdrive_tenancy_core::audit::{AuditTx, Change};
use rawdrive_tenancy_core::env::{ManualClock, SystemEntropy};
use rawdrive_tenancy_core::id::{TypedId as _, WorkspaceId};
use rawdrive_tenancy_core::job::{Job, JobsTx};
use rawdrive_tenancy_core::{Env, StoreError};
use serde_json::{Value, json};

/// One workspace, and what is written of it. Small on purpose: the store in memory is of a crate that stands on this one.
struct Desk {
    entitlements: Entitlements,
    changes: Vec<Change>,
    jobs: Vec<(Job, Option<DateTime<Utc>>)>,
}

impl Desk {
    fn on(plan: &Arc<Plan>) -> Self {
        Self {
            entitlements: Entitlements {
                workspace: WorkspaceId::from_uuid(Default::default()),
                plan: plan.clone(),
                overrides: Vec::new(),
                billing_anchor: None,
                grace_until: None,
                read_only: None,
                ends: None,
                metrics: Arc::default(),
                currency: "usd".to_owned(),
                plans_today: Arc::default(),
            },
            changes: Vec::new(),
            jobs: Vec::new(),
        }
    }

    /// When thresholds are reviewed.
    fn reviews(&self) -> Vec<Option<DateTime<Utc>>> {
        let review = Job::of(&ReviewThresholds {}).expect("a job");
        let due = self.jobs.iter().map(|(job, due)| {
            assert_eq!(*job, review);
            *due
        });
        due.collect()
    }

    fn is_untouched(&self) -> bool {
        self.changes.is_empty() && self.jobs.is_empty() && self.entitlements.overrides.is_empty()
    }
}

impl PlansTx for Desk {
    async fn entitlements(&mut self) -> Result<Arc<Entitlements>, StoreError> {
        Ok(Arc::new(self.entitlements.clone()))
    }

    async fn insert_entitlements(&mut self, _: &Plan) -> Result<(), StoreError> {
        unreachable!("the workspace is there")
    }

    async fn move_to_plan(&mut self, plan: &Plan) -> Result<(), StoreError> {
        self.entitlements.plan = Arc::new(plan.clone());
        Ok(())
    }

    async fn schedule(&mut self, _: &Schedule) -> Result<(), StoreError> {
        unreachable!("an operator leaves the schedule as it is")
    }

    async fn add_override(&mut self, new: &Override) -> Result<(), StoreError> {
        self.entitlements.overrides.push(new.clone());
        Ok(())
    }
}

impl AuditTx for Desk {
    fn record(&mut self, change: Change) {
        self.changes.push(change);
    }
}

impl JobsTx for Desk {
    fn enqueue_job(&mut self, job: Job, due: Option<DateTime<Utc>>) {
        self.jobs.push((job, due));
    }
}

fn catalogue() -> Catalogue {
    let text = r#"
        [[plan]]
        slug = "free"
        version = 1
        name = "Free"
        limits = { team_members = 1 }
        features = { reports = false }
        [[plan]]
        slug = "pro"
        version = 1
        name = "Pro"
        [[plan]]
        slug = "pro"
        version = 2
        name = "Pro"
        limits = { team_members = 5 }
    "#;
    Catalogue::parse(text).expect("a catalogue")
}

fn now() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000)
}

fn env() -> Env {
    let clock = Arc::new(ManualClock::at(now()));
    Env::new(clock.clone(), clock, Arc::new(SystemEntropy))
}

/// Completes what waits for nothing.
fn done<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => unreachable!("nothing here waits"),
    }
}

fn desk() -> Desk {
    Desk::on(&catalogue().newest(&Slug::free()).expect("the free plan"))
}

#[test]
fn a_workspace_moves_to_the_newest_version_and_that_is_audited() {
    let mut desk = desk();
    let moved = done(set_plan(
        &mut desk,
        &catalogue(),
        &Slug::new("pro"),
        " as agreed ",
    ));
    assert_eq!(moved.unwrap().version, 2);
    let on = &desk.entitlements.plan;
    assert_eq!((on.slug.as_str(), on.version), ("pro", 2));
    let [change] = &desk.changes[..] else {
        panic!("one entry: {:?}", desk.changes)
    };
    assert_eq!(change.action, "plan.changed");
    assert_eq!(change.subject, desk.entitlements.workspace.to_string());
    assert_eq!(change.before, json!({ "plan": "free", "version": 1 }));
    let after = json!({ "plan": "pro", "version": 2, "reason": "as agreed" });
    assert_eq!(change.after, after);
    assert_eq!(desk.reviews(), [None]);
}

#[test]
fn an_unknown_plan_changes_nothing_and_is_told_what_there_is() {
    let mut desk = desk();
    let refused = done(set_plan(&mut desk, &catalogue(), &Slug::new("pr"), "why"));
    let error = refused.unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no plan `pr`; the catalogue has free, pro"
    );
    assert!(desk.is_untouched());
}

#[test]
fn a_reason_is_one_to_five_hundred_characters() {
    let longest = "ü".repeat(500);
    for (reason, stands) in [
        ("", false),
        (" \n ", false),
        ("x", true),
        (&*longest, true),
        (&*format!(" {longest} "), true),
        (&*format!("{longest}x"), false),
    ] {
        let mut moved = desk();
        let result = done(set_plan(
            &mut moved,
            &catalogue(),
            &Slug::new("pro"),
            reason,
        ));
        assert_eq!(result.is_ok(), stands, "{reason}");
        let mut overridden = desk();
        let setting = Setting::Limit(Metric::team_members(), Limit::AtMost(3));
        let result = done(override_setting(
            &mut overridden,
            &env(),
            &catalogue(),
            setting,
            None,
            reason,
        ));
        if stands {
            assert_eq!(result.unwrap().reason, reason.trim());
        } else {
            assert!(matches!(result, Err(GrantError::NoReason)));
            assert!(moved.is_untouched() && overridden.is_untouched());
        }
    }
}

fn set(
    desk: &mut Desk,
    setting: Setting,
    until: Option<DateTime<Utc>>,
) -> Result<Override, GrantError> {
    done(override_setting(
        desk,
        &env(),
        &catalogue(),
        setting,
        until,
        "why",
    ))
}

#[test]
fn a_limit_is_set_above_the_plan_until_it_ends() {
    let mut desk = desk();
    let until = Some(now() + TimeDelta::seconds(1));
    let seats = |n| Setting::Limit(Metric::team_members(), n);
    let first = set(&mut desk, seats(Limit::AtMost(3)), until).unwrap();
    assert_eq!(first.until, until);
    assert_eq!(desk.entitlements.overrides, std::slice::from_ref(&first));
    assert_eq!(desk.reviews(), [None, until], "now, and when it ends");
    let second = set(&mut desk, seats(Limit::Unlimited), None).unwrap();
    assert_eq!(desk.reviews(), [None, until, None]);
    let told: Vec<_> = desk
        .changes
        .iter()
        .map(|change| {
            (
                change.action,
                change.subject.clone(),
                change.before.clone(),
                change.after.clone(),
            )
        })
        .collect();
    let expected = [
        (
            "override.added",
            first.id.to_string(),
            json!({ "name": "team_members", "value": 1 }),
            json!({ "name": "team_members", "value": 3, "until": until, "reason": "why" }),
        ),
        (
            "override.added",
            second.id.to_string(),
            json!({ "name": "team_members", "value": 3 }),
            json!({ "name": "team_members", "value": null, "until": null, "reason": "why" }),
        ),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_feature_is_set_above_the_plan() {
    let mut desk = desk();
    let reports = Feature::new("reports");
    set(&mut desk, Setting::Feature(reports.clone(), true), None).unwrap();
    assert!(desk.entitlements.feature(&reports, now()).value);
    let values = |side: &Value| (side["name"].clone(), side["value"].clone());
    let change = &desk.changes[0];
    assert_eq!(values(&change.before), (json!("reports"), json!(false)));
    assert_eq!(values(&change.after), (json!("reports"), json!(true)));
}

#[test]
fn what_would_have_no_effect_is_refused() {
    let mut desk = desk();
    let seats = Setting::Limit(Metric::team_members(), Limit::AtMost(3));
    for past in [now(), now() - TimeDelta::seconds(1)] {
        let refused = set(&mut desk, seats.clone(), Some(past));
        assert!(matches!(refused, Err(GrantError::Past(at)) if at == past));
    }
    let metric = Setting::Limit(Metric::new("seats"), Limit::AtMost(3));
    let error = set(&mut desk, metric, None).unwrap_err().to_string();
    assert_eq!(
        error,
        "there is no limit `seats`; the catalogue has team_members"
    );
    let feature = Setting::Feature(Feature::new("report"), true);
    let error = set(&mut desk, feature, None).unwrap_err().to_string();
    assert_eq!(
        error,
        "there is no feature `report`; the catalogue has reports"
    );
    assert!(desk.is_untouched());
}
