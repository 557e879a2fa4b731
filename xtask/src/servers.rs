//! A real PostgreSQL, a `PgBouncer` in front of it and a real Redis for one test run, on private sockets in a
//! directory of their own.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::process::{Failure, run};

const READY_WITHIN: Duration = Duration::from_secs(30);

/// The role that owns the schema in tests: it may make databases and is no superuser.
const OWNER_ROLE: &str = "rawdrive_owner";
/// The role that servers work as in tests: it owns nothing and row-level security binds it.
const SERVER_ROLE: &str = "rawdrive_server";

/// `PgBouncer` as its own defaults have it, but for what a test needs: transaction mode, any database, and the
/// two roles by name. Nothing is told to ignore a start-up parameter: the server must not send one that
/// `PgBouncer` does not know.
fn bouncer_ini(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "[databases]
* = host={dir}
[pgbouncer]
unix_socket_dir = {dir}
listen_port = 6432
auth_type = trust
auth_file = {dir}/users
pool_mode = transaction
default_pool_size = 8
max_client_conn = 2000
pidfile = {dir}/bouncer.pid
"
    )
}

/// Runs the servers and stops them when its standard input ends. The other end of that pipe is ours alone,
/// so it ends when we drop it, and just as well when we panic, are interrupted or are killed: no signal
/// handler could promise the last of these. Its own process group keeps a terminal's Ctrl+C from reaching
/// the servers before the tests have ended.
const GUARD: &str = r#"
dir=$1 postgres=$2 redis=$3 bouncer=$4
"$postgres" -D "$dir/pg" -k "$dir" -c listen_addresses= -c max_connections=300 \
    -c fsync=off -c full_page_writes=off >"$dir/postgres.log" 2>&1 &
postgres_pid=$!
"$redis" --port 0 --unixsocket "$dir/redis" --dir "$dir" --save "" --appendonly no \
    >"$dir/redis.log" 2>&1 &
redis_pid=$!
"$bouncer" -q "$dir/bouncer.ini" >"$dir/bouncer.log" 2>&1 &
bouncer_pid=$!
cat >/dev/null
# SIGINT is PostgreSQL's fast shutdown: SIGTERM would wait for the last client.
kill -TERM "$bouncer_pid" "$redis_pid" 2>/dev/null
kill -INT "$postgres_pid" 2>/dev/null
wait
rm -rf "$dir"
"#;

/// The running servers; dropping it stops them and removes their directory.
#[derive(Debug)]
pub(crate) struct Servers {
    dir: PathBuf,
    guard: Child,
}

