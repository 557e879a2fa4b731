//! A Redis of a test's own.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rawdrive_tenancy_core::StoreError;
use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_testkit::contract::usage_cache::UsageCacheSubject;
use rawdrive_usage::{
    ChangedWorkspace, LiveRow, LiveSource, LiveUsage, RedisUrl, RedisUsageCache, Republisher,
    UsageCache,
};
use tempfile::TempDir;

/// Killed and removed on drop.
pub(crate) struct RedisServer {
    directory: TempDir,
    /// Beside its socket, where it listens on one.
    port: Option<u16>,
    extra: Vec<String>,
    process: Mutex<Option<Child>>,
}

/// Starts a server that keeps nothing unless it is asked to.
pub(crate) async fn start() -> RedisServer {
    RedisServer::new(None, &[])
}

impl RedisServer {
    fn new(port: Option<u16>, extra: &[&str]) -> Self {
        // Below /tmp: a socket's path has at most 107 bytes.
        let server = Self {
            directory: TempDir::with_prefix_in("rawdrive-redis-", "/tmp").unwrap(),
            port,
            extra: extra.iter().map(|arg| (*arg).to_owned()).collect(),
            process: Mutex::new(None),
        };
        server.spawn();
        server
    }

    /// One that listens on a port too.
    pub(crate) fn on_port() -> Self {
        Self::new(Some(free_port()), &[])
    }

    /// A cluster of one node, which serves every slot.
    pub(crate) fn cluster() -> Self {
        let server = Self::new(Some(free_port()), &["--cluster-enabled", "yes"]);
        server.cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
        await_true("the cluster is up", || {
            server
                .cli(&["CLUSTER", "INFO"])
                .contains("cluster_state:ok")
        });
        server
    }

    /// A sentinel that names the server on a port `mymaster`.
    pub(crate) fn sentinel(port: u16) -> Self {
        let sentinel = Self {
            directory: TempDir::with_prefix_in("rawdrive-redis-", "/tmp").unwrap(),
            port: Some(free_port()),
            extra: Vec::new(),
            process: Mutex::new(None),
        };
        let file = sentinel.directory.path().join("sentinel.conf");
        fs::write(
            &file,
            format!("sentinel monitor mymaster 127.0.0.1 {port} 1\n"),
        )
        .unwrap();
        let mut command = Command::new("redis-server");
        command.arg(&file).arg("--sentinel");
        command.args(["--unixsocket", "s", "--port", &sentinel.port().to_string()]);
        sentinel.launch(command);
        sentinel
    }

    fn spawn(&self) {
        let mut command = Command::new("redis-server");
        command.args(["--unixsocket", "s", "--save", "", "--appendonly", "no"]);
        command.args(["--port", &self.port.unwrap_or(0).to_string()]);
        command.args(&self.extra);
        self.launch(command);
    }

    fn launch(&self, mut command: Command) {
        let log = fs::File::create(self.directory.path().join("log")).unwrap();
        let child = command
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(log)
            .spawn()
            .expect("redis-server is installed: apt-get install redis-server");
        *self.process.lock().unwrap() = Some(child);
        await_true("redis-server answers", || self.cli(&["PING"]) == "PONG\n");
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.expect("the server has a port")
    }

    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    pub(crate) fn cache(&self) -> RedisUsageCache {
        RedisUsageCache::new(RedisUrl::parse(&self.url()).unwrap())
    }

    /// Live usage of a server without workspaces.
    pub(crate) fn live(&self) -> (LiveUsage, Republisher<Nothing>) {
        let live = LiveUsage::new(Arc::new(self.cache()));
        let republisher = Republisher::new(live.clone(), Nothing);
        (live, republisher)
    }

    pub(crate) fn cli(&self, args: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        let output = command.arg("-s").arg(self.socket()).args(args).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    }

    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.process.lock().unwrap().as_ref().unwrap().id();
        let done = Command::new("kill")
            .args([signal, &pid.to_string()])
            .status();
        assert!(done.unwrap().success());
    }

    fn kill(&self) {
        if let Some(mut child) = self.process.lock().unwrap().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

impl UsageCacheSubject for RedisServer {
    fn client(&self) -> Arc<dyn UsageCache> {
        Arc::new(self.cache())
    }

    async fn empty(&self) {
        assert_eq!(self.cli(&["FLUSHALL"]), "OK\n");
    }

    async fn save(&self) {
        assert_eq!(self.cli(&["SAVE"]), "OK\n");
    }

    async fn restart(&self, with_what_was_saved: bool) {
        self.kill();
        if !with_what_was_saved {
            let _ = fs::remove_file(self.directory.path().join("dump.rdb"));
        }
        self.spawn();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn await_true(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "not within 10 s: {what}"
        );
        sleep(Duration::from_millis(10));
    }
}

/// A database without workspaces.
pub(crate) struct Nothing;

impl LiveSource for Nothing {
    fn now(&self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + chrono::TimeDelta::days(20_000)
    }

    async fn changed(
        &self,
        _: DateTime<Utc>,
        _: Option<WorkspaceId>,
        _: u32,
    ) -> Result<Vec<ChangedWorkspace>, StoreError> {
        Ok(Vec::new())
    }

    async fn rows_changed(
        &self,
        _: WorkspaceId,
        _: DateTime<Utc>,
    ) -> Result<Vec<LiveRow>, StoreError> {
        Ok(Vec::new())
    }

    async fn workspaces(
        &self,
        _: Option<WorkspaceId>,
        _: u32,
    ) -> Result<Vec<WorkspaceId>, StoreError> {
        Ok(Vec::new())
    }

    async fn rows(&self, _: WorkspaceId, _: DateTime<Utc>) -> Result<Vec<LiveRow>, StoreError> {
        Ok(Vec::new())
    }
}
