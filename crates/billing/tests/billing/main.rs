//! Billing over ports in memory: convergence, grace, operations that survive what is lost, and selling.

mod convergence;
mod grace;
mod operations;
mod sell;
mod studio;
