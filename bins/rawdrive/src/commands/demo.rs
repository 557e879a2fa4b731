//! `rawdrive demo`: the main job, walked on a throw-away data directory.
//!
//! The server is a child, the same executable, so that the tour sees what any client would see. It is
//! ended and its directory removed however the tour ends.

mod tour;
mod wire;

use std::fs::File;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::stop::Stop;
use crate::config;
use tour::{PHOTOS, Tour};
use wire::{Http, Request, Wire as _, quoted};

/// How long the server may take until it is ready.
const READY: Duration = Duration::from_secs(30);
/// How long an interrupted tour may take to end.
const PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);
/// How much of the server's log is repeated after a failure, in lines.
const LOG_LINES: usize = 20;

/// Why the tour did not reach its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// The throw-away directory or what belongs into it.
    #[error("failed to prepare the throw-away directory")]
    Prepare(#[source] io::Error),
    /// This executable could not be started a second time.
    #[error("failed to start this executable once more")]
    Start(#[source] io::Error),
    /// The server ended by itself.
    #[error("the server ended early ({0})")]
    Ended(ExitStatus),
    /// The server does not become ready.
    #[error("the server was not ready after {} s", READY.as_secs())]
    NotReady,
    /// No answer at all.
    #[error("the server did not answer: {0}")]
    NoAnswer(String),
    /// Another status than the contract's.
    #[error(
        "{request} was answered with {status}, expected {}",
        statuses(expected)
    )]
    Status {
        /// Method and path.
        request: String,
        /// What came.
        status: u16,
        /// What should have come.
        expected: RangeInclusive<u16>,
    },
    /// Something in an answer that should hold does not.
    #[error("the last answer is wrong: {0}, but here it is not so")]
    Untrue(&'static str),
    /// A command failed.
    #[error("the last command failed: {0}")]
    Command(String),
    /// Nobody listens any more.
    #[error("failed to write the tour")]
    Write(#[from] io::Error),
    /// The guide panicked.
    #[error("failed to lead the tour: {0}")]
    Broken(String),
    /// Ctrl-C in the middle.
    #[error("interrupted")]
    Interrupted,
    /// The throw-away directory is still there.
    #[error("failed to remove {}", path.display())]
    Remove {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn statuses(expected: &RangeInclusive<u16>) -> String {
    if expected.start() == expected.end() {
        expected.start().to_string()
    } else {
        format!("{} to {}", expected.start(), expected.end())
    }
}

/// Walks the tour; without `once`, the server then stays up until Ctrl-C.
///
/// # Errors
/// A step was not answered as it must be; the server's last log lines have been written to `err` then.
pub(crate) fn run(
    once: bool,
    out: impl Write + Send + 'static,
    err: &mut dyn Write,
) -> Result<(), DemoError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(DemoError::Prepare)?;
    let dir = tempfile::Builder::new()
        .prefix("rawdrive-demo-")
        .tempdir()
        .map_err(DemoError::Prepare)?;
    let result = runtime.block_on(attend(once, out, dir.path()));
    runtime.shutdown_background();
    if matches!(&result, Err(error) if !matches!(error, DemoError::Interrupted)) {
        let log = std::fs::read_to_string(dir.path().join("server.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
            writeln!(err, "server: {line}")?;
        }
    }
    let removed = remove(dir);
    result.and(removed)
}

fn remove(dir: TempDir) -> Result<(), DemoError> {
    let path = dir.path().to_owned();
    dir.close()
        .map_err(|source| DemoError::Remove { path, source })
}

async fn attend(once: bool, out: impl Write + Send + 'static, dir: &Path) -> Result<(), DemoError> {
    // Before the child exists: from here on no signal leaves it behind.
    let mut stop = Stop::listen().map_err(DemoError::Prepare)?;
    let server = Server::start(dir)?;
    let guide = Guide {
        child: Arc::clone(&server.child),
        demo_env: server.demo_env.clone(),
        dir: dir.to_owned(),
        once,
    };
    let mut tour = tokio::task::spawn_blocking(move || guide.lead(out));
    tokio::select! {
        ended = &mut tour => ended.map_err(|panic| DemoError::Broken(panic.to_string()))??,
        () = stop.requested() => {
            // Without a server the guide ends at its next step, and then nobody writes into the
            // directory any more.
            drop(server);
            let _ = tokio::time::timeout(PATIENCE, tour).await;
            return Err(DemoError::Interrupted);
        }
    }
    if once {
        return Ok(());
    }
    loop {
        tokio::select! {
            () = stop.requested() => return Ok(()),
            () = tokio::time::sleep(10 * POLL) => server.still_up()?,
        }
    }
}

/// How this executable is started beside the demo: nothing of the reader's own installation reaches it.
#[derive(Debug, Clone)]
struct DemoEnv {
    executable: PathBuf,
    dir: PathBuf,
    address: SocketAddr,
}

impl DemoEnv {
    fn of(dir: &Path) -> io::Result<Self> {
        // The port is free now; nobody else has a reason to take it before the child does.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        Ok(Self {
            executable: std::env::current_exe()?,
            dir: dir.to_owned(),
            address,
        })
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        // The directory holds no `rawdrive.toml`.
        command.current_dir(&self.dir).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(config::is_variable) {
                command.env_remove(name);
            }
        }
        command
            .env("RAWDRIVE_DATA_DIR", self.data_dir())
            .env("RAWDRIVE_LISTEN", self.address.to_string())
            .env("RAWDRIVE_LOG", "warn")
            .env("RAWDRIVE_LOG_FORMAT", "text");
        command
    }
}

