//! The other mocks, started on a free port of loopback at the time of [`START`]. Each ends with its standard input,
//! which ends with the test however that ends.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{START, at};

/// As `localstripe.server.start`, but on loopback alone, without its file `/tmp/localstripe.pickle`, which every
/// instance of a machine would share, and without a word about what it fails on.
const LOCALSTRIPE: &str = "
import logging, os, socket, sys, threading, time
now = float(sys.argv[1])
time.time = lambda: now
from aiohttp import web
from localstripe import resources, server
resources.Store.dump_to_disk = lambda self: None
logging.getLogger('aiohttp.server').setLevel(logging.CRITICAL)
sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
sock.bind(('127.0.0.1', 0))
print(sock.getsockname()[1], flush=True)
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
web.run_app(server.app, sock=sock, print=None)
";

/// As the package's `autostart`, but on loopback alone.
const STATEFUL_MOCK: &str = "
const now = Number(process.argv[1]) * 1000;
const Real = Date;
globalThis.Date = class extends Real {
  constructor(...given) { given.length ? super(...given) : super(now); }
  static now() { return now; }
};
process.stdin.resume();
process.stdin.on('end', () => process.exit());
require('loglevel').setDefaultLevel('silent');
const app = require('stripe-stateful-mock').createExpressApp();
const server = app.listen(0, '127.0.0.1', () => console.log(server.address().port));
";

/// A running server; it stops when this is dropped.
#[derive(Debug)]
pub(super) struct Other {
    pub(super) url: String,
    process: Child,
}

impl Other {
    /// By the Python that has it.
    pub(super) fn localstripe() -> Self {
        let python = variable("RAWDRIVE_TEST_LOCALSTRIPE");
        let mut command = Command::new(python);
        // Away from the variables and folders by which a Python could find another package of that name.
        command.args(["-I", "-c", LOCALSTRIPE]);
        Self::start(command)
    }

    /// By the Node beside whose folder it lies in `node_modules`.
    pub(super) fn stateful_mock() -> Self {
        let node = variable("RAWDRIVE_TEST_STATEFUL_MOCK");
        let mut command = Command::new(&node);
        let home = Path::new(&node).parent().and_then(Path::parent);
        command.args(["-e", STATEFUL_MOCK]);
        command.current_dir(home.expect("Node lies in a folder bin"));
        Self::start(command)
    }

    fn start(mut command: Command) -> Self {
        let now = at(START).to_string();
        let mut process = command
            .arg(now)
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("failed to start {command:?}: {error}"));
        let output = process.stdout.take().expect("its output is a pipe");
        let mut port = String::new();
        // Ends with a line, or with the process.
        BufReader::new(output)
            .read_line(&mut port)
            .expect("its output is text");
        let port: u16 = port.trim().parse().unwrap_or_else(|_| {
            panic!(
                "failed to start {command:?}: it says {port:?} instead of its port, and above why"
            )
        });
        Self {
            url: format!("http://127.0.0.1:{port}"),
            process,
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // An error means that it has ended already.
        let _ = self.process.wait();
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set: run `cargo xtask test`, which installs the other mocks of Stripe"
        )
    })
}
