//! Two other mocks of Stripe, for the tests that hear them as a second opinion on the double: `localstripe` in a
//! virtual environment of Python, `stripe-stateful-mock` in `node_modules` beside it. Both, and whatever they stand
//! on, are pinned by the files in `xtask/mocks`.

use std::path::PathBuf;

use crate::process::Failure;
use crate::toolbox::{Toolbox, Wanted};

const MOCKS: Wanted = Wanted {
    name: "mocks",
    requirements: "xtask/mocks/requirements.txt",
    packages: Some("xtask/mocks"),
    brings_node: false,
    python: "import localstripe",
    node: "require('stripe-stateful-mock')",
};

/// Where they are.
#[derive(Debug)]
pub(crate) struct Mocks(Toolbox);

impl Mocks {
    /// Installs what is not there yet.
    pub(crate) fn install() -> Result<Self, Failure> {
        Toolbox::install(MOCKS).map(Self)
    }

    /// The Python that has `localstripe`.
    pub(crate) fn localstripe(&self) -> PathBuf {
        self.0.python()
    }

    /// The Node that has `stripe-stateful-mock` beside its folder.
    pub(crate) fn stateful_mock(&self) -> PathBuf {
        self.0.node()
    }
}
