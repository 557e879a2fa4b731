//! Every adapter keeps the port's contract and writes the same mail; and what SMTP alone can do wrong.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use rawdrive_notices::{
    FileMailer, Letter, Mail, MailError, Mailer, Sender, SmtpMailer, SmtpUrl, password_reset,
};
use rawdrive_tenancy_core::Env;
use rawdrive_testkit::contract::mail::{
    MailerSubject, each_recipient_gets_a_mail_of_their_own, what_is_no_address_is_refused_as_that,
};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

fn sender() -> Sender {
    Sender::parse("no-reply@photos.example").expect("a sender")
}

/// A mail as it arrived: header fields by name, unfolded, and the text as its encoding says.
#[derive(Debug)]
struct Arrived {
    raw: String,
    text: String,
}

impl Arrived {
    fn read(raw: &str) -> Self {
        assert!(raw.is_ascii(), "a mail in 8 bits: {raw}");
        assert!(
            raw.lines().all(|line| line.len() <= 998),
            "a line too long: {raw}"
        );
        let (_, body) = raw.split_once("\r\n\r\n").expect("a header and a body");
        let mail = Self {
            raw: raw.to_owned(),
            text: String::new(),
        };
        let text = match &*mail.field("Content-Transfer-Encoding") {
            "7bit" => body.to_owned(),
            "quoted-printable" => unquoted(body),
            other => panic!("encoded as {other}"),
        };
        Self {
            text: text.replace("\r\n", "\n"),
            ..mail
        }
    }

    fn fields(&self, name: &str) -> Vec<String> {
        let (head, _) = self.raw.split_once("\r\n\r\n").expect("a header");
        let unfolded = head.replace("\r\n ", " ");
        let of_name = |line: &str| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then(|| value.to_owned())
        };
        unfolded.lines().filter_map(of_name).collect()
    }

    fn field(&self, name: &str) -> String {
        let fields = self.fields(name);
        assert_eq!(fields.len(), 1, "{name} in {}", self.raw);
        fields[0].clone()
    }
}

fn unquoted(body: &str) -> String {
    let joined = body.replace("=\r\n", "");
    let (mut bytes, mut rest) = (Vec::new(), joined.as_bytes());
    while let [first, tail @ ..] = rest {
        if *first == b'=' {
            let digits = std::str::from_utf8(&tail[..2]).expect("two digits");
            bytes.push(u8::from_str_radix(digits, 16).expect("hex"));
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).expect("UTF-8")
}

/// An adapter, and how to see what has arrived by it, in any order.
struct Adapter<M, A> {
    mailer: M,
    arrived: A,
}

impl<M: Mailer, A: Fn() -> Vec<String> + Sync> MailerSubject for Adapter<M, A> {
    type Mailer = M;

    fn mailer(&self) -> &M {
        &self.mailer
    }

    async fn arrived(&self) -> Vec<Letter> {
        let letter = |raw: &String| {
            let mail = Arrived::read(raw);
            Letter {
                to: vec![mail.field("To")],
                mail: Mail {
                    subject: decoded(&mail.field("Subject")),
                    text: mail.text.trim_end().to_owned(),
                },
            }
        };
        (self.arrived)().iter().map(letter).collect()
    }
}

/// A subject whose words are encoded in base64 one by one, or not at all (RFC 2047).
fn decoded(subject: &str) -> String {
    let word = |word: &str| {
        let encoded = word.strip_prefix("=?utf-8?b?");
        match encoded.and_then(|rest| rest.strip_suffix("?=")) {
            Some(text) => String::from_utf8(STANDARD.decode(text).expect("base64")).expect("UTF-8"),
            None => word.to_owned(),
        }
    };
    let words: Vec<_> = subject.split(' ').map(word).collect();
    words.join(" ")
}

/// The mails that lie in a directory.
fn files_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("the directory was made");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mails = paths.map(|path| {
        assert_eq!(path.extension().expect("an extension"), "eml");
        std::fs::read_to_string(path).expect("a text")
    });
    mails.collect()
}

#[tokio::test]
async fn files_and_smtp_keep_the_contract_of_the_port() {
    for promise in 0..2 {
        let root = tempfile::tempdir().unwrap();
        let sink = Sink::start(Mood::Friendly).await;
        let files = Adapter {
            mailer: FileMailer::new(root.path(), sender(), Env::system()),
            arrived: || files_in(root.path()),
        };
        let smtp = Adapter {
            mailer: sink.mailer("", ""),
            arrived: || sink.mails.lock().unwrap().clone(),
        };
        if promise == 0 {
            each_recipient_gets_a_mail_of_their_own(&files).await;
            each_recipient_gets_a_mail_of_their_own(&smtp).await;
        } else {
            what_is_no_address_is_refused_as_that(&files).await;
            what_is_no_address_is_refused_as_that(&smtp).await;
        }
    }
}

