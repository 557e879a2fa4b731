use chrono::{DateTime, TimeDelta};
use rawdrive_plans::{Allowance, BeginError, Catalogue, Feature, Metric, ReadOnly, Slug};
use rawdrive_tenancy_core::{Commit as _, StoreError, WorkspaceScope};
use rawdrive_testkit::{MemoryStore, MemoryTx, TestEnv};
use rawdrive_usage::{Counted, Period, Refused, give_back, require, take};
use serde_json::json;

const PLANS: &str = r#"
[[metric]]
name = "bytes"
kind = "level"
[[metric]]
name = "calls"
kind = "flow"
[[metric]]
name = "calls_per_folder"
kind = "flow"
per = "folder"
[[metric]]
name = "pages"
kind = "level"
per = "folder"
[[plan]]
slug = "free"
version = 1
name = "Free"
limits = { bytes = 10, calls = 2, pages = 3, calls_per_folder = 1 }
features = { reports = true, exports = false }
"#;

struct Stage {
    test_env: TestEnv,
    store: MemoryStore,
    scope: WorkspaceScope,
}

impl Stage {
    async fn new() -> Self {
        let test_env = TestEnv::seeded(1);
        let store = MemoryStore::new(test_env.env().clone());
        let catalogue = Catalogue::parse(PLANS).expect("a catalogue");
        store.publish(&catalogue).await;
        let plan = catalogue.newest(&Slug::free()).expect("a plan");
        let scope = store.workspace(&plan).await.expect("a workspace");
        Self {
            test_env,
            store,
            scope,
        }
    }

    async fn begin(&self) -> MemoryTx {
        self.store.begin_despite_read_only(&self.scope).await
    }

    async fn take(&self, metric: &Metric, per: Option<&str>, amount: u64) -> Result<(), Refused> {
        let mut tx = self.begin().await;
        let counted = Counted {
            metric,
            per,
            amount,
        };
        take(&mut tx, self.test_env.env(), counted, "thing_1").await?;
        Ok(tx.commit().await?)
    }

    async fn give_back(&self, metric: &Metric, per: Option<&str>) -> Result<(), Refused> {
        let mut tx = self.begin().await;
        let counted = Counted {
            metric,
            per,
            amount: 1,
        };
        give_back(&mut tx, self.test_env.env(), counted, "thing_1").await?;
        Ok(tx.commit().await?)
    }
}

const BYTES: Metric = Metric::new("bytes");
const CALLS: Metric = Metric::new("calls");
const PAGES: Metric = Metric::new("pages");
const FOLDER_CALLS: Metric = Metric::new("calls_per_folder");

#[tokio::test]
async fn units_are_taken_up_to_the_limit_and_a_level_is_given_back() {
    let stage = Stage::new().await;
    stage.take(&BYTES, None, 10).await.unwrap();
    match stage.take(&BYTES, None, 1).await {
        Err(Refused::Quota(check)) => {
            assert_eq!(check.key.metric, BYTES);
            assert_eq!((check.used, check.reserved, check.requested), (10, 0, 1));
            assert_eq!(check.allowance(), Allowance::Hard(10));
            assert_eq!(check.resets_at, None);
            assert!(!check.allowed());
        }
        other => panic!("{other:?}"),
    }
    stage.give_back(&BYTES, None).await.unwrap();
    stage.take(&BYTES, None, 1).await.unwrap();
    let rows = stage.store.rows(&stage.scope);
    let lines: Vec<_> = rows
        .ledger
        .iter()
        .map(|line| (line.quantity, line.subject.as_str()))
        .collect();
    assert_eq!(lines, [(10, "thing_1"), (-1, "thing_1"), (1, "thing_1")]);
}

#[tokio::test]
async fn each_subject_has_its_own_counter() {
    let stage = Stage::new().await;
    stage.take(&PAGES, Some("a"), 3).await.unwrap();
    assert!(stage.take(&PAGES, Some("a"), 1).await.is_err());
    stage.take(&PAGES, Some("b"), 1).await.unwrap();
    stage.give_back(&PAGES, Some("a")).await.unwrap();
    stage.take(&PAGES, Some("a"), 1).await.unwrap();
    stage.take(&FOLDER_CALLS, Some("a"), 1).await.unwrap();
    assert!(stage.take(&FOLDER_CALLS, Some("a"), 1).await.is_err());
    stage.take(&FOLDER_CALLS, Some("b"), 1).await.unwrap();
}