impl Servers {
    /// Installs what is missing, starts both, and returns when both answer.
    pub(crate) fn start() -> Result<Self, Failure> {
        install_missing()?;
        let postgres =
            postgres_bin().ok_or_else(|| Failure::new("failed to find PostgreSQL's initdb"))?;
        let redis =
            in_path("redis-server").ok_or_else(|| Failure::new("failed to find redis-server"))?;

        let bouncer =
            in_path("pgbouncer").ok_or_else(|| Failure::new("failed to find pgbouncer"))?;

        let dir = make_directory()?;
        write(&dir.join("bouncer.ini"), &bouncer_ini(&dir))?;
        write(
            &dir.join("users"),
            &format!("\"{OWNER_ROLE}\" \"\"\n\"{SERVER_ROLE}\" \"\"\n"),
        )?;
        let owner = server_user(&dir)?;
        let mut initdb = Command::new(postgres.join("initdb"));
        initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]);
        initdb.args(["--no-sync", "-D"]).arg(dir.join("pg"));
        initdb.stdin(Stdio::null()).stdout(Stdio::null());
        let mut guard = Command::new("/bin/sh");
        guard.args(["-c", GUARD, "guard"]).arg(&dir);
        guard.arg(postgres.join("postgres")).arg(redis).arg(bouncer);
        guard.stdin(Stdio::piped()).process_group(0);
        for command in [&mut initdb, &mut guard] {
            command.current_dir(&dir);
            if let Some((uid, gid)) = owner {
                command.uid(uid).gid(gid);
            }
        }

        if let Err(failure) = run(&mut initdb) {
            // Nothing guards the directory yet; if removing it fails too, the first failure says more.
            let _ = fs::remove_dir_all(&dir);
            return Err(failure);
        }
        let guard = guard
            .spawn()
            .map_err(|e| Failure::new(format!("failed to start the servers: {e}")))?;
        // From here on an early return stops the servers.
        let servers = Self { dir, guard };
        servers.await_ready("postgres", Self::postgres_is_ready)?;
        servers.await_ready("redis", Self::redis_is_ready)?;
        servers.await_ready("bouncer", |servers| {
            UnixStream::connect(servers.dir.join(".s.PGSQL.6432")).is_ok()
        })?;
        servers.make_roles()?;
        Ok(servers)
    }

    /// A superuser's URL: tests make their own databases and roles.
    pub(crate) fn postgres_url(&self) -> String {
        format!(
            "postgres:///postgres?host={}&user=postgres",
            self.dir.display()
        )
    }

    /// As [`Servers::postgres_url`], through `PgBouncer` in transaction mode; for the two roles of tests alone.
    pub(crate) fn pgbouncer_url(&self) -> String {
        format!(
            "postgres:///postgres?host={}&port=6432&user={SERVER_ROLE}&pgbouncer=1",
            self.dir.display()
        )
    }

    fn make_roles(&self) -> Result<(), Failure> {
        let psql = in_path("psql").ok_or_else(|| Failure::new("failed to find psql"))?;
        let mut psql = Command::new(psql);
        psql.args(["--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1"])
            .arg(format!("--host={}", self.dir.display()))
            .args(["--username=postgres", "--dbname=postgres"])
            .arg(format!(
                "--command=CREATE ROLE {OWNER_ROLE} LOGIN CREATEDB; CREATE ROLE {SERVER_ROLE} LOGIN"
            ));
        run(psql.stdin(Stdio::null()))
    }

    /// The URL of a Redis that keeps nothing on disk.
    pub(crate) fn redis_url(&self) -> String {
        format!("redis+unix://{}", self.redis_socket().display())
    }

    fn redis_socket(&self) -> PathBuf {
        self.dir.join("redis")
    }

    /// A socket that accepts is not enough: PostgreSQL refuses sessions while it starts, and says on the
    /// eighth line of its pid file when it no longer does.
    fn postgres_is_ready(&self) -> bool {
        fs::read_to_string(self.dir.join("pg/postmaster.pid"))
            .is_ok_and(|text| text.lines().nth(7).is_some_and(|l| l.trim() == "ready"))
    }

    fn redis_is_ready(&self) -> bool {
        let ping = || -> std::io::Result<bool> {
            let mut stream = UnixStream::connect(self.redis_socket())?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(b"PING\r\n")?;
            let mut answer = [0; 7];
            stream.read_exact(&mut answer)?;
            Ok(&answer == b"+PONG\r\n")
        };
        ping().unwrap_or(false)
    }

    fn await_ready(&self, name: &str, is_ready: impl Fn(&Self) -> bool) -> Result<(), Failure> {
        let start = Instant::now();
        while !is_ready(self) {
            if start.elapsed() > READY_WITHIN {
                let log = fs::read_to_string(self.dir.join(format!("{name}.log")));
                return Err(Failure::new(format!(
                    "failed to see {name} ready within {} s; its log:\n{}",
                    READY_WITHIN.as_secs(),
                    log.unwrap_or_default()
                )));
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        // An error here would mean that somebody else has reaped it: then it has stopped as well.
        let _ = self.guard.wait();
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text)
        .map_err(|e| Failure::new(format!("failed to write {}: {e}", path.display())))
}

/// A new directory, always below /tmp: a socket's path has at most 107 bytes.
fn make_directory() -> Result<PathBuf, Failure> {
    let output = Command::new("mktemp")
        .args(["-d", "/tmp/rawdrive-test-XXXXXX"])
        .output()
        .map_err(|e| Failure::new(format!("failed to start mktemp: {e}")))?;
    if !output.status.success() {
        return Err(Failure::new("failed to make a temporary directory"));
    }
    Ok(PathBuf::from(
        String::from_utf8_lossy(&output.stdout).trim(),
    ))
}

/// PostgreSQL refuses root: then the servers run as `postgres` or `nobody`, to whom the directory is given.
fn server_user(dir: &Path) -> Result<Option<(u32, u32)>, Failure> {
    if !is_root() {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd")
        .map_err(|e| Failure::new(format!("failed to read /etc/passwd: {e}")))?;
    let (uid, gid) = ["postgres", "nobody"]
        .into_iter()
        .find_map(|name| ids_of(&passwd, name))
        .ok_or_else(|| Failure::new("failed to find a user to run PostgreSQL as"))?;
    chown(dir, Some(uid), Some(gid))
        .map_err(|e| Failure::new(format!("failed to hand over {}: {e}", dir.display())))?;
    Ok(Some((uid, gid)))
}

fn ids_of(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let line = passwd.lines().find(|l| l.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// std has no `geteuid`, but our own process's directory belongs to it.
fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

/// Does nothing when all are there.
fn install_missing() -> Result<(), Failure> {
    let mut missing = Vec::new();
    if postgres_bin().is_none() {
        missing.push("postgresql");
    }
    // What README has its readers paste asks by curl.
    for program in ["redis-server", "pgbouncer", "curl"] {
        if in_path(program).is_none() {
            missing.push(program);
        }
    }
    // A person's ways on our pages are tried in a browser.
    for (program, package) in [
        ("chromium", "chromium"),
        ("chromedriver", "chromium-driver"),
    ] {
        if in_path(program).is_none() {
            missing.push(package);
        }
    }
    // The store's tests start it themselves, in front of this PostgreSQL.
    if in_path("pgbouncer").is_none() && !Path::new("/usr/sbin/pgbouncer").is_file() {
        missing.push("pgbouncer");
    }
    if missing.is_empty() {
        return Ok(());
    }
    apt_install(&missing)
}

/// Installs Debian packages.
pub(crate) fn apt_install(packages: &[&str]) -> Result<(), Failure> {
    if in_path("apt-get").is_none() {
        return Err(Failure::new(format!(
            "failed to find {}: please install it",
            packages.join(" and ")
        )));
    }
    run(apt_get().arg("update"))?;
    run(apt_get()
        .args(["install", "-y", "--no-install-recommends"])
        .args(packages))
}

fn apt_get() -> Command {
    let mut command = if is_root() {
        Command::new("env")
    } else {
        let mut sudo = Command::new("sudo");
        // Never ask for a password: nobody may be there to type it.
        sudo.args(["-n", "env"]);
        sudo
    };
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]);
    command.stdin(Stdio::null());
    command
}

/// The directory with PostgreSQL's server programs: from PATH, or where Debian keeps them, newest first.
fn postgres_bin() -> Option<PathBuf> {
    let has_both = |dir: &PathBuf| dir.join("initdb").is_file() && dir.join("postgres").is_file();
    let from_path = path_directories().into_iter().find(has_both);
    from_path.or_else(|| {
        let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
        let mut versions: Vec<PathBuf> = versions.flatten().map(|entry| entry.path()).collect();
        versions.sort_by_key(|path| {
            let name = path.file_name().and_then(|n| n.to_str());
            name.and_then(|n| n.parse::<u32>().ok())
        });
        let bins = versions
            .into_iter()
            .rev()
            .map(|version| version.join("bin"));
        bins.into_iter().find(has_both)
    })
}

/// A program, by its name.
pub(crate) fn in_path(program: &str) -> Option<PathBuf> {
    path_directories()
        .into_iter()
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

/// PATH, and the directories that an ordinary user's PATH lacks.
fn path_directories() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin"].map(PathBuf::from))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\npostgres2:x:7:8::/:/bin/sh\npostgres:x:105:113:PostgreSQL:/var/lib/postgresql:/bin/bash\n";
        assert_eq!(ids_of(passwd, "postgres"), Some((105, 113)));
        assert_eq!(ids_of(passwd, "nobody"), None);
    }
}
