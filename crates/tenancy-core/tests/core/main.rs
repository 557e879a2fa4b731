//! The vocabulary, as those who speak it see it.

mod audit;
mod clocks;
mod jobs;
mod pages;
mod scopes;
mod texts;
