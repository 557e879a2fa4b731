//! The servers: PostgreSQL where nobody gave one, and PgBouncer in front of it.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use sea_orm::sqlx::postgres::PgConnectOptions;

use super::PASSWORD;

const READY_WITHIN: Duration = Duration::from_secs(60);

/// Runs a program until its standard input ends, which it does with the test's process, however that ends.
const GUARD: &str = r#"
dir=$1 signal=$2; shift 2
"$@" >"$dir/log" 2>&1 &
pid=$!
cat >/dev/null
kill -"$signal" "$pid" 2>/dev/null
wait
rm -rf "$dir"
"#;

struct Guarded {
    dir: PathBuf,
    /// Never dropped: its standard input is what it waits for.
    _guard: Child,
}

/// Where a server listens.
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    pub fn url(&self, database: &str, role: &str) -> String {
        let Self { host, port } = self;
        format!("postgres:///{database}?host={host}&port={port}&user={role}&password={PASSWORD}")
    }
}

/// A superuser's URL.
pub fn postgres_url() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| match std::env::var("RAWDRIVE_TEST_POSTGRES_URL") {
        Ok(url) => url,
        Err(_) => start_postgres(),
    })
}

pub fn address() -> Address {
    let options: PgConnectOptions = postgres_url().parse().unwrap();
    let socket = options.get_socket().map(|path| path.display().to_string());
    Address {
        host: socket.unwrap_or_else(|| options.get_host().to_owned()),
        port: options.get_port(),
    }
}

/// PgBouncer in transaction mode, with fewer sessions than clients.
pub fn pgbouncer_address(role: &str) -> Address {
    static SERVER: OnceLock<PathBuf> = OnceLock::new();
    let dir = SERVER.get_or_init(|| start_pgbouncer(role));
    Address {
        host: dir.display().to_string(),
        port: 6432,
    }
}

fn start_postgres() -> String {
    let bin = postgres_bin();
    let dir = make_directory();
    let mut initdb = as_owner(Command::new(bin.join("initdb")), &dir);
    initdb.args([
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",
        "-D",
    ]);
    let made = initdb.arg(dir.join("pg")).stdout(Stdio::null()).status();
    assert!(made.unwrap().success(), "initdb works");
    let (data, socket) = (dir.join("pg"), dir.display().to_string());
    let data_text = data.display().to_string();
    let program = bin.join("postgres").display().to_string();
    let arguments = [
        &program,
        "-D",
        &data_text,
        "-k",
        &socket,
        "-c",
        "listen_addresses=",
        "-c",
        "max_connections=300",
        "-c",
        "fsync=off",
        "-c",
        "full_page_writes=off",
    ];
    let server = guard(dir, "INT", &arguments);
    let url = format!(
        "postgres:///postgres?host={}&user=postgres",
        server.dir.display()
    );
    let is_ready = || {
        fs::read_to_string(data.join("postmaster.pid")).is_ok_and(|text| {
            text.lines()
                .nth(7)
                .is_some_and(|line| line.trim() == "ready")
        })
    };
    await_ready(server, is_ready);
    url
}

fn start_pgbouncer(role: &str) -> PathBuf {
    let dir = make_directory();
    let Address { host, port } = address();
    let socket = dir.display().to_string();
    let config = format!(
        "[databases]\n* = host={host} port={port}\n[pgbouncer]\nlisten_addr =\nlisten_port = 6432\n\
         unix_socket_dir = {socket}\nauth_type = plain\nauth_file = {socket}/users\npool_mode = transaction\n\
         default_pool_size = 3\nmax_client_conn = 500\nmax_db_connections = 3\nserver_idle_timeout = 2\n"
    );
    let file = dir.join("pgbouncer.ini");
    fs::write(&file, config).unwrap();
    fs::write(dir.join("users"), format!("\"{role}\" \"{PASSWORD}\"\n")).unwrap();
    let program = find("pgbouncer").display().to_string();
    let file = file.display().to_string();
    let server = guard(dir.clone(), "INT", &[&program, &file]);
    await_ready(server, || {
        UnixStream::connect(dir.join(".s.PGSQL.6432")).is_ok()
    });
    dir
}

fn guard(dir: PathBuf, signal: &str, program: &[&str]) -> Guarded {
    let mut shell = as_owner(Command::new("/bin/sh"), &dir);
    shell
        .args(["-c", GUARD, "guard"])
        .arg(&dir)
        .arg(signal)
        .args(program);
    let child = shell
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    Guarded { dir, _guard: child }
}

fn await_ready(server: Guarded, is_ready: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_ready() {
        let log = || fs::read_to_string(server.dir.join("log")).unwrap_or_default();
        assert!(
            start.elapsed() < READY_WITHIN,
            "failed to see a server ready; its log:\n{}",
            log()
        );
        // A server tells nobody that it is ready but those who ask.
        sleep(Duration::from_millis(20));
    }
    // It lives as long as this process.
    std::mem::forget(server);
}

/// Below /tmp: a socket's path has at most 107 bytes.
fn make_directory() -> PathBuf {
    let dir = tempfile::Builder::new()
        .prefix("rd-store-")
        .tempdir_in("/tmp");
    let dir = dir.unwrap().keep();
    if let Some((uid, gid)) = owner() {
        chown(&dir, Some(uid), Some(gid)).unwrap();
    }
    dir
}

/// The servers refuse root: then they run as `postgres` or `nobody`.
fn owner() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").is_ok_and(|m| m.uid() != 0) {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let ids = |name: &str| {
        let line = passwd
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    ids("postgres").or_else(|| ids("nobody"))
}

fn as_owner(mut command: Command, dir: &Path) -> Command {
    command.current_dir(dir);
    if let Some((uid, gid)) = owner() {
        command.uid(uid).gid(gid);
    }
    command
}

fn postgres_bin() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut bins: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    bins.sort();
    let with_server = |bin: &PathBuf| bin.join("postgres").is_file();
    bins.into_iter().rfind(with_server).unwrap_or_else(|| {
        let found = find("initdb");
        found.parent().unwrap().to_path_buf()
    })
}

fn find(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("failed to find {program}: `cargo xtask test` installs it"))
}
