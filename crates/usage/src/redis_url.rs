//! Where Redis is, as it is configured.
//!
//! | form | server |
//! | --- | --- |
//! | `redis://[user:password@]host[:port][/db]`, `rediss://…` with TLS | one |
//! | `redis+unix:///path[?db=N&user=…&pass=…]` | one, by its socket |
//! | `redis+cluster://[user:password@]host[:port],…[?tls=true]` | a cluster, by some of its nodes |
//! | `redis+sentinel://[user:password@]host[:port],…/master[/db][?tls=true&sentinel_user=…&sentinel_pass=…]` | the one that sentinels name |
//!
//! Invariant: neither `Debug` nor an error repeats the text, which may hold a password.

use std::fmt;
use std::time::Duration;

use deadpool_redis::redis::cluster::ClusterClient;
use deadpool_redis::redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use deadpool_redis::redis::{Client, ConnectionInfo, IntoConnectionInfo as _, RedisError, TlsMode};
use url::Url;

const SENTINEL_PORT: u16 = 26379;

/// Why a text is no address of a Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRedisUrl {
    /// Another scheme.
    #[error(
        "expected redis://, rediss://, redis+unix://, redis+cluster:// or redis+sentinel://, such as \
         redis://:password@redis.example:6379/0"
    )]
    Scheme,
    /// No host, a port or a database that is no number.
    #[error("expected {0}")]
    Form(&'static str),
    /// A parameter that is not known, or twice there.
    #[error("expected no parameters but {0}")]
    Parameter(&'static str),
}

/// The address of a Redis: one server, one behind sentinels, or a cluster.
#[derive(Clone)]
pub struct RedisUrl(Server);

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Server::One(_) => "RedisUrl(one server)",
            Server::Sentinels(_) => "RedisUrl(sentinels)",
            Server::Cluster(_) => "RedisUrl(cluster)",
        })
    }
}

#[derive(Clone)]
pub(crate) enum Server {
    One(Client),
    Sentinels(Sentinels),
    Cluster(Cluster),
}

#[derive(Clone)]
pub(crate) struct Sentinels {
    /// Sentinels, with what the server behind them is signed in to with.
    nodes: Vec<ConnectionInfo>,
    master: String,
    db: i64,
    tls: bool,
    user: Option<String>,
    password: Option<String>,
}

#[derive(Clone)]
pub(crate) struct Cluster {
    nodes: Vec<ConnectionInfo>,
}

impl RedisUrl {
    /// Reads an address.
    ///
    /// # Errors
    /// See [`InvalidRedisUrl`].
    pub fn parse(text: &str) -> Result<Self, InvalidRedisUrl> {
        let (scheme, rest) = text.split_once("://").ok_or(InvalidRedisUrl::Scheme)?;
        // `#insecure` would switch the verification of certificates off.
        let plain = |form| {
            if rest.contains(['#', '\0']) || rest.contains(char::is_whitespace) {
                Err(InvalidRedisUrl::Form(form))
            } else {
                Ok(form)
            }
        };
        let server = match scheme {
            "redis" | "rediss" => {
                let form = plain("a host, such as redis://:password@redis.example:6379/0")?;
                if rest.contains('?') {
                    return Err(InvalidRedisUrl::Parameter("none"));
                }
                Server::One(client(node(scheme, rest, form)?, form)?)
            }
            "redis+unix" => {
                let form = plain("the path of a socket, such as redis+unix:///run/redis.sock")?;
                let (_, parameters) = split_once_or_all(rest, '?');
                let _ = Parameters::read(parameters, &["db", "user", "pass"])
                    .ok_or(InvalidRedisUrl::Parameter("db, user and pass"))?;
                let url = Url::parse(text).map_err(|_| InvalidRedisUrl::Form(form))?;
                if url.host().is_some() || url.path().len() < 2 {
                    return Err(InvalidRedisUrl::Form(form));
                }
                let info = url.into_connection_info();
                Server::One(client(
                    info.map_err(|_| InvalidRedisUrl::Form(form))?,
                    form,
                )?)
            }
            "redis+cluster" => {
                let form =
                    plain("hosts, such as redis+cluster://:password@a.example:6379,b.example")?;
                let (rest, parameters) = split_once_or_all(rest, '?');
                let parameters = Parameters::read(parameters, &["tls"]);
                let tls = parameters.and_then(|p| p.tls());
                let tls = tls.ok_or(InvalidRedisUrl::Parameter("tls=true or tls=false"))?;
                let (hosts, path) = split_once_or_all(rest, '/');
                if !path.is_empty() {
                    return Err(InvalidRedisUrl::Form(form));
                }
                Server::Cluster(Cluster {
                    nodes: nodes(hosts, tls, None, form)?,
                })
            }
            "redis+sentinel" => {
                let form = plain(
                    "sentinels and a master's name, such as redis+sentinel://:password@a.example,b.example/mymaster/0",
                )?;
                const KNOWN: &str = "tls=true or tls=false, sentinel_user and sentinel_pass";
                let (rest, parameters) = split_once_or_all(rest, '?');
                let known = ["tls", "sentinel_user", "sentinel_pass"];
                let mut parameters = Parameters::read(parameters, &known)
                    .ok_or(InvalidRedisUrl::Parameter(KNOWN))?;
                let tls = parameters.tls().ok_or(InvalidRedisUrl::Parameter(KNOWN))?;
                let (hosts, path) = split_once_or_all(rest, '/');
                let (master, db) = split_once_or_all(path, '/');
                let db = if db.is_empty() {
                    Ok(0)
                } else {
                    db.parse::<u16>()
                };
                let (Ok(db), false) = (db, master.is_empty()) else {
                    return Err(InvalidRedisUrl::Form(form));
                };
                Server::Sentinels(Sentinels {
                    nodes: nodes(hosts, tls, Some(SENTINEL_PORT), form)?,
                    master: master.to_owned(),
                    db: i64::from(db),
                    tls,
                    user: parameters.take("sentinel_user"),
                    password: parameters.take("sentinel_pass"),
                })
            }
            _ => return Err(InvalidRedisUrl::Scheme),
        };
        Ok(Self(server))
    }

