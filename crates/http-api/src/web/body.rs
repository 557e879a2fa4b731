//! Request bodies: bounded, paced, and drained when they are refused.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::dev;
use actix_web::error::PayloadError;
use actix_web::http::header::{self, HeaderMap};
use actix_web::{FromRequest, HttpRequest};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::json::{parse_json, read_json};
use super::problem::{Code, Problem};
use super::validate::Validator;

/// The largest JSON body.
pub const JSON_LIMIT_BYTES: u64 = 1024 * 1024;
/// How much of a refused body is read, so that the client gets the answer and not a reset.
pub const DRAIN_BYTES: u64 = 16 * 1024 * 1024;
/// How long that may take.
pub const DRAIN_TIME: Duration = Duration::from_secs(20);

/// The body of a request, not read yet. Extraction never fails, so that a handler decides the order of its
/// refusals: credential and role first, then the body.
pub struct Body {
    payload: dev::Payload,
    content_type: Option<String>,
    content_length: Option<u64>,
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body")
            .field("content_length", &self.content_length)
            .finish_non_exhaustive()
    }
}

impl FromRequest for Body {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        ready(Ok(Self::of(request.headers(), payload.take())))
    }
}

impl Body {
    /// The body of a request with these headers.
    #[must_use]
    pub fn of(headers: &HeaderMap, payload: dev::Payload) -> Self {
        let text = |name| headers.get(name).and_then(|v| v.to_str().ok());
        Self {
            payload,
            // A value that is not even text is no media type that any route takes.
            content_type: headers
                .get(header::CONTENT_TYPE)
                .map(|v| v.to_str().unwrap_or_default().to_owned()),
            content_length: text(header::CONTENT_LENGTH).and_then(|v| v.parse().ok()),
        }
    }

    /// `Content-Type` as it was sent.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    /// `Content-Length`, where the client told it.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// The whole body as JSON.
    ///
    /// # Errors
    /// 400, 408, 413, 415 or 422: see [`parse_json`].
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, Problem> {
        parse_json(&self.json_bytes().await?)
    }

    /// As [`json`](Self::json), for a route that looks at values too: see [`read_json`].
    ///
    /// # Errors
    /// As [`json`](Self::json).
    pub async fn checked_json<T: DeserializeOwned>(self) -> Result<(T, Validator), Problem> {
        read_json(&self.json_bytes().await?)
    }

    /// The whole body, checked to be announced as JSON, for routes that also need its digest.
    ///
    /// # Errors
    /// 408, 413 or 415.
    pub async fn json_bytes(self) -> Result<Bytes, Problem> {
        require_json(self.content_type.as_deref())?;
        self.bytes(JSON_LIMIT_BYTES).await
    }

    /// The whole body, whatever it is.
    ///
    /// # Errors
    /// 400, 408 or 413.
    pub async fn bytes(mut self, limit_bytes: u64) -> Result<Bytes, Problem> {
        if self
            .content_length
            .is_some_and(|length| length > limit_bytes)
        {
            return Err(Problem::payload_too_large(limit_bytes));
        }
        read_bounded(&mut self.payload, limit_bytes).await
    }

    /// The body piece by piece, bounded in size and held to a least throughput.
    ///
    /// # Errors
    /// 413 if `Content-Length` announces more than the limit.
    pub fn stream(self, limit_bytes: u64, pace: Pace) -> Result<PacedBody<dev::Payload>, Problem> {
        if self
            .content_length
            .is_some_and(|length| length > limit_bytes)
        {
            return Err(Problem::payload_too_large(limit_bytes));
        }
        Ok(PacedBody::new(self.payload, limit_bytes, pace))
    }

    /// The raw payload.
    #[must_use]
    pub fn into_payload(self) -> dev::Payload {
        self.payload
    }
}

/// # Errors
/// 415 unless the type is `application/json`, whatever its parameters, or absent.
pub fn require_json(content_type: Option<&str>) -> Result<(), Problem> {
    let Some(text) = content_type else {
        return Ok(());
    };
    let essence = text.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err(Problem::unsupported_media_type("application/json"))
    }
}

