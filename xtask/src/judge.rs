//! Judges of the double that are not ours: Stripe's own SDKs of Python and Node, both of the API version that the double
//! answers in. Each lives a customer's life against it; and what was recorded of those lives and of the black-box tests
//! is held against both SDKs' types: the double's answers, and the requests of our gateway. What the tests saw our server
//! send as webhooks is signed anew by the Standard Webhooks' own libraries of both languages.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::process::{Failure, cargo, run, step, workspace_root};
use crate::toolbox::{Toolbox, Wanted, failed};

const SDKS: Wanted = Wanted {
    name: "judge",
    requirements: "xtask/judge/requirements.txt",
    packages: Some("xtask/judge"),
    brings_node: false,
    python: "import standardwebhooks, stripe, typing_extensions",
    node: "require('standardwebhooks'); require('stripe'); require('typescript')",
};

/// Tells a double where to record its calls.
pub(crate) const RECORD: &str = "STRIPE_DOUBLE_RECORD";
/// Tells a test where to record the webhooks that it was sent.
pub(crate) const WEBHOOKS: &str = "RAWDRIVE_RECORD_WEBHOOKS";
const KEY: &str = "sk_test_judged";

/// Where the tests record the calls of the gateway.
pub(crate) fn record_of_tests() -> PathBuf {
    workspace_root().join(".cache/stripe-calls.jsonl")
}

/// Where the tests record the webhooks that our server sends.
pub(crate) fn webhooks_of_tests() -> PathBuf {
    workspace_root().join(".cache/webhooks.jsonl")
}

/// Lives and types; the tests' calls as their last run on `SQLite` left them.
pub(crate) fn run_all() -> Result<(), Failure> {
    let (tests, webhooks) = (record_of_tests(), webhooks_of_tests());
    if !(tests.exists() && webhooks.exists()) {
        return Err(Failure::new(
            "no calls of the gateway and no webhooks are recorded: `RAWDRIVE_E2E_BACKEND=sqlite cargo xtask test` records \
             them",
        ));
    }
    let sdks = step("others' own SDKs", || Toolbox::install(SDKS))?;
    let judge = Judge {
        lives: sdks.home().join("lives.jsonl"),
        sdks,
        tests,
    };
    step("a life by each SDK", || judge.live())?;
    step("calls by each SDK's types", || judge.hold_against_types())?;
    step("webhooks by each library", || {
        run(judge.python("webhooks.py").arg(&webhooks))?;
        run(judge.node("webhooks.cjs").arg(&webhooks))
    })
}

struct Judge {
    sdks: Toolbox,
    lives: PathBuf,
    tests: PathBuf,
}

impl Judge {
    fn live(&self) -> Result<(), Failure> {
        if self.lives.exists() {
            fs::remove_file(&self.lives).map_err(failed("remove", &self.lives))?;
        }
        let double = Double::start(&self.lives)?;
        run(self.python("life.py").args([&double.url, KEY]))?;
        run(self.node("life.cjs").args([&double.url, KEY]))
    }

    /// Both, also where the first finds something.
    fn hold_against_types(&self) -> Result<(), Failure> {
        let records = [&self.lives, &self.tests];
        let python = run(self.python("annotations.py").args(records));
        let node = run(self.node("types.cjs").args(records));
        python.and(node)
    }

    fn python(&self, script: &str) -> Command {
        let mut command = Command::new(self.sdks.python());
        command.arg(here(script)).stdin(Stdio::null());
        command
    }

    fn node(&self, script: &str) -> Command {
        let mut command = Command::new(self.sdks.node());
        command.arg(here(script)).arg(self.sdks.home());
        command.stdin(Stdio::null());
        command
    }
}

fn here(script: &str) -> PathBuf {
    workspace_root().join("xtask/judge").join(script)
}

/// The double as a process of its own, which ends with its input.
struct Double {
    child: Child,
    url: String,
}

impl Double {
    fn start(record: &Path) -> Result<Self, Failure> {
        // As the tests build it: another choice of packages would build third parties anew.
        let mut build = cargo();
        build.args(["build", "--workspace", "--example", "serve"]);
        run(&mut build)?;
        let program = crate::clients::built("examples/serve");
        let mut command = Command::new(&program);
        command.args(["127.0.0.1:0", KEY]).env(RECORD, record);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|e| Failure::new(format!("failed to start {}: {e}", program.display())))?;
        let mut url = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout)
                .read_line(&mut url)
                .map_err(|e| Failure::new(format!("failed to hear the double: {e}")))?;
        }
        let url = url.trim().to_owned();
        let double = Self { child, url };
        if double.url.is_empty() {
            return Err(Failure::new("the double did not start"));
        }
        Ok(double)
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
