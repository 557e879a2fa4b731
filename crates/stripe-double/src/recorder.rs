//! Calls and their answers, a line of JSON each, for whoever judges them afterwards by the types of Stripe's own SDKs.
//! A credential is never written.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::service::{Reply, Request};

/// Appends to a file. Several doubles may share it: each line is one write.
pub(crate) struct Recorder {
    file: Mutex<File>,
}

impl Recorder {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self {
            file: Mutex::new(file),
        })
    }

    /// Notes a call. A replayed answer was noted when it was new.
    pub(crate) fn note(&self, request: &Request, reply: &Reply) {
        let answered = match reply {
            Reply::Answer {
                stored, replayed, ..
            } if !replayed => Some(stored),
            _ => None,
        };
        let answer = answered.and_then(|stored| serde_json::from_str::<Value>(&stored.body).ok());
        let line = json!({
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "body": request.body,
            "user_agent": request.user_agent,
            "status": answered.map(|stored| stored.status),
            "answer": answer,
        });
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(format!("{line}\n").as_bytes()) {
            tracing::error!(%error, "a call could not be recorded");
        }
    }
}
