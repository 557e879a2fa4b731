//! The socket of one connection with its buffers, its parser and its patience.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_http::error::{ParseError, PayloadError};
use actix_http::h1::{Codec, Message, MessageType};
use actix_http::{Request, ServiceConfig};
use actix_web::http::header::CONTENT_LENGTH;
use bytes::{Buf, Bytes, BytesMut};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::codec::Decoder;

use super::limits::Limits;
use super::seats::Seat;

/// The largest head of a request.
pub(super) const HEAD_BYTES: usize = 64 * 1024;
/// How much is read at a time.
const READ_BYTES: usize = 16 * 1024;
/// How much of later requests is read while one is answered.
const AHEAD_BYTES: usize = 64 * 1024;
/// How often a waiting connection looks whether the server has been asked to end.
const TICK: Duration = Duration::from_secs(1);

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The body of the request in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Incoming {
    /// It has none, or it was read to its end.
    Ended,
    /// There is more.
    Open,
    /// It broke off, or its framing is wrong: nothing behind it can be understood.
    Broken,
}

/// One message at a time passes through it: the parser does not see a request before the answer to the one before it
/// has been encoded, since the codec keeps what the encoder needs to know of the request that it decoded last.
pub(super) struct FramedStream {
    stream: TcpStream,
    pub(super) codec: Codec,
    pub(super) input: BytesMut,
    pub(super) output: BytesMut,
    pub(super) incoming: Incoming,
    /// Whether the client of the request in hand waits for leave to send its body (`Expect: 100-continue`).
    pub(super) awaits_continue: bool,
    /// The length of its body, where it was told.
    pub(super) declared_bytes: Option<u64>,
    /// Counts the requests, so that the body of an earlier one finds that its time is over.
    pub(super) turn: u64,
    end_of_input: bool,
    writing: Patience,
    reading: Patience,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) seat: Seat,
    limits: Rc<Limits>,
}

/// How long a client has kept the server waiting, in one direction.
struct Patience {
    blocked_since: Option<Instant>,
    /// Since when not one byte has moved; a window that ends meanwhile does not end it.
    still_since: Option<Instant>,
    /// Of the window under way.
    waited: Duration,
    moved_bytes: u64,
    tick: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    fn new() -> Self {
        Self {
            blocked_since: None,
            still_since: None,
            waited: Duration::ZERO,
            moved_bytes: 0,
            tick: None,
        }
    }

    /// Whether the client has kept below the pace since the window began.
    fn moved(&mut self, bytes: usize, window: Duration, least_bytes: u64) -> bool {
        if let Some(since) = self.blocked_since.take() {
            self.waited += since.elapsed();
        }
        if bytes > 0 {
            self.still_since = None;
        }
        // The window begins with the first wait: what the system took before says nothing of the client.
        if self.waited > Duration::ZERO {
            self.moved_bytes = self.moved_bytes.saturating_add(bytes as u64);
        }
        if self.waited < window {
            return true;
        }
        let kept = self.moved_bytes >= least_bytes;
        (self.waited, self.moved_bytes) = (Duration::ZERO, 0);
        kept
    }

    /// Registers the next look at the clock, and says how long the client has been waited for: in the window, and at
    /// a stretch.
    fn blocked(&mut self, cx: &mut Context<'_>) -> (Duration, Duration) {
        let since = *self.blocked_since.get_or_insert_with(Instant::now);
        let tick = self.tick.get_or_insert_with(|| Box::pin(sleep(TICK)));
        while tick.as_mut().poll(cx).is_ready() {
            tick.as_mut().reset(Instant::now() + TICK);
        }
        let still = *self.still_since.get_or_insert_with(Instant::now);
        (self.waited + since.elapsed(), still.elapsed())
    }
}

impl FramedStream {
    pub(super) fn new(
        stream: TcpStream,
        config: ServiceConfig,
        stop: watch::Receiver<bool>,
        seat: Seat,
        limits: Rc<Limits>,
    ) -> Self {
        Self {
            stream,
            codec: Codec::new(config),
            input: BytesMut::new(),
            output: BytesMut::new(),
            incoming: Incoming::Ended,
            awaits_continue: false,
            declared_bytes: None,
            turn: 0,
            end_of_input: false,
            writing: Patience::new(),
            reading: Patience::new(),
            stop,
            seat,
            limits,
        }
    }

    /// Waits for the next request, without the buffers that the last one needed.
    pub(super) fn rest(&mut self) {
        self.input = BytesMut::new();
        self.output = BytesMut::new();
        self.seat.waiting();
    }

