//! Identity as the HTTP layer sees it, over ports in memory.

mod access_tokens;
mod accounts;
mod api_keys;
mod keys;
mod lockout;
mod memory;
mod passwords;
mod proofs;
mod sessions;
mod team;
