//! Uploads and deletions over ports and blobs in memory, in which anything may fail.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test are test code, which clippy knows of functions marked as tests alone"
)]

mod deletion;
mod faults;
mod objects;
mod patience;
mod studio;
mod upload_admission;
