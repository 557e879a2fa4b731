//! The life of one connection: a request, its answer, and the next.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::body::{BodySize, BoxBody, MessageBody};
use actix_http::error::{ParseError, PayloadError};
use actix_http::h1::{Codec, Message, MessageType};
use actix_http::{ConnectionType, HttpMessage, Request, Response, ServiceConfig, Version};
use actix_service::Service;
use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_LENGTH;
use bytes::Bytes;
use futures_util::Stream;
use rawdrive_tenancy_core::Env;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::codec::Encoder;

use super::framed_stream::{FramedStream, Incoming};
use super::limits::Limits;
use super::seats::Seat;
use crate::web::body::{DRAIN_BYTES, DRAIN_TIME, Drained, drain};
use crate::web::{Code, DrainedByServer, Problem, RequestId, seal};

/// How much of an answer is gathered before it is sent.
const SEND_BYTES: usize = 64 * 1024;
/// How long a head waits for the first piece of its body, so that both leave together.
const TOGETHER: Duration = Duration::from_millis(20);
/// How long a closed connection still takes what its client sends, so that the answer is read and not reset.
const LINGER: Duration = Duration::from_secs(2);

/// What the connections of one worker share.
pub(super) struct Shared {
    pub(super) config: ServiceConfig,
    pub(super) limits: Rc<Limits>,
    pub(super) env: Env,
    pub(super) stop: watch::Receiver<bool>,
}

/// Answers the requests of one connection, until it ends or has to give way.
pub(super) async fn serve<S, B>(
    stream: TcpStream,
    peer: SocketAddr,
    seat: Seat,
    service: &S,
    shared: &Shared,
) where
    S: Service<Request>,
    S::Response: Into<Response<B>>,
    S::Error: Into<actix_web::Error>,
    B: MessageBody + 'static,
{
    let evicted = seat.evicted();
    let wire = FramedStream::new(
        stream,
        shared.config.clone(),
        shared.stop.clone(),
        seat,
        Rc::clone(&shared.limits),
    );
    let wire = Rc::new(RefCell::new(wire));
    let connection = Connection {
        wire: Rc::clone(&wire),
        peer,
        service,
        shared,
        body: PhantomData,
    };
    tokio::select! {
        // What goes wrong is the client's end of the connection: there is nobody left to tell.
        _ = connection.run() => {}
        () = evicted => wire.borrow().give_up(),
    }
}

/// Tells a client for whom there is no room.
pub(super) async fn refuse(stream: TcpStream, seat: Seat, shared: &Shared) {
    let wire = FramedStream::new(
        stream,
        shared.config.clone(),
        shared.stop.clone(),
        seat,
        Rc::clone(&shared.limits),
    );
    let wire = RefCell::new(wire);
    let problem = Problem::new(
        Code::Overloaded,
        "More connections are open than the server takes on. Try again shortly.",
    )
    .retry_after(1);
    let _ = close_with(&wire, &problem, shared).await;
}

struct Connection<'a, S, B> {
    wire: Rc<RefCell<FramedStream>>,
    peer: SocketAddr,
    service: &'a S,
    shared: &'a Shared,
    body: PhantomData<fn() -> B>,
}

/// What follows an answer.
enum Then {
    Next,
    Close,
}

/// What the application left of a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// It was read to its end.
    Nothing,
    /// It is read behind the answer, which never waits for it.
    Drained,
    /// It is too large, or will not come: the connection ends with the answer.
    Abandoned,
}

