//! Identity as the HTTP layer sees it, over ports in memory.

mod access_tokens;
mod accounts;
mod api_keys;
mod callers;
mod email_tokens;
mod lockout;
mod memory;
mod page_tokens;
mod passwords;
mod sessions;
mod signing_keys;
mod team;
