use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_tenancy_core::event::{DeliverEvent, DomainEvent};
use rawdrive_tenancy_core::job::{Job, JobKind, JobsTx, backoff};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Report {
    month: String,
}

impl JobKind for Report {
    const NAME: &'static str = "report";
}

/// Another kind of the same shape.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Invoice {
    month: String,
}

impl JobKind for Invoice {
    const NAME: &'static str = "invoice";
}

fn report() -> Report {
    Report {
        month: "2026-11".to_owned(),
    }
}

#[test]
fn a_wait_doubles_from_a_second_to_five_minutes() {
    let waits: Vec<_> = (0..=12)
        .map(|attempts| backoff(attempts).num_seconds())
        .collect();
    assert_eq!(waits, [1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    assert_eq!(backoff(u32::MAX), TimeDelta::minutes(5));
}

#[test]
fn a_job_is_read_as_its_own_kind_and_shape() {
    let job = Job::of(&report()).unwrap();
    assert_eq!(job.kind(), "report");
    assert_eq!(job.as_kind(), Some(report()));
    assert_eq!(
        job.as_kind::<Invoice>(),
        None,
        "the same shape is not the same kind"
    );
    assert_eq!(job.payload::<Invoice>().unwrap().month, "2026-11");
    let other = Job::named("report", &json!({ "week": 3 })).unwrap();
    assert_eq!(
        other.as_kind::<Report>(),
        None,
        "nor the same kind the same shape"
    );
    assert!(other.payload::<Report>().is_err());
    assert!(Job::named("report", &json!([1])).is_err());
}

#[derive(Default)]
struct Outbox(Vec<(Job, Option<DateTime<Utc>>)>);

impl JobsTx for Outbox {
    fn enqueue_job(&mut self, job: Job, due: Option<DateTime<Utc>>) {
        self.0.push((job, due));
    }
}

#[test]
fn a_kinds_payload_is_enqueued_as_its_job() {
    let mut outbox = Outbox::default();
    let due = Some(DateTime::UNIX_EPOCH);
    outbox.enqueue(&report(), due).unwrap();
    assert_eq!(outbox.0, [(Job::of(&report()).unwrap(), due)]);
}

#[test]
fn an_event_is_delivered_with_all_that_it_says() {
    let event = DomainEvent {
        kind: "note.written".to_owned(),
        subject: "not_1".to_owned(),
        facts: json!({ "words": 3 }),
    };
    let job = Job::of(&DeliverEvent { event }).unwrap();
    let stored = serde_json::to_value(&job).unwrap();
    let expected = json!({
        "kind": "deliver_event",
        "event": { "kind": "note.written", "subject": "not_1", "facts": { "words": 3 } },
    });
    assert_eq!(stored, expected);
}
