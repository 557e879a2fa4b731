//! Users, passwords, sessions and tokens.

pub mod email;
pub mod key;
pub mod name;
pub mod password;
pub mod ports;
pub mod text;
pub mod token;