/// How a mail looks on the wire, whichever adapter wrote it. `arrived` answers the mails that have arrived, in any
/// order.
async fn whole_mails<M: Mailer>(mailer: &M, arrived: impl Fn() -> Vec<String>) {
    let token = format!(
        "rdp_{}_{}_{}",
        "0".repeat(32),
        "1".repeat(32),
        "Az9".repeat(14)
    );
    let link = format!("https://photos.example/password-reset?token={token}");
    let both = ["ada@example.com".to_owned(), "eve@example.com".to_owned()];
    let mail = password_reset(&both[0], &link).mail;
    mailer.send(&both, &mail).await.expect("handed over");
    let mut mails: Vec<_> = arrived().iter().map(|raw| Arrived::read(raw)).collect();
    mails.sort_by_key(|mail| mail.field("To"));
    let [ada, eve] = &mails[..] else {
        panic!("a mail each: {mails:?}")
    };
    assert_eq!(
        (ada.field("To"), eve.field("To")),
        (both[0].clone(), both[1].clone())
    );
    assert!(
        !ada.raw.contains("eve@"),
        "nobody sees who else was written to: {}",
        ada.raw
    );
    assert_ne!(ada.field("Message-ID"), eve.field("Message-ID"));
    for mail in &mails {
        assert_eq!(mail.field("From"), "no-reply@photos.example");
        assert_eq!(mail.field("Subject"), "Set a new password");
        assert_eq!(mail.field("Content-Type"), "text/plain; charset=utf-8");
        assert_eq!(mail.field("MIME-Version"), "1.0");
        assert!(mail.field("Date").ends_with("+0000"), "{}", mail.raw);
        assert!(mail.text.contains(&format!("\n{link}\n")), "{}", mail.text);
        // Also for who reads mails without decoding them.
        assert!(
            mail.raw.contains(&format!("?token={token}\r\n")),
            "{}",
            mail.raw
        );
    }

    // Names of all alphabets, lines of any length and lines that SMTP would take for its own.
    let text = format!(
        "Фотостудия ❦ Żółć\n.\n.dot\nFrom here\n{}\n{link}\n",
        "long ".repeat(400)
    );
    let mail = Mail {
        subject: "Żółć: 90 % ❦ a subject that is a good deal longer than one line of a mail's header may be".into(),
        text: text.clone(),
    };
    mailer.send(&both[..1], &mail).await.expect("handed over");
    let all = arrived();
    let mail = all
        .iter()
        .map(|raw| Arrived::read(raw))
        .find(|mail| mail.text.contains('❦'));
    let mail = mail.expect("the mail arrived");
    assert_eq!(mail.text.trim_end(), text.trim_end());
    assert_eq!(mail.field("Content-Transfer-Encoding"), "quoted-printable");
    assert!(
        mail.field("Subject").starts_with("=?utf-8?"),
        "{}",
        mail.raw
    );

    // Neither a subject nor a recipient adds a header, or another recipient.
    let evil = Mail {
        subject: "Evil\r\nBcc: all@example.com".into(),
        text: "evil\r\n.\r\nMAIL FROM:<eve@example.com>\r\n".into(),
    };
    mailer.send(&both[..1], &evil).await.expect("handed over");
    let all = arrived();
    let found = all
        .iter()
        .map(|raw| Arrived::read(raw))
        .find(|mail| mail.text.starts_with("evil"));
    let found = found.expect("the mail arrived");
    assert_eq!(found.fields("Bcc"), Vec::<String>::new(), "{}", found.raw);
    let before = arrived().len();
    for nobody in [
        "",
        "ada",
        "ada@example.com\r\nBcc: all@example.com",
        "a@b.example, c@d.example",
    ] {
        let refused = mailer.send(&[nobody.to_owned()], &evil).await;
        assert!(
            matches!(refused, Err(MailError::Address)),
            "{nobody:?}: {refused:?}"
        );
    }
    assert_eq!(arrived().len(), before);
}

#[tokio::test]
async fn files_hold_whole_mails() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("mail");
    let mailer = FileMailer::new(&directory, sender(), Env::system());
    whole_mails(&mailer, || files_in(&directory)).await;
}

/// How the sink answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Friendly,
    RefusesRecipients,
    NeverGreets,
    Drips,
}

/// Enough of a mail server: keeps what it is given, and who said who they are.
#[derive(Debug, Clone)]
struct Sink {
    address: String,
    mails: Arc<Mutex<Vec<String>>>,
    credentials: Arc<Mutex<Vec<String>>>,
}