    /// Has the system forget what the client did not take, rather than offer it for minutes more.
    pub(super) fn give_up(&self) {
        if !self.output.is_empty() {
            // Otherwise the system goes on by itself: nothing is lost.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Nothing more will come. What has come is still answered.
    pub(super) fn ended(&self) -> bool {
        self.end_of_input
    }

    /// The next request, if its head has arrived whole.
    pub(super) fn decode_head(&mut self) -> Result<Option<Request>, ParseError> {
        let request = match self.codec.decode(&mut self.input)? {
            Some(Message::Item(request)) => request,
            // The codec is between messages here.
            Some(Message::Chunk(_)) => return Err(ParseError::Incomplete),
            None if self.input.len() > HEAD_BYTES => return Err(ParseError::TooLarge),
            None => return Ok(None),
        };
        self.turn += 1;
        self.reading = Patience::new();
        self.incoming = match self.codec.message_type() {
            MessageType::Payload => Incoming::Open,
            // What would follow belongs to another protocol, which is not spoken here.
            MessageType::Stream | MessageType::None => Incoming::Ended,
        };
        self.awaits_continue = self.incoming == Incoming::Open && request.head().expect();
        let length = request.head().headers().get(CONTENT_LENGTH);
        self.declared_bytes = length.and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Some(request))
    }

    /// Reads what is there. Nothing read is the end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            // Reserved only now: a connection that waits holds no buffer.
            self.input.reserve(READ_BYTES);
            match self.stream.try_read_buf(&mut self.input) {
                Ok(0) => {
                    self.end_of_input = true;
                    return Poll::Ready(Ok(0));
                }
                Ok(read) => return Poll::Ready(Ok(read)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Ends with the client's connection; until then it reads ahead a little.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        // The body's reader sees for itself. A client that has said all may still wait for its answer.
        while self.incoming == Incoming::Ended
            && !self.end_of_input
            && self.input.len() < AHEAD_BYTES
        {
            if let Err(error) = ready!(self.poll_fill(cx)) {
                return Poll::Ready(error);
            }
        }
        Poll::Pending
    }

    /// The next piece of the body of request number `turn`.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        turn: u64,
    ) -> Poll<Option<Result<Bytes, PayloadError>>> {
        if turn != self.turn || self.incoming != Incoming::Open {
            return Poll::Ready(None);
        }
        loop {
            match self.codec.decode(&mut self.input) {
                Ok(Some(Message::Chunk(Some(chunk)))) => {
                    // It did not wait.
                    self.awaits_continue = false;
                    return Poll::Ready(Some(Ok(chunk)));
                }
                Ok(Some(Message::Chunk(None))) => {
                    self.incoming = Incoming::Ended;
                    return Poll::Ready(None);
                }
                Ok(None) => {}
                Ok(Some(Message::Item(_))) | Err(_) => {
                    return self.broken(PayloadError::EncodingCorrupted);
                }
            }
            if self.end_of_input {
                return self.broken(PayloadError::Incomplete(None));
            }
            // Asked for, and not a byte of it is here: now the client is told to go on.
            if std::mem::take(&mut self.awaits_continue) {
                self.output.extend_from_slice(CONTINUE);
            }
            if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
                return self.broken(PayloadError::Incomplete(Some(error)));
            }
            match self.poll_fill(cx) {
                Poll::Ready(Ok(_)) => {
                    self.reading.blocked_since = None;
                    self.reading.still_since = None;
                    self.seat.working();
                }
                Poll::Ready(Err(error)) => {
                    return self.broken(PayloadError::Incomplete(Some(error)));
                }
                Poll::Pending => {
                    self.seat.waiting();
                    // The route says how slow a body may be. A server that ends does not wait for one that stands still.
                    let (_, stretch) = self.reading.blocked(cx);
                    if self.is_stopping() && stretch >= self.limits.stalled_at_stop {
                        return self.broken(PayloadError::Io(io::ErrorKind::TimedOut.into()));
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    fn broken(&mut self, error: PayloadError) -> Poll<Option<Result<Bytes, PayloadError>>> {
        self.incoming = Incoming::Broken;
        Poll::Ready(Some(Err(error)))
    }

    /// Writes what has been encoded.
    ///
    /// # Errors
    /// The connection's, and `TimedOut` when the client takes less than the least pace.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let pace = self.limits.answer;
        while !self.output.is_empty() {
            ready!(self.poll_writable(cx))?;
            match self.stream.try_write(&self.output) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(written) => {
                    self.output.advance(written);
                    self.seat.working();
                    if !self.writing.moved(written, pace.window, pace.least_bytes) {
                        return Poll::Ready(Err(self.too_slow()));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(ready) = self.stream.poll_write_ready(cx) {
            return Poll::Ready(ready);
        }
        self.seat.waiting();
        let (in_window, stretch) = self.writing.blocked(cx);
        let pace = self.limits.answer;
        let too_slow =
            in_window >= pace.window && !self.writing.moved(0, pace.window, pace.least_bytes);
        // Whatever was taken before: nothing within a whole window is no pace.
        let stalled = stretch >= pace.window;
        let held_up = self.is_stopping() && stretch >= self.limits.stalled_at_stop;
        if stalled || too_slow || held_up {
            return Poll::Ready(Err(self.too_slow()));
        }
        self.writing.blocked_since.get_or_insert_with(Instant::now);
        Poll::Pending
    }

    fn too_slow(&self) -> io::Error {
        self.give_up();
        io::ErrorKind::TimedOut.into()
    }

    /// Says that nothing more will be written.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        use tokio::io::AsyncWrite;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    /// Reads and forgets so many bytes, or until the client closes.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>, left: &mut u64) -> Poll<()> {
        while *left > 0 {
            self.input.clear();
            match ready!(self.poll_fill(cx)) {
                Ok(read @ 1..) if !self.end_of_input => *left = left.saturating_sub(read as u64),
                _ => break,
            }
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[actix_web::test]
    async fn a_window_that_was_paced_does_not_hide_a_standstill() {
        let (window, least_bytes) = (Duration::from_millis(100), 16 * 1024);
        let mut cx = Context::from_waker(Waker::noop());
        let mut patience = Patience::new();
        patience.blocked(&mut cx);
        sleep(Duration::from_millis(30)).await;
        assert!(patience.moved(20_000, window, least_bytes));
        // From here on nothing moves. The window ends meanwhile, and was paced.
        patience.blocked(&mut cx);
        sleep(Duration::from_millis(90)).await;
        assert!(patience.moved(0, window, least_bytes));
        let (_, still) = patience.blocked(&mut cx);
        assert!(still >= Duration::from_millis(90), "{still:?}");
    }
}
