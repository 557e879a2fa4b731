//! The server under test, as a process of its own.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::backend::{Backend, Provided};
use crate::secrets::{Watch, assert_none};
use crate::{Actor, Api};

const READY_POLLS: u32 = 200;
const READY_POLL: Duration = Duration::from_millis(50);

/// What a subcommand left.
#[derive(Debug)]
pub struct Output {
    /// The exit status; nothing when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Asserts success.
    #[must_use]
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "the command failed: {self:#?}");
        self
    }
}

/// A running server with a data directory of its own, stopped and removed on drop.
#[derive(Debug)]
pub struct Server {
    root: TempDir,
    port: u16,
    extra: BTreeMap<String, String>,
    process: Mutex<Option<Process>>,
    watch: Arc<Watch>,
    // Last, so that it is removed after the process that uses it has ended.
    provided: Provided,
}

#[derive(Debug)]
struct Process {
    child: Child,
    watchdog: Child,
    leash: ChildStdin,
}

impl Server {
    /// Starts a server with the embedded defaults.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with more environment variables.
    #[must_use]
    pub fn start_with(extra: &[(&str, &str)]) -> Self {
        let mut server = Self::prepare(0, extra);
        for attempt in 0.. {
            // Another process may take the port between our asking and the server's binding.
            server.port = free_port();
            match server.spawn() {
                Ok(()) => break,
                Err(problem) => assert!(
                    attempt < 2 && server.log().contains("in use"),
                    "{problem}\n{}",
                    server.log()
                ),
            }
        }
        server
    }

    /// Starts a server with environment variables that depend on its data directory.
    #[must_use]
    pub fn start_in(extra: impl FnOnce(&Path) -> Vec<(String, String)>) -> Self {
        let mut server = Self::prepare(free_port(), &[]);
        server.extra.extend(extra(&server.data_dir()));
        if let Err(problem) = server.spawn() {
            panic!("{problem}\n{}", server.log());
        }
        server
    }

    /// Starts a server on a port that the caller has found free, for those who must know the address before.
    #[must_use]
    pub fn start_on(port: u16, extra: &[(&str, &str)]) -> Self {
        let server = Self::prepare(port, extra);
        if let Err(problem) = server.spawn() {
            panic!("{problem}\n{}", server.log());
        }
        server
    }

    /// Starts a second server of another's database, with a data directory of its own. `Err` is what its log says where
    /// it ends instead.
    ///
    /// # Errors
    /// The server ends, or is not ready in time.
    pub fn start_beside(first: &Self, extra: &[(&str, &str)]) -> Result<Self, String> {
        let mut server = Self::prepare_on(free_port(), extra, Provided::default());
        let shared = first.provided.settings.iter().cloned().collect();
        let own = std::mem::replace(&mut server.extra, shared);
        if !Backend::chosen().is_postgres() {
            let database = first.data_dir().join("rawdrive.db");
            let key = fs::read_to_string(first.data_dir().join("secret.key")).unwrap_or_default();
            let database = format!("sqlite://{}", database.display());
            server.extra.insert("DATABASE_URL".to_owned(), database);
            let key = key.trim().to_owned();
            server
                .watch
                .secrets()
                .add_setting("RAWDRIVE_SECRET_KEY", &key);
            server.extra.insert("RAWDRIVE_SECRET_KEY".to_owned(), key);
        }
        server.extra.extend(own);
        match server.spawn() {
            Ok(()) => Ok(server),
            Err(problem) => Err(format!("{problem}\n{}", server.log())),
        }
    }

    /// A port of loopback that nobody listened on just now.
    #[must_use]
    pub fn free_port() -> u16 {
        free_port()
    }

    /// Starts a server that reaches PostgreSQL through a port of loopback.
    #[must_use]
    pub fn start_through(port: u16) -> Self {
        let mut server = Self::prepare(free_port(), &[]);
        for (name, value) in &server.provided.settings {
            if name == "DATABASE_URL" {
                let (base, query) = value.split_once('?').expect("the URL has parameters");
                let rest = query
                    .split('&')
                    .filter(|part| !part.starts_with("host=") && !part.starts_with("port="));
                let rest: String = rest.map(|part| format!("&{part}")).collect();
                let url = format!("{base}?host=127.0.0.1&port={port}&sslmode=disable{rest}");
                server.extra.insert(name.clone(), url);
            }
        }
        if let Err(problem) = server.spawn() {
            panic!("{problem}\n{}", server.log());
        }
        server
    }

    fn prepare(port: u16, extra: &[(&str, &str)]) -> Self {
        Self::prepare_on(port, extra, Backend::chosen().provide(&binary()))
    }