/// The server, for as long as this value lives.
struct Server {
    child: Arc<Mutex<Child>>,
    demo_env: DemoEnv,
}

impl Server {
    fn start(dir: &Path) -> Result<Self, DemoError> {
        let photos = dir.join("photos");
        std::fs::create_dir(&photos).map_err(DemoError::Prepare)?;
        for photo in PHOTOS {
            std::fs::write(photos.join(photo.filename), photo.bytes).map_err(DemoError::Prepare)?;
        }
        let log = File::create(dir.join("server.log")).map_err(DemoError::Prepare)?;
        let demo_env = DemoEnv::of(dir).map_err(DemoError::Prepare)?;
        let child = demo_env
            .command()
            .arg("serve")
            .stdout(Stdio::null())
            .stderr(log)
            // A group of its own: Ctrl-C in the terminal is the demo's to act upon.
            .process_group(0)
            .spawn()
            .map_err(DemoError::Start)?;
        Ok(Self {
            child: Arc::new(Mutex::new(child)),
            demo_env,
        })
    }

    fn still_up(&self) -> Result<(), DemoError> {
        still_up(&self.child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        // Its directory is thrown away: there is nothing to shut down in good order.
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn still_up(child: &Mutex<Child>) -> Result<(), DemoError> {
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    match child.try_wait() {
        Ok(None) => Ok(()),
        Ok(Some(status)) => Err(DemoError::Ended(status)),
        Err(error) => Err(DemoError::Start(error)),
    }
}

/// Who leads the tour, on a thread that may block.
struct Guide {
    child: Arc<Mutex<Child>>,
    demo_env: DemoEnv,
    dir: PathBuf,
    once: bool,
}

impl Guide {
    fn lead(&self, mut out: impl Write) -> Result<(), DemoError> {
        let mut http = Http::new(format!("http://{}", self.demo_env.address));
        let base = http.base().to_owned();
        writeln!(
            out,
            "# A server starts on {base}, in {}.",
            self.dir.display()
        )?;
        out.flush()?;
        self.wait_until_ready(&mut http)?;
        let data_dir = self.demo_env.data_dir().display().to_string();
        let executable = self.demo_env.executable.display().to_string();
        Tour {
            out: &mut out,
            wire: &mut http,
            admin: &mut |arguments| self.admin(arguments),
            admin_prefix: format!(
                "RAWDRIVE_DATA_DIR={} {}",
                quoted(&data_dir),
                quoted(&executable)
            ),
            photos: &self.dir.join("photos"),
        }
        .walk()?;
        if self.once {
            writeln!(out, "\n# Every step was answered as it should be.")?;
        } else {
            writeln!(
                out,
                "\n# Every step was answered as it should be. The server stays up: try the lines above.\n\
                 # Documentation: {base}/docs (as data: {base}/openapi.json)\n\
                 # Ctrl-C ends it and removes {}.",
                self.dir.display()
            )?;
        }
        out.flush()?;
        Ok(())
    }

    fn wait_until_ready(&self, http: &mut Http) -> Result<(), DemoError> {
        let began = Instant::now();
        while began.elapsed() < READY {
            still_up(&self.child)?;
            let request = Request {
                method: "GET",
                path: "/readyz".to_owned(),
                ..Request::default()
            };
            if http.send(&request).is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
        Err(DemoError::NotReady)
    }

    fn admin(&self, arguments: &[&str]) -> io::Result<Output> {
        self.demo_env.command().args(arguments).output()
    }
}