/// Reads a whole body of at most `limit_bytes` at [`Pace::BODY`].
///
/// # Errors
/// 400 if it breaks off, 408 if it comes too slowly, 413 if it is larger.
pub async fn read_bounded<S>(payload: &mut S, limit_bytes: u64) -> Result<Bytes, Problem>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    read_at(payload, limit_bytes, Pace::BODY).await
}

/// As [`read_bounded`], with the pace chosen.
///
/// # Errors
/// As [`read_bounded`].
pub async fn read_at<S>(payload: &mut S, limit_bytes: u64, pace: Pace) -> Result<Bytes, Problem>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    let mut paced = PacedBody::new(payload, limit_bytes, pace);
    let mut body = BytesMut::new();
    while let Some(chunk) = paced.chunk().await? {
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// What became of a refused body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Read to its end: the connection can go on.
    Wholly,
    /// Too large, too slow or broken: the connection has to be closed after the answer.
    InPart,
}

/// Reads and forgets a refused body, up to `up_to_bytes` and no longer than `time`.
pub async fn drain<S>(payload: &mut S, up_to_bytes: u64, time: Duration) -> Drained
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    let all = async {
        let mut read = 0_u64;
        while let Some(chunk) = payload.next().await {
            match chunk {
                Ok(chunk) => read = read.saturating_add(chunk.len() as u64),
                Err(_) => return Drained::InPart,
            }
            if read > up_to_bytes {
                return Drained::InPart;
            }
        }
        Drained::Wholly
    };
    timeout(time, all).await.unwrap_or(Drained::InPart)
}

/// The least throughput of a body: so many bytes in each window of waiting. Time that the reader itself
/// takes (disk, backpressure) does not count against the client.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The window.
    pub window: Duration,
    /// The least number of bytes in each.
    pub least_bytes: u64,
}

impl Pace {
    /// Of every request's body. An EDGE uplink of 3 KiB/s passes, also when it pauses for 20 of the 25 seconds; a
    /// connection that is held by a byte a second is closed within half a minute.
    pub const BODY: Self = Self {
        window: Duration::from_secs(25),
        least_bytes: 8 * 1024,
    };
}