impl Sink {
    async fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let sink = Self {
            address: listener.local_addr().expect("an address").to_string(),
            mails: Arc::default(),
            credentials: Arc::default(),
        };
        let serving = sink.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sink = serving.clone();
                tokio::spawn(async move { sink.converse(stream, mood).await });
            }
        });
        sink
    }

    async fn converse(self, stream: TcpStream, mood: Mood) -> std::io::Result<()> {
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader);
        match mood {
            Mood::NeverGreets => tokio::time::sleep(Duration::from_secs(60)).await,
            Mood::Drips => loop {
                writer.write_all(b"220-still here\r\n").await?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            },
            Mood::Friendly | Mood::RefusesRecipients => {}
        }
        writer.write_all(b"220 sink\r\n").await?;
        let mut line = String::new();
        loop {
            line.clear();
            if lines.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let answer = match line.trim_end() {
                hello if hello.starts_with("EHLO") => "250-sink\r\n250 AUTH PLAIN LOGIN",
                auth if auth.starts_with("AUTH PLAIN ") => {
                    self.credentials
                        .lock()
                        .expect("no test panics while it holds this")
                        .push(auth[11..].to_owned());
                    "235 welcome"
                }
                to if to.starts_with("RCPT") && mood == Mood::RefusesRecipients => {
                    "550 5.1.1 <ada@example.com> is unknown here"
                }
                "DATA" => {
                    writer.write_all(b"354 go on\r\n").await?;
                    let mut mail = String::new();
                    loop {
                        line.clear();
                        lines.read_line(&mut line).await?;
                        if line == ".\r\n" {
                            break;
                        }
                        mail.push_str(line.strip_prefix('.').unwrap_or(&line));
                    }
                    self.mails
                        .lock()
                        .expect("no test panics while it holds this")
                        .push(mail);
                    "250 kept"
                }
                "QUIT" => {
                    writer.write_all(b"221 bye\r\n").await?;
                    return Ok(());
                }
                _ => "250 fine",
            };
            writer.write_all(format!("{answer}\r\n").as_bytes()).await?;
        }
    }

    fn mailer(&self, user: &str, query: &str) -> SmtpMailer {
        let url = SmtpUrl::parse(&format!("smtp://{user}{}{query}", self.address)).expect("a URL");
        SmtpMailer::with_patience(&url, sender(), Env::system(), Duration::from_millis(500))
    }
}

async fn send_one(mailer: &SmtpMailer) -> Result<(), MailError> {
    let letter = password_reset("ada@example.com", "https://photos.example/?token=1");
    mailer.send(&letter.to, &letter.mail).await
}

#[tokio::test]
async fn smtp_carries_whole_mails() {
    let sink = Sink::start(Mood::Friendly).await;
    whole_mails(&sink.mailer("", ""), || sink.mails.lock().unwrap().clone()).await;
    assert_eq!(*sink.credentials.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn smtp_says_who_it_is_and_whom_mails_are_from() {
    let sink = Sink::start(Mood::Friendly).await;
    let mailer = sink.mailer(
        "mailer%40x:s%3Acret@",
        "?from=Studio%20%3Cphotos@studio.example%3E",
    );
    send_one(&mailer).await.unwrap();
    let said = sink.credentials.lock().unwrap()[0].clone();
    assert_eq!(STANDARD.decode(said).unwrap(), b"\0mailer@x\0s:cret");
    let mail = Arrived::read(&sink.mails.lock().unwrap()[0]);
    assert_eq!(mail.field("From"), "Studio <photos@studio.example>");
    assert!(!format!("{mailer:?}").contains("cret"), "{mailer:?}");
}

#[tokio::test]
async fn a_refusal_is_told_by_its_status_alone() {
    let sink = Sink::start(Mood::RefusesRecipients).await;
    let error = send_one(&sink.mailer("", "")).await.unwrap_err();
    assert!(
        matches!(error, MailError::Refused { status: 550 }),
        "{error:?}"
    );
    assert!(!format!("{error:?} {error}").contains("ada"), "{error:?}");
    // A server that offers no TLS is not spoken to by who requires it.
    let error = send_one(&sink.mailer("", "?tls=required"))
        .await
        .unwrap_err();
    assert!(matches!(error, MailError::Unreachable(_)), "{error:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_or_does_not_speak_is_no_waiting() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = gone.local_addr().unwrap().to_string();
    drop(gone);
    let sink = Sink {
        address,
        mails: Arc::default(),
        credentials: Arc::default(),
    };
    let error = send_one(&sink.mailer("", "")).await.unwrap_err();
    assert!(matches!(error, MailError::Unreachable(_)), "{error:?}");
    for mood in [Mood::NeverGreets, Mood::Drips] {
        let sink = Sink::start(mood).await;
        let begun = Instant::now();
        let error = send_one(&sink.mailer("", "")).await.unwrap_err();
        assert!(matches!(error, MailError::TooSlow), "{mood:?}: {error:?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{mood:?}");
    }
}