    fn prepare_on(port: u16, extra: &[(&str, &str)], provided: Provided) -> Self {
        let root = TempDir::with_prefix("rawdrive-e2e-").expect("failed to make a directory");
        fs::create_dir(root.path().join("data")).expect("failed to make the data directory");
        let watch = Watch::new(root.path().join("server.log"));
        let settings = provided
            .settings
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()));
        for (name, value) in settings.chain(extra.iter().copied()) {
            watch.secrets().add_setting(name, value);
        }
        Self {
            root,
            port,
            extra: extra
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            process: Mutex::new(None),
            watch: Arc::new(watch),
            provided,
        }
    }

    /// One server for all tests that keep to workspaces of their own.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| {
            let server = Self::start();
            // Statics are not dropped.
            server.watch.follow();
            server
        })
    }

    /// The address, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// A file beside the data directory, for what a test hands to the server.
    #[must_use]
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The server's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.lock().as_ref().expect("the server runs").child.id()
    }

    /// What the server has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// A client without a credential.
    #[must_use]
    pub fn anonymous(&self) -> Api {
        Api::new(self.url(), None, self.watch.clone())
    }

    /// A client with the given bearer token.
    #[must_use]
    pub fn bearer(&self, token: &str) -> Api {
        Api::new(self.url(), Some(token.to_owned()), self.watch.clone())
    }

    /// Signs up somebody new, with a workspace of their own.
    pub async fn sign_up(&self, name: &str) -> Actor {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let email = format!("{name}-{number}@example.test");
        let body = json!({
            "email": email,
            "password": Actor::PASSWORD,
            "name": name,
            "workspace_name": format!("Studio {name} {number}"),
        });
        let answer = self.anonymous().post("/v1/signup", &body).await.is(201);
        Actor::from_sign_up(self, email, answer.json())
    }

    /// Signs up somebody whose workspace has `plan`.
    pub async fn sign_up_on(&self, name: &str, plan: &str) -> Actor {
        let actor = self.sign_up(name).await;
        self.set_plan(&actor, plan).await;
        actor
    }

    /// Grants a plan, as an operator does.
    pub async fn set_plan(&self, actor: &Actor, plan: &str) {
        let workspace = actor.workspace_id.as_str();
        let reason = "end-to-end test";
        let _ = self
            .admin(&[
                "admin",
                "set-plan",
                "--workspace",
                workspace,
                "--plan",
                plan,
                "--reason",
                reason,
            ])
            .await
            .succeeded();
    }

    /// Overrides one limit, as an operator does; `limit` is `NAME=VALUE`.
    pub async fn override_limit(&self, actor: &Actor, limit: &str) {
        let workspace = actor.workspace_id.as_str();
        let reason = "end-to-end test";
        let _ = self
            .admin(&[
                "admin",
                "override",
                "--workspace",
                workspace,
                "--limit",
                limit,
                "--reason",
                reason,
            ])
            .await
            .succeeded();
    }

    /// Runs a subcommand with the server's own configuration.
    pub async fn admin(&self, arguments: &[&str]) -> Output {
        self.admin_with(&[], arguments).await
    }

    /// As [`Server::admin`], with other values for some variables.
    pub async fn admin_with(&self, other: &[(&str, &str)], arguments: &[&str]) -> Output {
        let mut command = self.command();
        command.envs(other.iter().copied()).args(arguments);
        for (name, value) in other {
            self.watch.secrets().add_setting(name, value);
        }
        let output = run(command).await;
        self.watch.printed(&output.stdout);
        self.watch.printed(&output.stderr);
        output
    }

    /// Runs what somebody pastes into bash, in a folder, with the server's own configuration and the binary at hand.
    pub async fn bash(&self, folder: &Path, script: &str) -> Output {
        let binary = binary();
        let folders = binary
            .parent()
            .expect("the binary lies in a folder")
            .to_owned();
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(folders).chain(env::split_paths(&path));
        let pasted = folder.join("pasted.sh");
        fs::write(&pasted, script).expect("failed to write what is pasted");
        let mut bash = Command::new("bash");
        bash.env_clear();
        for (name, value) in self.command().get_envs() {
            if let Some(value) = value {
                bash.env(name, value);
            }
        }
        // By its input, as from a terminal: whoever reads that takes what was to be run next.
        bash.env(
            "PATH",
            env::join_paths(folders).expect("folders without colons"),
        )
        .current_dir(folder)
        .args(["-c", "exec bash < pasted.sh"]);
        run(bash).await
    }

    /// `doctor --json`, which must find nothing broken.
    pub async fn assert_healthy(&self) {
        let output = self.admin(&["doctor", "--json"]).await.succeeded();
        let _: Value = serde_json::from_str(&output.stdout)
            .unwrap_or_else(|error| panic!("doctor --json printed no JSON ({error}): {output:#?}"));
    }

    /// Runs a subcommand away from any server, in an empty directory.
    pub async fn run_alone(arguments: &[&str]) -> Output {
        let root = TempDir::with_prefix("rawdrive-e2e-").expect("failed to make a directory");
        let mut command = base_command(root.path());
        command.args(arguments);
        run(command).await
    }

    /// Ends the server as a power cut would: no handler runs.
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

    /// Asks the server to end, and waits until it has.
    pub async fn stop(&self) {
        let asked = Command::new("kill")
            .args(["-TERM", &self.pid().to_string()])
            .status();
        assert!(asked.expect("failed to run kill").success());
        for _ in 0..600 {
            let ended = match self.lock().as_mut() {
                Some(process) => !matches!(process.child.try_wait(), Ok(None)),
                None => true,
            };
            if ended {
                return self.kill9();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the server did not end within 60 s of SIGTERM");
    }

    /// Starts the server again on the same data and the same port.
    pub fn restart(&self) {
        self.kill9();
        if let Err(problem) = self.spawn() {
            panic!("{problem}\n{}", self.log());
        }
    }

    /// The files that hold the workspace's photos, whatever is being written included. Their renditions are not among
    /// them.
    #[must_use]
    pub fn files_of(&self, workspace_id: &str) -> Vec<PathBuf> {
        let mut files = self.all_files();
        files.retain(|path| has(path, workspace_id) && !has(path, "renditions"));
        files
    }

    /// The files that hold the renditions of the workspace's photos, whatever is being written included.
    #[must_use]
    pub fn renditions_of(&self, workspace_id: &str) -> Vec<PathBuf> {
        let mut files = self.all_files();
        files.retain(|path| has(path, workspace_id) && has(path, "renditions"));
        files
    }

    /// Every file under the data directory, by its path within.
    #[must_use]
    pub fn all_files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut open = vec![self.data_dir()];
        while let Some(folder) = open.pop() {
            // A folder or a file may be swept away while we look.
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => open.push(entry.path()),
                    Ok(_) => files.push(entry.path()),
                    Err(_) => {}
                }
            }
        }
        files.sort();
        files
    }

    /// What the threshold mails to an address say, sorted: waits until there are `at_least`, then a moment
    /// longer, so that one too many is seen too.
    pub async fn mails_to(&self, address: &str, at_least: usize) -> Vec<String> {
        let _ = self.letters_to(address, at_least).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut said: Vec<String> = self
            .letters_to(address, at_least)
            .await
            .iter()
            .filter_map(|mail| {
                let subject = mail.lines().find(|line| line.starts_with("Subject: "))?;
                let (_, said) = subject.rsplit_once(": ")?;
                Some(said.trim_end_matches(" is used").to_owned())
            })
            .collect();
        said.sort();
        said
    }

    /// The mails to an address, whole but for folded lines and CR, the newest last: waits until there are
    /// `at_least`.
    pub async fn letters_to(&self, address: &str, at_least: usize) -> Vec<String> {
        let to = format!("\nTo: {address}\n");
        for _ in 0..100 {
            let mut letters: Vec<_> = fs::read_dir(self.data_dir().join("mail"))
                .into_iter()
                .flatten()
                .flatten()
                .filter(|entry| entry.path().extension().is_some_and(|e| e == "eml"))
                .filter_map(|entry| {
                    let letter = fs::read_to_string(entry.path()).ok()?;
                    let letter = letter.replace("\r\n ", " ").replace("\r\n", "\n");
                    Some((entry.file_name(), letter))
                })
                .filter(|(_, letter)| letter.contains(&to))
                .collect();
            if letters.len() >= at_least {
                // Files are named by ids that grow with time.
                letters.sort();
                let letters: Vec<_> = letters.into_iter().map(|(_, letter)| letter).collect();
                for letter in &letters {
                    self.watch.secrets().add_mail(letter);
                }
                return letters;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{address} did not get {at_least} mails within 10 s");
    }

    /// The token in the newest of at least `at_least` mails to an address.
    pub async fn mailed_token(&self, address: &str, at_least: usize) -> String {
        let letters = self.letters_to(address, at_least).await;
        let letter = letters.last().expect("there is a mail");
        let (_, rest) = letter.split_once("?token=").expect("the mail has a link");
        rest.chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect()
    }

    /// Has somebody new join the owner's workspace in a role, by an invitation.
    pub async fn join(&self, owner: &Actor, name: &str, role: &str) -> Actor {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let email = format!("{name}-joins-{number}@example.test");
        let body = json!({ "email": email, "role": role });
        let _ = owner.post("/v1/workspace/invitations", &body).await.is(201);
        let token = self.mailed_token(&email, 1).await;
        let body = json!({ "token": token, "name": name, "password": Actor::PASSWORD });
        let answer = self
            .anonymous()
            .post("/v1/invitations/accept", &body)
            .await
            .is(201);
        Actor::from_sign_up(self, email, answer.json())
    }

    /// A figure of the process's status, such as `VmRSS`, in bytes.
    #[must_use]
    pub fn memory_bytes(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))
            .expect("failed to read the process's status");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .expect("the status names the figure");
        let kib = line
            .split_whitespace()
            .next()
            .expect("the line has a number");
        kib.parse::<u64>().expect("the figure is a number") * 1024
    }

    /// Forgets the process's peak of memory, so that `VmHWM` speaks of what comes.
    pub fn reset_memory_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.pid()), "5")
            .expect("failed to reset the peak of memory");
    }

    /// Sends bytes over a connection of their own, says that no more will come, and reads until the server
    /// closes or falls silent.
    pub async fn raw(&self, request: Vec<u8>) -> String {
        let port = self.port;
        tokio::task::spawn_blocking(move || raw(port, &request, Duration::from_secs(15), true))
            .await
            .expect("the raw request did not panic")
    }

    fn spawn(&self) -> Result<(), String> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("failed to open the log");
        let errors = log.try_clone().expect("failed to share the log");
        let mut child = self
            .command()
            .arg("serve")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .expect("failed to start the server");
        // Statics are not dropped at the end of a test process. The watchdog reads a pipe: a line says that
        // the server was stopped properly, its end says that nobody is left to stop it.
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
        let mut ready = Err("the server was not ready within 10 s");
        for _ in 0..READY_POLLS {
            if !matches!(child.try_wait(), Ok(None)) {
                ready = Err("the server ended before it was ready");
                break;
            }
            let request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            if raw(self.port, request, Duration::from_secs(2), false).starts_with("HTTP/1.1 200") {
                ready = Ok(());
                break;
            }
            thread::sleep(READY_POLL);
        }
        *self.lock() = Some(Process {
            child,
            watchdog,
            leash,
        });
        ready.map_err(|problem| {
            self.kill9();
            problem.to_owned()
        })
    }

    fn command(&self) -> Command {
        let mut command = base_command(self.root.path());
        command
            .env("RAWDRIVE_LISTEN", format!("127.0.0.1:{}", self.port))
            .env("RAWDRIVE_DATA_DIR", self.data_dir())
            .envs(
                self.provided
                    .settings
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .envs(&self.extra);
        command
    }

    fn log_path(&self) -> PathBuf {
        self.watch.log_path().to_owned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.process
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill9();
        if thread::panicking() {
            let log = self.log();
            let start = log.char_indices().rev().nth(8_000).map_or(0, |(at, _)| at);
            #[expect(clippy::print_stderr, reason = "the evidence of a failed test")]
            {
                eprintln!("the end of the server's log:\n{}", &log[start..]);
            }
        } else {
            assert_none(&self.watch.leaks(&self.data_dir()), "the log");
        }
    }
}