    pub(crate) const fn server(&self) -> &Server {
        &self.0
    }
}

impl Sentinels {
    pub(crate) fn client(&self) -> Result<SentinelClient, RedisError> {
        let tls = if self.tls {
            Some(TlsMode::Secure)
        } else {
            None
        };
        let addresses = self.nodes.iter().map(|node| node.addr().clone());
        let mut builder =
            SentinelClientBuilder::new(addresses, &self.master, SentinelServerType::Master)?
                .set_client_to_redis_db(self.db);
        if let Some(tls) = tls {
            builder = builder
                .set_client_to_redis_tls_mode(tls)
                .set_client_to_sentinel_tls_mode(tls);
        }
        let signed_in = self.nodes.first().map(ConnectionInfo::redis_settings);
        if let Some(user) = signed_in.and_then(|redis| redis.username()) {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = signed_in.and_then(|redis| redis.password()) {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(user) = &self.user {
            builder = builder.set_client_to_sentinel_username(user);
        }
        if let Some(password) = &self.password {
            builder = builder.set_client_to_sentinel_password(password);
        }
        builder.build()
    }
}

impl Cluster {
    pub(crate) fn client(
        &self,
        connect_within: Duration,
        answer_within: Duration,
    ) -> Result<ClusterClient, RedisError> {
        ClusterClient::builder(self.nodes.clone())
            .connection_timeout(connect_within)
            .response_timeout(answer_within)
            .retries(2)
            .build()
    }
}

fn client(info: ConnectionInfo, form: &'static str) -> Result<Client, InvalidRedisUrl> {
    Client::open(info).map_err(|_| InvalidRedisUrl::Form(form))
}

fn node(scheme: &str, rest: &str, form: &'static str) -> Result<ConnectionInfo, InvalidRedisUrl> {
    let url = Url::parse(&format!("{scheme}://{rest}")).map_err(|_| InvalidRedisUrl::Form(form))?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err(InvalidRedisUrl::Form(form));
    }
    url.into_connection_info()
        .map_err(|_| InvalidRedisUrl::Form(form))
}

/// Hosts behind one credential.
fn nodes(
    text: &str,
    tls: bool,
    port: Option<u16>,
    form: &'static str,
) -> Result<Vec<ConnectionInfo>, InvalidRedisUrl> {
    let (credential, hosts) = match text.rsplit_once('@') {
        Some((credential, hosts)) => (format!("{credential}@"), hosts),
        None => (String::new(), text),
    };
    let scheme = if tls { "rediss" } else { "redis" };
    let each = hosts.split(',').map(|host| {
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.contains(']'));
        let port = port.filter(|_| !has_port);
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        node(scheme, &format!("{credential}{host}{port}"), form)
    });
    each.collect()
}

fn split_once_or_all(text: &str, at: char) -> (&str, &str) {
    text.split_once(at).unwrap_or((text, ""))
}