#[tokio::test]
async fn a_flow_begins_anew_and_says_when() {
    let stage = Stage::new().await;
    stage.take(&CALLS, None, 2).await.unwrap();
    let end = Period::containing(stage.test_env.env().now(), None).end;
    let refused = stage.take(&CALLS, None, 1).await;
    assert!(
        matches!(&refused, Err(Refused::Quota(check)) if check.resets_at == Some(end)),
        "{refused:?}"
    );
    let until = end - stage.test_env.env().now();
    stage.test_env.advance(until);
    stage.take(&CALLS, None, 2).await.unwrap();
    let mistake = stage.give_back(&CALLS, None).await.unwrap_err().to_string();
    assert!(mistake.contains("is a flow"), "{mistake}");
}

#[tokio::test]
async fn a_refused_take_says_the_numbers_and_where_they_come_from() {
    let stage = Stage::new().await;
    stage.take(&CALLS, None, 1).await.unwrap();
    let end = Period::containing(stage.test_env.env().now(), None).end;
    let refused = stage.take(&CALLS, None, 2).await.unwrap_err();
    let problem = json!({
        "type": "/problems/quota_exceeded",
        "status": 402,
        "code": "quota_exceeded",
        "detail": "The limit of calls is 2: 1 are used or reserved, and 2 more were asked for.",
        "metric": "calls",
        "subject": null,
        "current": 1,
        "used": 1,
        "reserved": 0,
        "requested": 2,
        "limit": 2,
        "hard_limit": 2,
        "plan": "free",
        "plan_version": 1,
        "layers": [{ "origin": "plan", "limit": 2, "hard_limit": 2, "until": null, "wins": true }],
        "cheapest_plan": null,
        "resets_at": end.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true),
        "upgrade_url": "/upgrade",
    });
    assert_eq!(refused.problem("/upgrade"), problem);
}

#[tokio::test]
async fn a_mistake_of_the_program_is_named_and_not_unlimited() {
    let stage = Stage::new().await;
    let unknown = Metric::new("byte");
    for (metric, per, said) in [
        (&unknown, None, "is declared nowhere"),
        (&BYTES, Some("a"), "for nothing in it"),
        (&PAGES, None, "say for what"),
    ] {
        let refused = stage.take(metric, per, 1).await.unwrap_err();
        assert!(refused.to_string().contains(said), "{refused}");
        assert_eq!((refused.code(), refused.status()), ("internal_error", 500));
        assert!(refused.members("/upgrade").is_empty());
        let problem = refused.problem("/upgrade");
        assert_eq!(problem["detail"], "Something went wrong on this side.");
    }
}

#[tokio::test]
async fn a_feature_is_required_of_the_plan_in_force() {
    let stage = Stage::new().await;
    let mut tx = stage.begin().await;
    let env = stage.test_env.env();
    require(&mut tx, env, &Feature::new("reports"))
        .await
        .unwrap();
    let exports = Feature::new("exports");
    let refused = require(&mut tx, env, &exports).await.unwrap_err();
    let problem = json!({
        "type": "/problems/feature_not_available",
        "status": 402,
        "code": "feature_not_available",
        "detail": "The plan free does not include exports.",
        "feature": "exports",
        "plan": "free",
        "plan_version": 1,
        "layers": [{ "origin": "plan", "enabled": false, "until": null, "wins": true }],
        "cheapest_plan": null,
        "upgrade_url": "/upgrade",
    });
    assert_eq!(refused.problem("/upgrade"), problem);
}

#[test]
fn every_refusal_has_its_code_status_and_members() {
    let since = DateTime::UNIX_EPOCH + TimeDelta::milliseconds(1_500);
    let read_only = ReadOnly {
        reason: "payment_failed".to_owned(),
        since,
    };
    let refused = Refused::from(BeginError::ReadOnly(read_only));
    let problem = json!({
        "type": "/problems/workspace_read_only",
        "status": 402,
        "code": "workspace_read_only",
        "detail": "The workspace takes no writes now; everything can still be read.",
        "reason": "payment_failed",
        "since": "1970-01-01T00:00:01.500Z",
        "upgrade_url": "/upgrade",
    });
    assert_eq!(refused.problem("/upgrade"), problem);
    let operation = "write";
    for (error, code, status) in [
        (
            StoreError::Full {
                operation,
                source: "disk".into(),
            },
            "insufficient_storage",
            503,
        ),
        (
            StoreError::Unavailable {
                operation,
                source: "gone".into(),
            },
            "dependency_unavailable",
            503,
        ),
        (StoreError::Taken { operation }, "internal_error", 500),
    ] {
        let refused = Refused::from(BeginError::Store(error));
        assert_eq!((refused.code(), refused.status()), (code, status));
        assert!(refused.members("/upgrade").is_empty());
    }
}