impl<S, B> Connection<'_, S, B>
where
    S: Service<Request>,
    S::Response: Into<Response<B>>,
    S::Error: Into<actix_web::Error>,
    B: MessageBody + 'static,
{
    async fn run(self) -> io::Result<()> {
        let mut first = true;
        loop {
            match self.next_request(first).await? {
                Ok(Some(request)) => match self.answer(request).await? {
                    Then::Next => {}
                    Then::Close => return linger(&self.wire).await,
                },
                Ok(None) => return Ok(()),
                Err(problem) => return close_with(&self.wire, &problem, self.shared).await,
            }
            first = false;
            // A long pipeline takes turns with other connections.
            tokio::task::yield_now().await;
        }
    }

    /// The next request; nothing when the client sends none.
    async fn next_request(&self, first: bool) -> io::Result<Result<Option<Request>, Problem>> {
        let limits = &self.shared.limits;
        if self.wire.borrow().input.is_empty() {
            self.wire.borrow_mut().rest();
            let patience = if first { limits.head } else { limits.idle };
            let mut stop = self.shared.stop.clone();
            tokio::select! {
                // What has arrived before the end was asked for is answered.
                biased;
                read = timeout(patience, self.fill()) => match read {
                    Ok(Ok(1..)) => {}
                    Ok(Err(error)) => return Err(error),
                    // Closed, or silent for too long: nobody asked for anything.
                    Ok(Ok(0)) | Err(_) => return Ok(Ok(None)),
                },
                _ = stop.wait_for(|stopping| *stopping) => return Ok(Ok(None)),
            }
        }
        let deadline = Instant::now() + limits.head;
        loop {
            let decoded = self.wire.borrow_mut().decode_head();
            match decoded {
                Ok(Some(request)) => return Ok(Ok(Some(request))),
                Ok(None) => {}
                Err(error) => return Ok(Err(malformed(&error))),
            }
            if self.wire.borrow().ended() {
                return Ok(Err(Problem::malformed("The request's head breaks off.")));
            }
            self.wire.borrow().seat.waiting();
            match timeout_at(deadline, self.fill()).await {
                Ok(read) => read?,
                Err(_) => {
                    let detail = "The request's head did not arrive in time.";
                    return Ok(Err(Problem::new(Code::RequestTimeout, detail)));
                }
            };
        }
    }

    async fn fill(&self) -> io::Result<usize> {
        poll_fn(|cx| self.wire.borrow_mut().poll_fill(cx)).await
    }

    async fn answer(&self, mut request: Request) -> io::Result<Then> {
        let version = request.head().version;
        let is_upgrade = request.head().connection_type() == ConnectionType::Upgrade
            || self.wire.borrow().codec.message_type() == MessageType::Stream;
        request.head_mut().peer_addr = Some(self.peer);
        self.give_body(&mut request);
        self.wire.borrow().seat.working();
        let (mut response, body) = self.call(request).await?.into_parts();
        self.wire.borrow().seat.working();
        let size = body.size();
        let head = response.head_mut();
        // Chunks are known since HTTP/1.1. A body of no known length ends with the connection.
        if is_upgrade || version < Version::HTTP_11 {
            head.no_chunking(true);
        }
        let endless = size == BodySize::Stream
            && !head.chunked()
            && !head.headers().contains_key(CONTENT_LENGTH);
        let rest = self.rest_of_body(head.status);
        // Another protocol was asked for: this one is spoken once, and what follows is not understood.
        if is_upgrade || endless || rest == Rest::Abandoned || self.wire.borrow().is_stopping() {
            head.set_connection_type(ConnectionType::Close);
        }
        self.encode(Message::Item((response, size)))?;
        let keep = self.wire.borrow().codec.keep_alive();
        self.send(body).await?;
        Ok(if keep && self.read_rest(rest).await {
            Then::Next
        } else {
            Then::Close
        })
    }

    /// What is to become of what the application left of a body, now that its answer is known.
    fn rest_of_body(&self, status: StatusCode) -> Rest {
        let wire = self.wire.borrow();
        match wire.incoming {
            Incoming::Ended => Rest::Nothing,
            Incoming::Broken => Rest::Abandoned,
            // The answer is final: who waited for leave to send the body does not send it.
            Incoming::Open if wire.awaits_continue => Rest::Abandoned,
            // A body that was refused for its slowness would only go on holding the connection.
            Incoming::Open if status == StatusCode::REQUEST_TIMEOUT => Rest::Abandoned,
            Incoming::Open if wire.declared_bytes.is_some_and(|all| all > DRAIN_BYTES) => {
                Rest::Abandoned
            }
            Incoming::Open => Rest::Drained,
        }
    }

    /// Reads what was left of a body, behind its answer. Whether the next request can be found behind it.
    async fn read_rest(&self, rest: Rest) -> bool {
        match rest {
            Rest::Nothing => true,
            Rest::Abandoned => false,
            Rest::Drained => {
                let mut body = self.body();
                drain(&mut body, DRAIN_BYTES, DRAIN_TIME).await == Drained::Wholly
                    && self.wire.borrow().incoming == Incoming::Ended
            }
        }
    }

    fn body(&self) -> RequestBody {
        RequestBody {
            wire: Rc::downgrade(&self.wire),
            turn: self.wire.borrow().turn,
        }
    }

    fn give_body(&self, request: &mut Request) {
        if self.wire.borrow().incoming == Incoming::Ended {
            return;
        }
        *request.payload() = Payload::Stream {
            payload: Box::pin(self.body()),
        };
        request.extensions_mut().insert(DrainedByServer);
    }

    /// Has the application answer. A client whose connection breaks takes its request back.
    async fn call(&self, request: Request) -> io::Result<Response<BoxBody>> {
        if let Err(error) = poll_fn(|cx| self.service.poll_ready(cx)).await {
            return Ok(error.into().error_response().into());
        }
        let mut call = pin!(self.service.call(request));
        let answered = poll_fn(|cx| {
            if let Poll::Ready(answer) = call.as_mut().poll(cx) {
                return Poll::Ready(Ok(answer));
            }
            self.wire.borrow_mut().poll_gone(cx).map(Err)
        });
        Ok(match answered.await? {
            Ok(response) => response.into().map_into_boxed_body(),
            Err(error) => error.into().error_response().into(),
        })
    }

    fn encode(&self, message: Message<(Response<()>, BodySize)>) -> io::Result<()> {
        let wire = &mut *self.wire.borrow_mut();
        wire.codec.encode(message, &mut wire.output)
    }

    async fn send(&self, body: BoxBody) -> io::Result<()> {
        let mut body = pin!(body);
        let mut head_is_alone = true;
        loop {
            let at_once = poll_fn(|cx| Poll::Ready(body.as_mut().poll_next(cx))).await;
            let next = match at_once {
                Poll::Ready(next) => next,
                Poll::Pending => {
                    let next = poll_fn(|cx| body.as_mut().poll_next(cx));
                    if std::mem::take(&mut head_is_alone) {
                        match timeout(TOGETHER, next).await {
                            Ok(next) => next,
                            Err(_) => continue,
                        }
                    } else {
                        flush(&self.wire).await?;
                        next.await
                    }
                }
            };
            head_is_alone = false;
            match next {
                // The encoder takes an empty piece for the end.
                Some(Ok(piece)) if piece.is_empty() => {}
                Some(Ok(piece)) => {
                    self.encode(Message::Chunk(Some(piece)))?;
                    if self.wire.borrow().output.len() >= SEND_BYTES {
                        flush(&self.wire).await?;
                    }
                }
                Some(Err(error)) => {
                    // The head is gone: that the rest is missing is all that can be told.
                    tracing::error!(%error, "an answer broke off");
                    return Err(io::Error::other(error.to_string()));
                }
                None => {
                    self.encode(Message::Chunk(None))?;
                    return flush(&self.wire).await;
                }
            }
        }
    }
}

