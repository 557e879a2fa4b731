//! Forms with files (RFC 7578, RFC 2046, 5.1), read piece by piece.
//!
//! What clients write into the header of a part is told as raw bytes: [`file_name`](super::file_name) reads it as
//! the commonest of them mean it.
//!
//! Invariant: what is buffered is bounded by one piece of the body and [`HEAD_BYTES`].

use actix_web::error::PayloadError;
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};

use super::file_name::parameters;

/// The largest header of a part, and the most that may precede the first part.
const HEAD_BYTES: usize = 16 * 1024;
/// The longest boundary: RFC 2046 allows 70 characters.
const BOUNDARY_BYTES: usize = 256;

/// Why a form cannot be read.
#[derive(Debug)]
pub(crate) enum FormError {
    /// It breaks the rules of a form, which the text says for a person.
    Malformed(&'static str),
    /// It ended before its last boundary.
    Broken,
    /// The body could not be read.
    Body(PayloadError),
}

/// The header of a part.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct PartHead {
    /// `Content-Disposition`, as it was sent.
    pub(crate) disposition: Option<Bytes>,
    /// `Content-Type`; text that is not even ASCII is empty.
    pub(crate) content_type: Option<String>,
}

/// A form that is being read. Each part is read to its end before the next.
#[derive(Debug)]
pub(crate) struct Form<S> {
    body: S,
    /// What was read and not given out.
    buffer: BytesMut,
    /// CRLF, two hyphens and the boundary.
    delimiter: Vec<u8>,
    at: At,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before the first delimiter.
    Preamble,
    /// Within a part's data.
    Data,
    /// Behind a delimiter.
    Delimiter,
    End,
}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> Form<S> {
    /// Begins to read a body that is announced with this `Content-Type`.
    ///
    /// # Errors
    /// The type names no boundary.
    pub(crate) fn new(content_type: &str, body: S) -> Result<Self, FormError> {
        let boundary = parameters(content_type.as_bytes())
            .into_iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(b"boundary"))
            .map(|(_, value)| value)
            .filter(|boundary| (1..=BOUNDARY_BYTES).contains(&boundary.len()));
        let boundary = boundary.ok_or(FormError::Malformed(
            "The form's `Content-Type` names no boundary.",
        ))?;
        Ok(Self {
            body,
            // The first delimiter may stand at the very start, where no line ends before it.
            buffer: BytesMut::from(&b"\r\n"[..]),
            delimiter: [b"\r\n--", &boundary[..]].concat(),
            at: At::Preamble,
        })
    }

    /// The header of the next part, or nothing at the form's end. What is left of the part before it is passed over.
    ///
    /// # Errors
    /// The form cannot be read.
    pub(crate) async fn part(&mut self) -> Result<Option<PartHead>, FormError> {
        let mut passed = 0;
        while matches!(self.at, At::Preamble | At::Data) {
            passed += self.piece().await?.map_or(0, |piece| piece.len());
            if self.at == At::Preamble && passed > HEAD_BYTES {
                return Err(FormError::Malformed(
                    "The form's boundary does not come at its beginning.",
                ));
            }
        }
        if self.at == At::End || self.is_last().await? {
            self.at = At::End;
            return Ok(None);
        }
        let head = self.head().await?;
        self.at = At::Data;
        Ok(Some(head))
    }

    /// The next bytes of the part, or nothing at its end.
    ///
    /// # Errors
    /// The form cannot be read.
    pub(crate) async fn data(&mut self) -> Result<Option<Bytes>, FormError> {
        match self.at {
            At::Data => self.piece().await,
            At::Preamble | At::Delimiter | At::End => Ok(None),
        }
    }

    /// Bytes up to the next delimiter, which is then passed.
    async fn piece(&mut self) -> Result<Option<Bytes>, FormError> {
        loop {
            let found = memchr::memmem::find(&self.buffer, &self.delimiter);
            // A delimiter may have begun at the end of what is there.
            let undecided = self.delimiter.len() - 1;
            let ready = found.unwrap_or_else(|| self.buffer.len().saturating_sub(undecided));
            if ready > 0 {
                return Ok(Some(self.buffer.split_to(ready).freeze()));
            }
            if found.is_some() {
                self.buffer.advance(self.delimiter.len());
                self.at = At::Delimiter;
                return Ok(None);
            }
            self.more().await?;
        }
    }

    /// Behind a delimiter: whether it was the last one.
    async fn is_last(&mut self) -> Result<bool, FormError> {
        while self.buffer.len() < 2 {
            self.more().await?;
        }
        Ok(self.buffer.starts_with(b"--"))
    }

    /// Behind a delimiter: the rest of its line, and the lines up to an empty one.
    async fn head(&mut self) -> Result<PartHead, FormError> {
        const END: &[u8] = b"\r\n\r\n";
        let end = loop {
            if let Some(end) = memchr::memmem::find(&self.buffer, END) {
                break end;
            }
            if self.buffer.len() > HEAD_BYTES {
                return Err(FormError::Malformed("The header of a part is too large."));
            }
            self.more().await?;
        };
        let mut lines = self.buffer.split_to(end + END.len()).freeze();
        let padding = lines.iter().take_while(|b| matches!(b, b' ' | b'\t'));
        lines.advance(padding.count());
        if !lines.starts_with(b"\r\n") {
            return Err(FormError::Malformed("The form's framing is malformed."));
        }
        let mut head = PartHead::default();
        for line in memchr::memmem::find_iter(&lines, b"\r\n").scan(0, |from, to| {
            let line = lines.slice(*from..to);
            *from = to + 2;
            Some(line)
        }) {
            let Some(colon) = memchr::memchr(b':', &line) else {
                continue;
            };
            let (name, value) = (
                &line[..colon],
                line.slice_ref(line[colon + 1..].trim_ascii()),
            );
            if name.eq_ignore_ascii_case(b"content-disposition") {
                head.disposition = Some(value);
            } else if name.eq_ignore_ascii_case(b"content-type") {
                let text = std::str::from_utf8(&value)
                    .ok()
                    .filter(|text| text.is_ascii());
                head.content_type = Some(text.unwrap_or_default().to_owned());
            }
        }
        Ok(head)
    }

    async fn more(&mut self) -> Result<(), FormError> {
        match self.body.next().await {
            Some(Ok(bytes)) => {
                self.buffer.extend_from_slice(&bytes);
                Ok(())
            }
            Some(Err(error)) => Err(FormError::Body(error)),
            None => Err(FormError::Broken),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    const TYPE: &str = "multipart/form-data; boundary=\"a b\"";
    const BODY: &[u8] = b"preamble\r\n--a b \t\r\nContent-Disposition: form-data; name=\"file\"\r\n\
        content-type:image/png\r\nX: y\r\n\r\none\r\n--a \r\ntwo\r\n--a b\r\n\r\n\r\n--a b--\r\nepilogue";

    /// Each part's header and data, with the body cut into pieces of so many bytes.
    async fn parts(body: &[u8], piece: usize) -> Result<Vec<(PartHead, Vec<u8>)>, FormError> {
        let pieces: Vec<_> = body
            .chunks(piece)
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect();
        let mut form = Form::new(TYPE, stream::iter(pieces))?;
        let mut parts = Vec::new();
        while let Some(head) = form.part().await? {
            let mut data = Vec::new();
            while let Some(bytes) = form.data().await? {
                data.extend_from_slice(&bytes);
            }
            parts.push((head, data));
        }
        Ok(parts)
    }

    #[actix_web::test]
    async fn parts_are_the_same_however_the_body_is_cut() {
        let head = PartHead {
            disposition: Some(Bytes::from_static(b"form-data; name=\"file\"")),
            content_type: Some("image/png".to_owned()),
        };
        for piece in 1..BODY.len() {
            let found = parts(BODY, piece).await.unwrap();
            assert_eq!(found.len(), 2, "{piece}");
            assert_eq!(found[0], (head.clone(), b"one\r\n--a \r\ntwo".to_vec()));
            assert_eq!(found[1], (PartHead::default(), Vec::new()));
        }
    }

    #[actix_web::test]
    async fn every_prefix_breaks_off() {
        let end = BODY.len() - b"\r\nepilogue".len();
        for length in 0..end {
            let found = parts(&BODY[..length], 7).await;
            assert!(
                matches!(found, Err(FormError::Broken)),
                "{length}: {found:?}"
            );
        }
        assert!(parts(&BODY[..end], 7).await.is_ok());
    }

    #[actix_web::test]
    async fn what_is_no_form_is_malformed() {
        let malformed =
            async |body: &[u8]| matches!(parts(body, 1000).await, Err(FormError::Malformed(_)));
        assert!(malformed(b"--a bc\r\n\r\n\r\n--a b--").await);
        assert!(malformed(&[b'x'; 4 * HEAD_BYTES]).await);
        let endless = [b"--a b\r\nX: ", &[b'x'; 4 * HEAD_BYTES][..]].concat();
        assert!(malformed(&endless).await);
        for no_boundary in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\"\"",
        ] {
            let form = Form::new(no_boundary, stream::empty());
            assert!(
                matches!(form, Err(FormError::Malformed(_))),
                "{no_boundary}"
            );
        }
    }

    #[actix_web::test]
    async fn what_is_buffered_does_not_grow_with_the_part() {
        let pieces = stream::iter((0..4096).map(|_| Ok(Bytes::from(vec![b'x'; 64 * 1024]))));
        let start = stream::iter([Ok(Bytes::from_static(b"--a b\r\n\r\n"))]);
        let mut form = Form::new(TYPE, start.chain(pieces)).unwrap();
        assert!(form.part().await.unwrap().is_some());
        for _ in 0..1000 {
            assert!(form.data().await.unwrap().is_some());
            assert!(form.buffer.capacity() < 1 << 20);
        }
    }
}