/// What follows the question mark.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Nothing when one is not known, or twice there.
    fn read(text: &str, known: &[&str]) -> Option<Self> {
        let read: Vec<(String, String)> = url::form_urlencoded::parse(text.as_bytes())
            .into_owned()
            .collect();
        let good = read.iter().enumerate().all(|(at, (name, _))| {
            known.contains(&name.as_str()) && !read[..at].iter().any(|(other, _)| other == name)
        });
        good.then_some(Self(read))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(at).1)
    }

    fn tls(&self) -> Option<bool> {
        match self.0.iter().find(|(name, _)| name == "tls") {
            None => Some(false),
            Some((_, value)) => value.parse().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> RedisUrl {
        RedisUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn every_form_is_taken() {
        for (text, kind) in [
            ("redis://localhost", "one server"),
            ("redis://:s3cret@redis.example:6380/2", "one server"),
            ("redis://user:s3cret@[::1]:6380", "one server"),
            ("rediss://redis.example", "one server"),
            ("redis+unix:///run/redis.sock", "one server"),
            (
                "redis+unix:///run/redis.sock?db=1&user=u&pass=s3cret",
                "one server",
            ),
            (
                "redis+cluster://a.example:7000,b.example,[::1]:7001",
                "cluster",
            ),
            ("redis+cluster://user:s3cret@a.example?tls=true", "cluster"),
            (
                "redis+sentinel://a.example,b.example:26380/mymaster",
                "sentinels",
            ),
            (
                "redis+sentinel://:s3cret@a.example/mymaster/3?sentinel_pass=s3cret&tls=false",
                "sentinels",
            ),
        ] {
            let shown = format!("{:?}", parse(text));
            assert_eq!(shown, format!("RedisUrl({kind})"), "{text}");
        }
    }

    #[test]
    fn what_a_url_says_reaches_the_connection() {
        let Server::One(client) = parse("rediss://user:s%2Fcret@redis.example:6380/2").0 else {
            panic!("one server")
        };
        let info = client.get_connection_info();
        assert_eq!(info.addr().to_string(), "redis.example:6380");
        let redis = info.redis_settings();
        assert_eq!(
            (redis.username(), redis.password()),
            (Some("user"), Some("s/cret"))
        );
        assert_eq!(redis.db(), 2);

        let Server::Sentinels(sentinels) =
            parse("redis+sentinel://:p@a.example,b.example:1/m/3?sentinel_user=u").0
        else {
            panic!("sentinels")
        };
        let addresses: Vec<_> = sentinels
            .nodes
            .iter()
            .map(|n| n.addr().to_string())
            .collect();
        assert_eq!(addresses, ["a.example:26379", "b.example:1"]);
        assert_eq!((sentinels.master.as_str(), sentinels.db), ("m", 3));
        assert_eq!(sentinels.user.as_deref(), Some("u"));
        assert!(sentinels.client().is_ok());

        let Server::Cluster(cluster) = parse("redis+cluster://:p@a.example:7000,b.example").0
        else {
            panic!("cluster")
        };
        assert_eq!(cluster.nodes.len(), 2);
        assert!(
            cluster
                .nodes
                .iter()
                .all(|n| n.redis_settings().password() == Some("p"))
        );
    }

    #[test]
    fn anything_else_is_refused_without_being_repeated() {
        for text in [
            "",
            "s3cret",
            "http://:s3cret@redis.example",
            "valkey://:s3cret@redis.example",
            "unix:///s3cret",
            "redis://",
            "redis://:s3cret@",
            "redis://:s3cret@redis.example/one",
            "redis://:s3cret@redis.example:port",
            "redis://:s3cret@redis.example?protocol=resp3",
            "rediss://:s3cret@redis.example#insecure",
            "redis+unix://",
            "redis+unix://host/s3cret",
            "redis+unix:///run/redis.sock?pass=s3cret&password=s3cret",
            "redis+unix:///run/redis.sock?pass=s3cret&pass=s3cret",
            "redis+unix:///run/redis.sock?db=s3cret",
            "redis+cluster://:s3cret@a.example,",
            "redis+cluster://:s3cret@a.example/1",
            "redis+cluster://:s3cret@a.example?tls=s3cret",
            "redis+sentinel://:s3cret@a.example",
            "redis+sentinel://:s3cret@a.example/",
            "redis+sentinel://:s3cret@a.example/m/s3cret",
            "redis+sentinel://:s3cret@a.example/m?password=s3cret",
            "redis+sentinel:///m",
        ] {
            match RedisUrl::parse(text) {
                Ok(url) => panic!("{text} was taken as {url:?}"),
                Err(error) => assert!(!error.to_string().contains("s3cret"), "{text}: {error}"),
            }
        }
    }
}
