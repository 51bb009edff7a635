//! Connections that can be cut while an answer is on its way.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use futures::stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// How long the first half of a body has to leave before the connection is cut.
const BEFORE_THE_CUT: Duration = Duration::from_millis(5);

const OPEN: u8 = 0;
const CLOSED: u8 = 1;
const RESET: u8 = 2;

/// Cuts one connection.
#[derive(Debug, Clone)]
pub(crate) struct Scissors(Arc<AtomicU8>);

impl Scissors {
    /// Ends the connection as a server does that stops.
    pub(super) fn close(&self) {
        self.0.store(CLOSED, Ordering::Relaxed);
    }

    /// Ends the connection as a server does that dies.
    pub(super) fn reset(&self) {
        self.0.store(RESET, Ordering::Relaxed);
    }

    fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::Relaxed) == OPEN { Ok(()) } else { Err(ErrorKind::ConnectionReset.into()) }
    }
}

impl Connected<IncomingStream<'_, Cuttable>> for Scissors {
    fn connect_info(connection: IncomingStream<'_, Cuttable>) -> Self {
        connection.io().scissors.clone()
    }
}

/// Listens for connections that can be cut.
pub(crate) struct Cuttable(pub(crate) TcpListener);

impl Listener for Cuttable {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // The listener's own, which waits where there are too many open files.
        let (stream, address) = <TcpListener as Listener>::accept(&mut self.0).await;
        (Connection { stream, scissors: Scissors(Arc::new(AtomicU8::new(OPEN))) }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A connection that can be cut.
pub(crate) struct Connection {
    stream: TcpStream,
    scissors: Scissors,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Without lingering, what is dropped is reset.
        if self.scissors.0.load(Ordering::Relaxed) == RESET
            && let Err(error) = self.stream.set_zero_linger()
        {
            tracing::warn!(%error, "a connection is closed instead of reset");
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.scissors.check()?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.scissors.check()?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A body whose first part comes, and after which the connection is reset.
pub(super) fn reset_after(first: Bytes, scissors: Scissors) -> Body {
    Body::from_stream(stream::unfold((Some(first), scissors), |(first, scissors)| async move {
        if let Some(first) = first {
            return Some((Ok(first), (None, scissors)));
        }
        tokio::time::sleep(BEFORE_THE_CUT).await;
        scissors.reset();
        Some((Err(io::Error::from(ErrorKind::ConnectionReset)), (None, scissors)))
    }))
}

/// A body whose first part comes, and the rest of it after a pause.
pub(super) fn stalled_after(first: Bytes, rest: Bytes, pause: Duration) -> Body {
    Body::from_stream(stream::unfold((Some(first), Some(rest)), move |parts| async move {
        match parts {
            (Some(first), rest) => Some((Ok::<_, io::Error>(first), (None, rest))),
            (None, Some(rest)) => {
                tokio::time::sleep(pause).await;
                Some((Ok(rest), (None, None)))
            }
            (None, None) => None,
        }
    }))
}
