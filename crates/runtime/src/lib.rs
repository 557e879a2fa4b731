//! Background work: jobs, events and their consumers, billing's loops, cache repair, and what the passing of time alone
//! calls for. The server runs it, and so can anybody who embeds the store.
//!
//! ```no_run
//! use rawdrive_runtime::{JobContext, Runtime};
//! use rawdrive_store::Store;
//! use rawdrive_tenancy_core::job::JobKind;
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct SendReport { month: String }
//! impl JobKind for SendReport { const NAME: &'static str = "send_report"; }
//!
//! async fn work(store: Store) {
//!     Runtime::builder(store)
//!         .job(|context: JobContext, report: SendReport| async move {
//!             let workspace = context.store().read(context.scope()).workspace().await?;
//!             println!("the report of {} for {}", report.month, workspace.name);
//!             Ok(())
//!         })
//!         .on("usage.threshold_crossed", |_, event| async move {
//!             println!("{} crossed a threshold", event.subject);
//!             Ok(())
//!         })
//!         .build()
//!         .run()
//!         .await;
//! }
//! ```
//!
//! **Lanes.** Each kind of job has a lane of its own, with a bound on how much runs at once: a kind that hangs delays no
//! other. A lane takes turns between the workspaces that have due jobs of its kind, so that a workspace with ten
//! thousand jobs delays the one job of another by no more than a round. Several runtimes, in one process or in many,
//! share the queue.
//!
//! **Once or again.** A job is leased for 60 seconds and has 50 to end. One that fails, panics or takes longer is tried
//! again after its backoff, and ends nothing else; [`JobError::give_up`] deletes it. A job may be carried out twice,
//! where a runner dies between its work and its end; one that finishes in its own transaction
//! ([`JobContext::finish`]) takes effect once.
//!
//! **Events.** Each event becomes a job of its own for each consumer that wants it, so that a consumer that fails repeats
//! no other. A consumer's name is its place in the queue, and stays.
//!
//! **Kinds without a handler** are kept, never leased, and named in the log; [`Store::jobs_by_kind`] counts them.
//!
//! Invariant: a job that was committed is leased by one runner at a time, and is deleted only after its handler succeeded
//! or gave it up.
//!
//! [`Store::jobs_by_kind`]: rawdrive_store::Store::jobs_by_kind

mod billing;
mod builder;
mod events;
mod housekeeping;
mod job;
mod lane;
mod mails;
mod queue;

pub use billing::Provider;
pub use builder::{Builder, Runtime};
pub use job::{JobContext, JobError};
pub use mails::Mails;
