//! The README's blocks, pasted whole into bash, work, twice in a row.

use std::fs;
use std::path::{Path, PathBuf};

use e2e::{Backend, Output, Server};
use serde_json::Value;

fn repository() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests lie in the repository");
    root.to_owned()
}

struct Block {
    language: String,
    text: String,
}

fn blocks() -> Vec<Block> {
    let readme = fs::read_to_string(repository().join("README.md")).expect("there is a README");
    let (mut found, mut open): (Vec<Block>, Option<Block>) = (Vec::new(), None);
    for line in readme.lines() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(_), Some(block)) => found.push(block),
            (Some(language), None) => {
                let (language, text) = (language.to_owned(), String::new());
                open = Some(Block { language, text });
            }
            (None, Some(mut block)) => {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    found
}

/// The one block that holds a text.
fn block(blocks: &[Block], holds: &str) -> String {
    let mut of = blocks.iter().filter(|block| block.text.contains(holds));
    let one = of
        .next()
        .unwrap_or_else(|| panic!("no block holds {holds}"));
    assert!(of.next().is_none(), "two blocks hold {holds}");
    one.text.clone()
}

/// Where the reader stands: the repository's files that the blocks name, and room for files that they write.
struct Reader {
    server: Server,
    folder: tempfile::TempDir,
}

impl Reader {
    fn of(server: Server) -> Self {
        let folder = tempfile::tempdir().expect("failed to make a directory");
        std::os::unix::fs::symlink(repository().join("bins"), folder.path().join("bins"))
            .expect("failed to link the photos' folder");
        Self { server, folder }
    }

    /// Pastes blocks into one bash.
    async fn pastes(&self, blocks: &[&str]) -> Output {
        let script = blocks
            .join("\n")
            .replace("http://127.0.0.1:8080", &self.server.url());
        self.server.bash(self.folder.path(), &script).await
    }
}

/// The JSON answers among the lines, and the statuses beside them.
fn answers(text: &str) -> (Vec<Value>, Vec<String>) {
    let lines = text.lines().map(|line| line.trim_start_matches("# "));
    let (json, rest): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with('{'));
    let json = json
        .into_iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")));
    let is_status = |line: &&str| line.len() == 3 && line.bytes().all(|b| b.is_ascii_digit());
    let statuses = rest.into_iter().filter(is_status).map(str::to_owned);
    (json.collect(), statuses.collect())
}

/// The members that an answer has, so that one that is shown is like one that is given.
fn members(of: &Value) -> Vec<String> {
    let members = of.as_object().expect("an object");
    members.keys().cloned().collect()
}

/// What is shown after a command is what it answers.
fn assert_shown(block: &str, printed: &Output) {
    assert_eq!(printed.stderr, "", "{printed:#?}");
    let shown: String = block
        .lines()
        .filter(|line| line.starts_with("# "))
        .map(|line| format!("{line}\n"))
        .collect();
    let (shown, given) = (answers(&shown), answers(&printed.stdout));
    assert!(!given.0.is_empty(), "{printed:#?}");
    assert_eq!(shown.1, given.1, "{printed:#?}");
    let each = |all: &[Value]| all.iter().map(members).collect::<Vec<_>>();
    assert_eq!(each(&shown.0), each(&given.0), "{printed:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_screen_works_as_pasted_and_again() {
    let blocks = blocks();
    for block in &blocks {
        assert!(
            !block.text.lines().any(|line| line.starts_with("$ ")),
            "{}",
            block.text
        );
        assert!(
            ["sh", "toml"].contains(&block.language.as_str()),
            "{:?}",
            block.language
        );
    }
    let walk = block(&blocks, "/v1/branding");
    let operator = block(&blocks, "rawdrive doctor");
    let reader = Reader::of(Server::start());
    for _ in 0..2 {
        let printed = reader.pastes(&[&walk]).await;
        assert_shown(&walk, &printed);
        let (given, statuses) = answers(&printed.stdout);
        assert_eq!(statuses, ["201", "200", "402"], "{printed:#?}");
        assert_eq!(given[0]["filename"], "coffee.jpg");
        assert_eq!(given[2]["code"], "feature_not_available");

        let printed = reader.pastes(&[&walk, &operator]).await;
        assert_eq!(
            (printed.code, printed.stderr.as_str()),
            (Some(0), ""),
            "{printed:#?}"
        );
        for told in [
            "professional",
            "every invariant holds",
            "every chain holds",
            "has used 3 of",
            "whole",
        ] {
            assert!(
                printed.stdout.contains(told),
                "{told} is not in {printed:#?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_that_is_counted_elsewhere_works_as_pasted_and_again() {
    let blocks = blocks();
    let plans = block(&blocks, "[[metric]]");
    let (walk, report) = (
        block(&blocks, "/v1/branding"),
        block(&blocks, "/v1/usage/events"),
    );
    let folder = tempfile::tempdir().expect("failed to make a directory");
    let path = folder.path().join("plans.toml");
    fs::write(&path, plans).expect("failed to save the plans");
    let path = path.to_str().expect("a path of text");
    let before = if Backend::chosen().is_postgres() {
        None
    } else {
        // The data directory of the first screen, whose plans are the built-in ones.
        let reader = Reader::of(Server::start());
        let _ = reader.pastes(&[&walk]).await;
        reader.server.kill9();
        Some(reader)
    };
    let data = before.as_ref().map(|reader| reader.server.data_dir());
    let data = data
        .as_ref()
        .map(|data| data.to_str().expect("a path of text"));
    let extra: Vec<_> = [("RAWDRIVE_PLANS", Some(path)), ("RAWDRIVE_DATA_DIR", data)]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    let reader = Reader::of(Server::start_with(&extra));
    for _ in 0..2 {
        let printed = reader.pastes(&[&walk, "echo ====", &report]).await;
        let (_, after) = printed
            .stdout
            .split_once("====\n")
            .expect("both were pasted");
        let after = Output {
            stdout: after.to_owned(),
            ..printed
        };
        assert_shown(&report, &after);
        let (given, statuses) = answers(&after.stdout);
        assert_eq!(statuses, ["202"], "{after:#?}");
        assert_eq!(given[0]["accepted"], 1, "{after:#?}");
        assert_eq!(
            (&given[1]["used"], &given[1]["limit"]),
            (&Value::from(1), &Value::from(1_000)),
            "{after:#?}"
        );
    }
}
