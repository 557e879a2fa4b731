//! A connection to Redis, whichever kind of Redis it is.

use std::fmt;
use std::time::Duration;

use deadpool_redis::redis::aio::{ConnectionLike, MultiplexedConnection};
use deadpool_redis::redis::cluster_async::ClusterConnection;
use deadpool_redis::redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisError, RedisFuture, Value};

use crate::redis_url::{RedisUrl, Server};

/// A connection that many requests share: each goes out at once, and answers come back in their order.
#[derive(Clone)]
pub struct RedisLink(Link);

#[derive(Clone)]
enum Link {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl fmt::Debug for RedisLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Link::One(_) => "RedisLink(one server)",
            Link::Cluster(_) => "RedisLink(cluster)",
        })
    }
}

impl RedisUrl {
    /// Connects. `connect_within` is the time of one server among several, `answer_within` that of each command.
    ///
    /// # Errors
    /// No server answers, or it refuses.
    pub async fn link(
        &self,
        connect_within: Duration,
        answer_within: Duration,
    ) -> Result<RedisLink, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(connect_within))
            .set_response_timeout(Some(answer_within));
        Ok(RedisLink(match self.server() {
            Server::One(client) => {
                let opened = client.get_multiplexed_async_connection_with_config(&config);
                Link::One(opened.await?)
            }
            Server::Sentinels(sentinels) => {
                let mut client = sentinels.client()?;
                Link::One(client.get_async_connection_with_config(&config).await?)
            }
            Server::Cluster(cluster) => {
                let client = cluster.client(connect_within, answer_within)?;
                Link::Cluster(client.get_async_connection().await?)
            }
        }))
    }
}

impl RedisLink {
    /// The one server behind it; none of a cluster.
    pub(crate) fn one(&mut self) -> Option<&mut MultiplexedConnection> {
        match &mut self.0 {
            Link::One(link) => Some(link),
            Link::Cluster(_) => None,
        }
    }
}

impl ConnectionLike for RedisLink {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match &mut self.0 {
            Link::One(link) => link.req_packed_command(cmd),
            Link::Cluster(link) => link.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match &mut self.0 {
            Link::One(link) => link.req_packed_commands(pipeline, offset, count),
            Link::Cluster(link) => link.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match &self.0 {
            Link::One(link) => link.get_db(),
            Link::Cluster(link) => link.get_db(),
        }
    }
}