/// A body that is bounded in size and held to a least throughput. As a stream it speaks the framework's
/// error, so that whoever reads bodies takes it; [`payload_problem`] turns that into the answer.
pub struct PacedBody<S> {
    inner: S,
    limit_bytes: u64,
    read_bytes: u64,
    pace: Pace,
    in_window: u64,
    waited: Duration,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<S> std::fmt::Debug for PacedBody<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PacedBody")
            .field("read_bytes", &self.read_bytes)
            .finish_non_exhaustive()
    }
}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> PacedBody<S> {
    /// Bounds and paces a body.
    pub fn new(inner: S, limit_bytes: u64, pace: Pace) -> Self {
        Self {
            inner,
            limit_bytes,
            read_bytes: 0,
            pace,
            in_window: 0,
            waited: Duration::ZERO,
            waiting: None,
        }
    }

    /// How much was read so far.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// The next piece.
    ///
    /// # Errors
    /// 400, 408 or 413.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Problem> {
        let limit_bytes = self.limit_bytes;
        self.next()
            .await
            .transpose()
            .map_err(|e| payload_problem(e, limit_bytes))
    }

    fn too_slow(&mut self) -> bool {
        if self.waited < self.pace.window {
            return false;
        }
        let slow = self.in_window < self.pace.least_bytes;
        (self.in_window, self.waited) = (0, Duration::ZERO);
        slow
    }
}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> Stream for PacedBody<S> {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let next = Pin::new(&mut this.inner).poll_next(cx);
        if let Some((since, _)) = &this.waiting
            && (next.is_ready() || since.elapsed() + this.waited >= this.pace.window)
        {
            this.waited += since.elapsed();
            this.waiting = None;
            if this.too_slow() {
                return Poll::Ready(Some(Err(PayloadError::Io(io::ErrorKind::TimedOut.into()))));
            }
        }
        match next {
            Poll::Ready(Some(Ok(chunk))) => {
                this.in_window = this.in_window.saturating_add(chunk.len() as u64);
                this.read_bytes = this.read_bytes.saturating_add(chunk.len() as u64);
                if this.read_bytes > this.limit_bytes {
                    return Poll::Ready(Some(Err(PayloadError::Overflow)));
                }
                Poll::Ready(Some(Ok(chunk)))
            }
            Poll::Ready(other) => Poll::Ready(other),
            Poll::Pending => {
                let left = this.pace.window.saturating_sub(this.waited);
                let (_, timer) = this
                    .waiting
                    .get_or_insert_with(|| (Instant::now(), Box::pin(sleep(left))));
                if timer.as_mut().poll(cx).is_ready() {
                    // The window ends just now: look at it in the next poll.
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }
    }
}

/// The answer to a body that could not be read.
#[must_use]
pub fn payload_problem(error: PayloadError, limit_bytes: u64) -> Problem {
    match error {
        PayloadError::Overflow => Problem::payload_too_large(limit_bytes),
        PayloadError::Io(e) if e.kind() == io::ErrorKind::TimedOut => Problem::request_timeout(),
        other => Problem::new(
            Code::MalformedRequest,
            "The body broke off or its transfer coding is wrong.",
        )
        .caused_by(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    const MOMENT: Duration = Duration::from_millis(30);

    fn chunks(sizes: &[usize]) -> impl Stream<Item = Result<Bytes, PayloadError>> + Unpin + use<> {
        let chunks: Vec<_> = sizes
            .iter()
            .map(|n| Ok(Bytes::from(vec![b'x'; *n])))
            .collect();
        stream::iter(chunks)
    }

    fn trickle(
        size: usize,
        every: Duration,
    ) -> impl Stream<Item = Result<Bytes, PayloadError>> + Unpin {
        Box::pin(stream::unfold(0_u32, move |n| async move {
            sleep(every).await;
            (n < 1000).then(|| (Ok(Bytes::from(vec![b'x'; size])), n + 1))
        }))
    }

    #[actix_web::test]
    async fn a_body_of_just_the_limit_is_read_and_one_byte_more_is_413() {
        assert_eq!(
            read_bounded(&mut chunks(&[3, 4]), 7).await.unwrap().len(),
            7
        );
        let problem = read_bounded(&mut chunks(&[3, 5]), 7).await.unwrap_err();
        assert_eq!(
            (problem.code, &problem.members["limit"]),
            (Code::PayloadTooLarge, &7.into())
        );
    }

    #[actix_web::test]
    async fn a_slow_body_is_408() {
        let pace = Pace {
            window: MOMENT,
            least_bytes: 1000,
        };
        let problem = read_at(&mut trickle(1, MOMENT / 10), 1_000_000, pace)
            .await
            .unwrap_err();
        assert_eq!(problem.code, Code::RequestTimeout);
        let problem = read_at(&mut stream::pending(), 10, pace).await.unwrap_err();
        assert_eq!(problem.code, Code::RequestTimeout);
    }

    /// Sends so many bytes a second, and pauses for some of every minute.
    fn uplink(
        bytes_a_second: usize,
        pause: Duration,
    ) -> impl Stream<Item = Result<Bytes, PayloadError>> + Unpin {
        Box::pin(stream::unfold(0_u32, move |second| async move {
            sleep(Duration::from_secs(1)).await;
            if second % 60 == 59 {
                sleep(pause).await;
            }
            let piece = Bytes::from(vec![b'x'; bytes_a_second]);
            (second < 600).then(|| (Ok(piece), second + 1))
        }))
    }

    #[actix_web::test]
    async fn an_edge_phone_gets_through_and_a_byte_a_second_does_not() {
        tokio::time::pause();
        for pause in [0, 10, 20] {
            let mut phone = uplink(3 * 1024, Duration::from_secs(pause));
            let read = read_bounded(&mut phone, 1 << 30).await;
            assert_eq!(read.unwrap().len(), 600 * 3 * 1024, "{pause}");
        }
        for bytes_a_second in [0, 1, 100] {
            let start = Instant::now();
            let mut held = uplink(bytes_a_second, Duration::ZERO);
            let problem = read_bounded(&mut held, 1 << 30).await.unwrap_err();
            assert_eq!(problem.code, Code::RequestTimeout);
            assert!(start.elapsed() <= Duration::from_secs(30));
        }
    }

    #[actix_web::test]
    async fn a_body_that_breaks_off_is_400() {
        let mut broken = stream::iter([
            Ok(Bytes::from_static(b"{")),
            Err(PayloadError::Incomplete(None)),
        ]);
        assert_eq!(
            read_bounded(&mut broken, 10).await.unwrap_err().code,
            Code::MalformedRequest
        );
    }

    #[actix_web::test]
    async fn draining_ends_at_its_size_and_its_time() {
        assert_eq!(
            drain(&mut chunks(&[5, 5]), 10, MOMENT).await,
            Drained::Wholly
        );
        assert_eq!(
            drain(&mut chunks(&[5, 6]), 10, MOMENT).await,
            Drained::InPart
        );
        assert_eq!(
            drain(&mut trickle(1, MOMENT / 10), 1 << 20, MOMENT).await,
            Drained::InPart
        );
        assert_eq!(
            drain(
                &mut stream::iter([Err(PayloadError::Incomplete(None))]),
                10,
                MOMENT
            )
            .await,
            Drained::InPart
        );
    }

    #[actix_web::test]
    async fn a_paced_body_times_out_below_its_least_throughput() {
        let pace = Pace {
            window: MOMENT,
            least_bytes: 1000,
        };
        for mut slow in [
            PacedBody::new(
                Box::pin(stream::pending()) as Pin<Box<dyn Stream<Item = _>>>,
                1 << 20,
                pace,
            ),
            PacedBody::new(Box::pin(trickle(1, MOMENT / 10)), 1 << 20, pace),
            PacedBody::new(Box::pin(trickle(1, MOMENT * 2)), 1 << 20, pace),
        ] {
            let refused = loop {
                match timeout(MOMENT * 100, slow.chunk()).await.unwrap() {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("a slow body was read to its end"),
                    Err(problem) => break problem,
                }
            };
            assert_eq!(refused.code, Code::RequestTimeout);
        }
    }

    #[actix_web::test]
    async fn a_paced_body_above_its_least_throughput_goes_on_for_many_windows() {
        let pace = Pace {
            window: MOMENT,
            least_bytes: 1000,
        };
        let mut body = PacedBody::new(trickle(1000, MOMENT / 10), 1 << 30, pace);
        let start = Instant::now();
        while start.elapsed() < MOMENT * 8 {
            assert!(body.chunk().await.unwrap().is_some());
        }
    }

    #[actix_web::test]
    async fn the_readers_own_time_does_not_count_against_the_client() {
        let mut body = PacedBody::new(
            chunks(&[1, 1, 1]),
            10,
            Pace {
                window: MOMENT,
                least_bytes: 1000,
            },
        );
        while body.chunk().await.unwrap().is_some() {
            sleep(MOMENT * 2).await;
        }
        assert_eq!(body.read_bytes(), 3);
    }

    #[actix_web::test]
    async fn a_paced_body_beyond_its_limit_is_413() {
        let mut body = PacedBody::new(chunks(&[6, 6]), 10, Pace::BODY);
        body.chunk().await.unwrap();
        assert_eq!(body.chunk().await.unwrap_err().code, Code::PayloadTooLarge);
    }

    #[test]
    fn json_is_required_by_its_essence_and_an_absent_type_passes() {
        for good in [
            None,
            Some("application/json"),
            Some("Application/JSON; charset=utf-8"),
            Some("application/json ;x"),
        ] {
            assert!(require_json(good).is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "text/plain",
            "application/jsonx",
            "application/problem+json",
            "application/x-www-form-urlencoded",
        ] {
            assert_eq!(
                require_json(Some(bad)).unwrap_err().code,
                Code::UnsupportedMediaType,
                "{bad}"
            );
        }
    }
}