/// The body of one request, read from the socket as it is polled.
struct RequestBody {
    wire: Weak<RefCell<FramedStream>>,
    turn: u64,
}

impl Stream for RequestBody {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.wire.upgrade() {
            Some(wire) => wire.borrow_mut().poll_body(cx, self.turn),
            None => Poll::Ready(Some(Err(PayloadError::Incomplete(None)))),
        }
    }
}

fn malformed(error: &ParseError) -> Problem {
    match error {
        ParseError::TooLarge => Problem::new(
            Code::RequestHeadTooLarge,
            "The request's head is too large, or has too many fields.",
        ),
        ParseError::Version => {
            Problem::malformed("The version is none that is spoken here: HTTP/1.1 or HTTP/1.0.")
        }
        ParseError::Uri(_) => Problem::malformed("The request's target is malformed."),
        _ => Problem::malformed(
            "The request's head is malformed: its first line or a field cannot be read, Host is missing or there \
             twice, or its length is told in two ways.",
        ),
    }
}

/// Answers a request that could not be read, and closes.
async fn close_with(
    wire: &RefCell<FramedStream>,
    problem: &Problem,
    shared: &Shared,
) -> io::Result<()> {
    let id = RequestId::fresh(&shared.env);
    let mut response: Response<BoxBody> = problem.response().into();
    seal(response.headers_mut(), &id);
    response
        .head_mut()
        .set_connection_type(ConnectionType::Close);
    tracing::info!(
        request_id = id.as_str(),
        method = "none",
        route = "none",
        status = response.status().as_u16(),
        "request"
    );
    let (response, body) = response.into_parts();
    let bytes = body.try_into_bytes().unwrap_or_default();
    let size = BodySize::Sized(bytes.len() as u64);
    // The connection's own codec remembers the request before this one.
    let mut codec = Codec::new(shared.config.clone());
    {
        let output = &mut wire.borrow_mut().output;
        codec.encode(Message::Item((response, size)), output)?;
        codec.encode(Message::Chunk(Some(bytes)), output)?;
        codec.encode(Message::Chunk(None), output)?;
    }
    wire.borrow_mut().incoming = Incoming::Broken;
    linger(wire).await
}

async fn flush(wire: &RefCell<FramedStream>) -> io::Result<()> {
    poll_fn(|cx| wire.borrow_mut().poll_flush(cx)).await
}

/// Closes, and takes for a while what the client still sends.
async fn linger(wire: &RefCell<FramedStream>) -> io::Result<()> {
    flush(wire).await?;
    poll_fn(|cx| wire.borrow_mut().poll_shutdown(cx)).await?;
    let (read_all, no_more) = {
        let wire = wire.borrow();
        (
            wire.incoming == Incoming::Ended && wire.input.is_empty(),
            wire.ended(),
        )
    };
    if !(read_all || no_more) {
        wire.borrow().seat.waiting();
        let mut left = DRAIN_BYTES;
        let discarded = poll_fn(|cx| wire.borrow_mut().poll_discard(cx, &mut left));
        // Time is up all the same.
        let _ = timeout(LINGER, discarded).await;
    }
    Ok(())
}
