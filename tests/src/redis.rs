//! A Redis of a test's own, which can be killed, frozen and given an old dump.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

const READY_WITHIN: Duration = Duration::from_secs(10);

/// A `redis-server` on a socket of its own, stopped and removed on drop.
#[derive(Debug)]
pub struct Redis {
    root: TempDir,
    process: Mutex<Option<Process>>,
}

#[derive(Debug)]
struct Process {
    child: Child,
    watchdog: Child,
    leash: ChildStdin,
}

impl Redis {
    /// Starts a server that keeps nothing unless it is told to.
    #[must_use]
    pub fn start() -> Self {
        let redis = Self::stopped();
        redis.run();
        redis
    }

    /// A server that does not run yet.
    ///
    /// # Panics
    /// A directory cannot be made.
    #[must_use]
    pub fn stopped() -> Self {
        // Below /tmp: a socket's path has at most 107 bytes.
        let root = TempDir::with_prefix_in("rawdrive-redis-", "/tmp");
        Self {
            root: root.expect("failed to make a directory"),
            process: Mutex::new(None),
        }
    }

    /// What to configure.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    /// Starts it, with what it finds on its disk.
    ///
    /// # Panics
    /// There is no `redis-server`, or it does not answer.
    pub fn run(&self) {
        let log = File::create(self.root.path().join("redis.log"));
        let child = Command::new("redis-server")
            .args(["--port", "0", "--unixsocket", "s", "--save", ""])
            .args(["--appendonly", "no"])
            .current_dir(self.root.path())
            .stdin(Stdio::null())
            .stdout(log.expect("failed to open the log"))
            .spawn()
            .expect("redis-server is installed: apt-get install redis-server");
        let mut watchdog = Command::new("sh")
            .args([
                "-c",
                r#"read -r _ && exit 0; kill -9 "$1"; sleep 1; rm -rf "$2""#,
                "watchdog",
            ])
            .arg(child.id().to_string())
            .arg(self.root.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("failed to start the watchdog");
        let leash = watchdog.stdin.take().expect("the watchdog has a pipe");
        *self.lock() = Some(Process {
            child,
            watchdog,
            leash,
        });
        let began = Instant::now();
        while self.cli(&["PING"]) != "PONG" {
            assert!(
                began.elapsed() < READY_WITHIN,
                "redis-server does not answer"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it as a power cut would.
    pub fn kill9(&self) {
        if let Some(mut process) = self.lock().take() {
            // Already gone is as good.
            let _ = process.child.kill();
            let _ = process.child.wait();
            let _ = process.leash.write_all(b"done\n");
            drop(process.leash);
            let _ = process.watchdog.wait();
        }
    }

    /// Has it write what it holds to its disk.
    ///
    /// # Panics
    /// It does not.
    pub fn save(&self) {
        assert_eq!(self.cli(&["SAVE"]), "OK");
    }

    /// Removes what it has written.
    pub fn forget(&self) {
        let _ = fs::remove_file(self.root.path().join("dump.rdb"));
    }

    /// Lets it go on holding its connections and answer nobody.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// The inverse of [`Redis::freeze`].
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    /// What `redis-cli` prints, without the last newline.
    ///
    /// # Panics
    /// There is no `redis-cli`.
    #[must_use]
    pub fn cli(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        let output = command
            .arg("-s")
            .arg(self.socket())
            .args(arguments)
            .output();
        let printed = output.expect("redis-cli is installed").stdout;
        String::from_utf8_lossy(&printed).trim_end().to_owned()
    }

    fn signal(&self, signal: &str) {
        let pid = self.lock().as_ref().expect("the server runs").child.id();
        let sent = Command::new("kill")
            .args([signal, &pid.to_string()])
            .status();
        assert!(sent.is_ok_and(|status| status.success()));
    }

    fn socket(&self) -> PathBuf {
        self.root.path().join("s")
    }

    fn lock(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill9();
    }
}
