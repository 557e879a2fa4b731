//! What a plan says, what a workspace is entitled to, and what an operator changes of that.

mod catalogue;
mod entitlements;
mod names;
mod overrides;
mod quota;
