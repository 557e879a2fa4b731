use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_plans::{Catalogue, Metric, Slug};
use rawdrive_tenancy_core::{Commit as _, WorkspaceScope};
use rawdrive_testkit::{MemoryStore, TestEnv};
use rawdrive_usage::{CorrectError, Corrected, Correction, LineKind, Period, correct};
use serde_json::{Value, json};

const PLANS: &str = r#"
[[metric]]
name = "bytes"
kind = "level"
[[metric]]
name = "calls"
kind = "flow"
[[metric]]
name = "pages"
kind = "level"
per = "folder"
[[plan]]
slug = "free"
version = 1
name = "Free"
limits = { bytes = 10, calls = 10 }
"#;

struct Stage {
    test_env: TestEnv,
    store: MemoryStore,
    scope: WorkspaceScope,
    catalogue: Catalogue,
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
            catalogue,
        }
    }

    async fn correct(&self, correction: &Correction) -> Result<Corrected, CorrectError> {
        let mut tx = self.store.begin_despite_read_only(&self.scope).await;
        let corrected = correct(&mut tx, self.test_env.env(), &self.catalogue, correction).await?;
        tx.commit().await?;
        Ok(corrected)
    }

    fn now(&self) -> DateTime<Utc> {
        self.test_env.env().now()
    }

    fn told(&self) -> usize {
        self.store.rows(&self.scope).jobs.len()
    }
}

fn of(metric: &'static str, quantity: i64) -> Correction {
    Correction {
        metric: Metric::new(metric),
        subject: None,
        quantity,
        at: None,
        reason: " counted twice ".to_owned(),
    }
}

#[tokio::test]
async fn a_count_is_put_right_with_a_line_and_an_entry() {
    let stage = Stage::new().await;
    let first = stage.correct(&of("bytes", 7)).await.unwrap();
    assert_eq!((first.before, first.after), (0, 7));
    assert_eq!(stage.told(), 0);
    let second = stage.correct(&of("bytes", -3)).await.unwrap();
    assert_eq!((second.before, second.after), (7, 4));
    assert!(second.key.is_level());
    let rows = stage.store.rows(&stage.scope);
    let lines: Vec<_> = rows
        .ledger
        .iter()
        .map(|line| (line.kind, line.quantity, line.occurred_at))
        .collect();
    let now = stage.now();
    assert_eq!(
        lines,
        [
            (LineKind::Correction, 7, now),
            (LineKind::Correction, -3, now)
        ]
    );
    let payload = rows.audit[1].payload.as_ref().unwrap();
    let payload: Value = serde_json::from_str(&payload.text).unwrap();
    let side = |used: u64| json!({ "metric": "bytes", "counted_for": "", "period_start": null, "used": used });
    assert_eq!(payload["before"], side(7));
    let mut after = side(4);
    after["reason"] = json!("counted twice");
    assert_eq!(payload["after"], after);
    assert_eq!(rows.audit[1].action, "usage.corrected");
    assert_eq!(rows.audit[1].subject, stage.scope.workspace().to_string());
    // Thresholds are told of as with every other change.
    stage.correct(&of("bytes", 5)).await.unwrap();
    assert_eq!(stage.told(), 1);
}

#[tokio::test]
async fn a_flow_is_put_right_in_the_period_that_is_meant() {
    let stage = Stage::new().await;
    let earlier = stage.now() - TimeDelta::days(40);
    let past = Correction {
        at: Some(earlier),
        ..of("calls", 10)
    };
    let corrected = stage.correct(&past).await.unwrap();
    let period = Period::containing(earlier, None);
    assert_eq!(corrected.key.period_start, period.start);
    assert_eq!(stage.told(), 0, "a period that is over warns nobody");
    let present = Correction {
        at: Some(stage.now()),
        ..of("calls", 10)
    };
    let corrected = stage.correct(&present).await.unwrap();
    assert_eq!(corrected.before, 0, "another counter");
    assert_eq!(stage.told(), 1);
    let rows = stage.store.rows(&stage.scope);
    assert_eq!(rows.ledger[0].occurred_at, earlier);
    let payload = rows.audit[0].payload.as_ref().unwrap();
    let payload: Value = serde_json::from_str(&payload.text).unwrap();
    assert_eq!(payload["before"]["period_start"], json!(period.start));
}

#[tokio::test]
async fn what_corrects_nothing_is_refused() {
    let stage = Stage::new().await;
    let with = |change: fn(&mut Correction), metric: &'static str| {
        let mut correction = of(metric, 1);
        change(&mut correction);
        correction
    };
    let ahead = Correction {
        at: Some(stage.now() + TimeDelta::microseconds(1)),
        ..of("calls", 1)
    };
    let long = Correction {
        reason: "x".repeat(501),
        ..of("bytes", 1)
    };
    for (correction, said) in [
        (
            with(|c| c.reason = " ".to_owned(), "bytes"),
            "a reason of 1 to 500",
        ),
        (long, "a reason of 1 to 500"),
        (of("byte", 1), "there is no metric `byte`"),
        (of("bytes", 0), "a correction of 0"),
        (ahead, "lies ahead"),
        (of("pages", 1), "say for which"),
        (
            with(|c| c.subject = Some("f".to_owned()), "bytes"),
            "for no subject",
        ),
        (of("bytes", -1), "0 are counted: -1 would leave no count"),
        (of("bytes", i64::MAX), "would leave no count"),
    ] {
        let error = stage.correct(&correction).await.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    let rows = stage.store.rows(&stage.scope);
    assert!(rows.ledger.is_empty() && rows.audit.is_empty());
    let longest = Correction {
        subject: Some("folder_1".to_owned()),
        reason: "x".repeat(500),
        ..of("pages", 1)
    };
    let corrected = stage.correct(&longest).await.unwrap();
    assert_eq!(corrected.key.subject, "folder_1");
}