fn base_command(folder: &Path) -> Command {
    let mut command = Command::new(binary());
    command
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder)
        .env("RUST_BACKTRACE", "1")
        .env("RAWDRIVE_RATE_LIMITS", "off")
        .current_dir(folder);
    command
}

async fn run(mut command: Command) -> Output {
    let output = tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output())
        .await
        .expect("the command's thread did not panic")
        .expect("failed to run the command");
    Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn binary() -> PathBuf {
    let path = env::var_os("RAWDRIVE_BIN").map_or_else(
        || {
            let test = env::current_exe().expect("the test knows where it is");
            let built = test
                .ancestors()
                .nth(2)
                .expect("the test lies in target/*/deps");
            built.join(format!("rawdrive{}", env::consts::EXE_SUFFIX))
        },
        PathBuf::from,
    );
    assert!(
        path.is_file(),
        "{} is missing: run `cargo build -p rawdrive` first, or name the binary in RAWDRIVE_BIN",
        path.display()
    );
    path.canonicalize()
        .expect("the path of the binary is readable")
}

/// Below the range from which the system gives ports to clients, so that no connection of another test takes it
/// before the server does.
fn free_port() -> u16 {
    const FIRST: u32 = 12_000;
    const PORTS: u32 = 20_000;
    static NEXT: AtomicU64 = AtomicU64::new(0);
    for _ in 0..PORTS {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed) as u32 + std::process::id() * 97;
        let port = (FIRST + offset % PORTS) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("failed to find a free port");
}

/// Writes `request`, closes the writing half if so asked and returns what comes back; nothing when nobody answers.
fn raw(port: u16, request: &[u8], patience: Duration, half_close: bool) -> String {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return String::new();
    };
    let _ = stream.set_read_timeout(Some(patience));
    let _ = stream.set_write_timeout(Some(patience));
    // The server may refuse before it has read everything; its answer is what counts.
    let _ = stream.write_all(request);
    if half_close {
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn has(path: &Path, name: &str) -> bool {
    path.components().any(|part| part.as_os_str() == name)
}
