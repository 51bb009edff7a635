//! Connections that can be cut while a response is being sent.

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

/// The delay between sending the first part of a body and cutting the connection.
const CUT_DELAY: Duration = Duration::from_millis(5);

const OPEN: u8 = 0;
const CLOSED: u8 = 1;
const RESET: u8 = 2;

/// Cuts one connection. Clones cut the same one.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionCutter(Arc<AtomicU8>);

impl ConnectionCutter {
    /// Closes the connection, as a server that stops does.
    pub(super) fn close(&self) {
        self.0.store(CLOSED, Ordering::Relaxed);
    }

    /// Resets the connection, as a server that crashes does.
    pub(super) fn reset(&self) {
        self.0.store(RESET, Ordering::Relaxed);
    }

    fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::Relaxed) == OPEN { Ok(()) } else { Err(ErrorKind::ConnectionReset.into()) }
    }
}

impl Connected<IncomingStream<'_, CuttableListener>> for ConnectionCutter {
    fn connect_info(connection: IncomingStream<'_, CuttableListener>) -> Self {
        connection.io().cutter.clone()
    }
}

/// A listener whose connections can be cut.
pub(crate) struct CuttableListener(pub(crate) TcpListener);

impl Listener for CuttableListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // axum's implementation, which waits if there are too many open files.
        let (stream, address) = <TcpListener as Listener>::accept(&mut self.0).await;
        (Connection { stream, cutter: ConnectionCutter(Arc::new(AtomicU8::new(OPEN))) }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A connection that can be cut.
pub(crate) struct Connection {
    stream: TcpStream,
    cutter: ConnectionCutter,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // With a linger time of zero, dropping the stream resets the connection.
        if self.cutter.0.load(Ordering::Relaxed) == RESET
            && let Err(error) = self.stream.set_zero_linger()
        {
            tracing::warn!(%error, "cannot reset the connection; it is closed instead");
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.cutter.check()?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.cutter.check()?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Returns a body that sends its first part and then resets the connection.
pub(super) fn body_then_reset(first: Bytes, cutter: ConnectionCutter) -> Body {
    Body::from_stream(stream::unfold((Some(first), cutter), |(first, cutter)| async move {
        if let Some(first) = first {
            return Some((Ok(first), (None, cutter)));
        }
        tokio::time::sleep(CUT_DELAY).await;
        cutter.reset();
        Some((Err(io::Error::from(ErrorKind::ConnectionReset)), (None, cutter)))
    }))
}

/// Returns a body that sends its first part, and the rest after a delay.
pub(super) fn body_with_stall(first: Bytes, rest: Bytes, stall: Duration) -> Body {
    Body::from_stream(stream::unfold((Some(first), Some(rest)), move |parts| async move {
        match parts {
            (Some(first), rest) => Some((Ok::<_, io::Error>(first), (None, rest))),
            (None, Some(rest)) => {
                tokio::time::sleep(stall).await;
                Some((Ok(rest), (None, None)))
            }
            (None, None) => None,
        }
    }))
}
