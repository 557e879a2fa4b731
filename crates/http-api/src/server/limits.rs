//! What a server takes on, and how long it waits for a client.

use std::time::Duration;

use crate::web::Pace;

/// Descriptors that connections leave to everything else: the database, logs, uploads under way.
const RESERVED_DESCRIPTORS: u64 = 128;
/// A connection may hold a second descriptor: the file that it downloads.
const DESCRIPTORS_PER_CONNECTION: u64 = 2;
/// More than one process serves well; it bounds the memory that buffers take.
const MOST_CONNECTIONS: usize = 16_384;

/// The limits of a [`Server`](super::Server).
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at a time. Beyond it, the connection that has kept the server waiting longest is closed; where
    /// none has, the new one is answered 503 `overloaded`.
    pub connections: usize,
    /// Connections at a time of one address (of one /64 in IPv6). Beyond it, the same among its own.
    pub connections_per_address: usize,
    /// How long the head of a request may take from its first byte; for the first one, from the connection.
    pub head: Duration,
    /// How long a connection may stay open without a request.
    pub idle: Duration,
    /// The least pace at which a client takes an answer. Time in which the socket takes bytes does not count.
    pub answer: Pace,
    /// How long a client may make no progress at all once the server has been asked to end.
    pub stalled_at_stop: Duration,
    /// How long requests that make progress may take once the server has been asked to end.
    pub drain: Duration,
}

impl Limits {
    /// The standard limits for a process that may hold `descriptors` files and sockets open.
    #[must_use]
    pub fn for_descriptors(descriptors: u64) -> Self {
        let usable = descriptors.saturating_sub(RESERVED_DESCRIPTORS) / DESCRIPTORS_PER_CONNECTION;
        let connections = usize::try_from(usable)
            .unwrap_or(usize::MAX)
            .clamp(16, MOST_CONNECTIONS);
        Self {
            connections,
            // One address never takes more than half of what everybody has.
            connections_per_address: connections / 2,
            ..Self::default()
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: MOST_CONNECTIONS,
            connections_per_address: MOST_CONNECTIONS / 2,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            // An EDGE phone takes 3 KiB a second. What it has taken shows in steps: a system announces room when its
            // receive buffer is empty, commonly 128 KiB, which is every 43 s. Each window sees one step.
            answer: Pace {
                window: Duration::from_secs(50),
                least_bytes: 16 * 1024,
            },
            stalled_at_stop: Duration::from_secs(3),
            drain: Duration::from_secs(30),
        }
    }
}
