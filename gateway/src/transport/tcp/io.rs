//! What HTTP/2 runs on: TLS on a socket, each watched for what HTTP/2 does not tell of them.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsStream;

use crate::transport::ConnectError;

/// What one read may bring. TLS asks for 4 KiB at a time, and a call of the system costs more than a copy.
const READ: usize = 64 << 10;

/// A TCP connection that counts what is heard.
#[derive(Debug)]
pub(super) struct Socket {
    tcp: TcpStream,
    heard: Arc<AtomicU64>,
    /// What has been read, from `next` to `end`. A link has two of them.
    buffer: Box<[u8]>,
    next: usize,
    end: usize,
}

impl Socket {
    pub(super) fn new(tcp: TcpStream) -> Self {
        // Without it a connection works all the same.
        let _ = tcp.set_nodelay(true);
        Self { tcp, heard: Arc::default(), buffer: vec![0; READ].into(), next: 0, end: 0 }
    }

    /// How often something has come.
    pub(super) fn heard(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.heard)
    }

    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut read = ReadBuf::new(&mut self.buffer);
        ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut read))?;
        (self.next, self.end) = (0, read.filled().len());
        if self.end > 0 {
            self.heard.fetch_add(1, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.next == this.end {
            ready!(this.fill(cx))?;
        }
        let count = to.remaining().min(this.end - this.next);
        to.put_slice(&this.buffer[this.next..this.next + count]);
        this.next += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}

/// What a handshake or a connection was lost by.
pub(super) fn lost(error: &io::Error) -> ConnectError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::AlertReceived(_)) => {
            ConnectError::Refused(format!("aborted by peer: {error}"))
        }
        Some(_) => ConnectError::CertificateInvalid(error.to_string()),
        None => ConnectError::Unreachable(error.to_string()),
    }
}

/// TLS whose handshake is done. HTTP/2 hands on only the text of an error: what it was is kept here.
#[derive(Debug)]
pub(crate) struct Secured {
    tls: TlsStream<Socket>,
    lost: Arc<OnceLock<ConnectError>>,
}

impl Secured {
    pub(super) fn new(tls: impl Into<TlsStream<Socket>>) -> Self {
        Self { tls: tls.into(), lost: Arc::default() }
    }

    pub(super) fn protocol(&self) -> Option<&[u8]> {
        self.tls.get_ref().1.alpn_protocol()
    }

    /// What the peer has shown.
    pub(super) fn chain(&self) -> Vec<CertificateDer<'static>> {
        let shown = self.tls.get_ref().1.peer_certificates().unwrap_or_default();
        shown.iter().map(|certificate| certificate.clone().into_owned()).collect()
    }

    pub(super) fn remote_address(&self) -> io::Result<SocketAddr> {
        self.tls.get_ref().0.tcp.peer_addr()
    }

    pub(super) fn heard(&self) -> Arc<AtomicU64> {
        self.tls.get_ref().0.heard()
    }

    /// Where it is told by what this was lost.
    pub(super) fn lost(&self) -> Arc<OnceLock<ConnectError>> {
        Arc::clone(&self.lost)
    }

    fn noted<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &result {
            // The first is the cause.
            let _ = self.lost.set(lost(error));
        }
        result
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.tls).poll_read(cx, to);
        this.noted(result)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.tls).poll_write(cx, bytes);
        this.noted(result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.tls).poll_write_vectored(cx, slices);
        this.noted(result)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.tls).poll_flush(cx);
        this.noted(result)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tls).poll_shutdown(cx)
    }
}
