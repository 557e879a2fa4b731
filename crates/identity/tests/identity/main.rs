//! Identity as the HTTP layer sees it, over ports in memory.

mod access_tokens;
mod accounts;
mod keys;
mod memory;
mod passwords;
mod sessions;
