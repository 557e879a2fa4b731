//! The product as its clients and its operator see it. Every test makes workspaces of its own; those that
//! kill, measure or turn the clock of a server have one of their own as well.

mod access;
mod analysis;
mod arrears;
mod billing;
mod blob_mark;
mod clients;
mod connections;
mod conventions;
mod convergence;
mod crash;
mod credentials;
mod development;
mod doctor;
mod ends;
mod files;
mod galleries;
mod hostile;
mod identity;
mod isolation;
mod items;
mod ledger;
mod life;
mod lockout;
mod mirror;
mod money_once;
/// About PostgreSQL alone: ignored unless `cargo xtask test` runs on it.
mod on_postgres {
    mod database_faults;
}
/// About SQLite alone: `cargo xtask test` leaves them out on the others.
mod on_sqlite {
    mod adoption;
    mod browser;
    mod edge;
    mod limits;
    mod scopes;
    mod storage_faults;
    mod throttle;
    mod unmarked_blobs;
}
mod onboarding;
mod operation;
mod outbound;
mod pages;
mod payer;
mod people;
mod photo_records;
mod photos;
mod plans;
mod previews;
mod proofs;
mod quota;
mod read_only;
mod readme;
mod renditions;
mod reservations;
mod secrets;
mod signatures;
mod skew;
mod stage;
mod team;
mod walk;
mod webhooks;
