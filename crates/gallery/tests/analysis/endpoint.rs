//! A vision endpoint that answers as it is told to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rawdrive_gallery::analysis::{LocalAnalyzer, VisionAnalyzer, VisionSettings};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const KEY: &str = "sk-a-key-that-nobody-may-see";
/// How long the analyser waits for an answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// What the endpoint does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Manner {
    /// Answers with these words.
    Says(Value),
    /// Answers with this status, these headers and this body.
    Answers(u16, String, Vec<u8>),
    /// Takes the request and says nothing.
    Hangs,
    /// Closes the connection after the head of an answer.
    BreaksOff,
    /// Sends an answer that does not end.
    Floods,
}

/// A request as it came in.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) head: String,
    pub(crate) body: Value,
}

pub(crate) struct Endpoint {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Endpoint {
    pub(crate) async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::default();
        let record = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (manner, record) = (manner.clone(), Arc::clone(&record));
                tokio::spawn(async move {
                    // A client that goes away is part of some tests.
                    let _ = serve(connection, manner, &record).await;
                });
            }
        });
        Self { address, asked }
    }

    /// One that says what a good model does.
    pub(crate) async fn good() -> Self {
        let words = json!({ "description": "A cup of coffee.", "tags": ["Coffee", "cup"] });
        Self::start(Manner::Says(words)).await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    pub(crate) fn analyzer(&self, pool: LocalAnalyzer) -> VisionAnalyzer {
        let settings = VisionSettings {
            url: self.url(),
            key: Some(SecretString::from(KEY)),
            model: "see-all".to_owned(),
            timeout: PATIENCE,
        };
        VisionAnalyzer::new(pool, &settings).expect("the settings are good")
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic").clone()
    }
}

async fn serve(
    mut connection: TcpStream,
    manner: Manner,
    record: &Mutex<Vec<Asked>>,
) -> std::io::Result<()> {
    let asked = read(&mut connection).await?;
    record.lock().expect("no panic").push(asked);
    let (status, headers, body) = match manner {
        Manner::Says(words) => {
            let message = json!({ "role": "assistant", "content": words.to_string() });
            let body = json!({ "choices": [{ "message": message }] });
            (200, String::new(), body.to_string().into_bytes())
        }
        Manner::Answers(status, headers, body) => (status, headers, body),
        Manner::Hangs => {
            tokio::time::sleep(Duration::from_secs(600)).await;
            return Ok(());
        }
        Manner::BreaksOff => {
            return connection
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"choi")
                .await;
        }
        Manner::Floods => {
            let head = b"HTTP/1.1 200 OK\r\ncontent-length: 4000000000\r\n\r\n";
            connection.write_all(head).await?;
            loop {
                connection.write_all(&[b' '; 4096]).await?;
            }
        }
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status} Said\r\n{headers}content-length: {length}\r\n\r\n");
    connection.write_all(head.as_bytes()).await?;
    connection.write_all(&body).await
}

async fn read(connection: &mut TcpStream) -> std::io::Result<Asked> {
    let mut bytes = Vec::new();
    let broken = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    loop {
        if connection.read_buf(&mut bytes).await? == 0 {
            return Err(broken());
        }
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if bytes.len() < end + 4 + length.unwrap_or(0) {
            continue;
        }
        return Ok(Asked {
            head: String::from_utf8_lossy(&bytes[..end]).into_owned(),
            body: serde_json::from_slice(&bytes[end + 4..]).unwrap_or(Value::Null),
        });
    }
}
