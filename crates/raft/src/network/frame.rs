//! Frames: a length, a kind, a request id and a body.
//!
//! ```text
//! length of what follows (u32, big endian) | kind (u8) | request id (u64, big endian) | body (MessagePack)
//! ```

use serde::{Serialize, de::DeserializeOwned};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Largest frame between members: a full batch of entries (4 MiB) plus one entry of the largest size (4 MiB), doubled for
/// what encoding adds. Smaller would stop replication of large commands; larger lets a confused peer take more memory.
pub(crate) const MAX_FRAME: u32 = 16 << 20;
/// Largest frame before the other side has shown a member's certificate.
pub(crate) const MAX_STRANGER_FRAME: u32 = 64 << 10;

const HEADER: usize = 9;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The first frame of whoever connects.
    Hello,
    /// The answer to it.
    Welcome,
    /// The other answer to it; the connection ends.
    Refused,
    /// Asks something.
    Request,
    /// Answers the request with the same id.
    Response,
    /// Asks for a sign of life.
    Ping,
    /// Gives one.
    Pong,
}

impl Kind {
    const ALL: [Self; 7] =
        [Self::Hello, Self::Welcome, Self::Refused, Self::Request, Self::Response, Self::Ping, Self::Pong];

    fn read(byte: u8) -> io::Result<Self> {
        let unknown = || io::Error::new(io::ErrorKind::InvalidData, format!("frame of unknown kind {byte}"));
        Self::ALL.get(usize::from(byte)).copied().ok_or_else(unknown)
    }
}

/// One frame.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) id: u64,
    pub(crate) body: Vec<u8>,
}

impl Frame {
    /// A frame with this body.
    pub(crate) fn new<T: Serialize>(kind: Kind, id: u64, body: &T) -> io::Result<Self> {
        let body = rmp_serde::to_vec_named(body).map_err(io::Error::other)?;
        if body.len() + HEADER > MAX_FRAME as usize {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a message of {} bytes is too large; at most {MAX_FRAME} fit a frame", body.len()),
            ));
        }
        Ok(Self { kind, id, body })
    }

    /// A frame without a body.
    pub(crate) fn empty(kind: Kind) -> Self {
        Self { kind, id: 0, body: Vec::new() }
    }

    /// The body's value.
    pub(crate) fn value<T: DeserializeOwned>(&self) -> io::Result<T> {
        rmp_serde::from_slice(&self.body).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Writes the frame; the caller flushes.
    pub(crate) async fn write(&self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let length = u32::try_from(self.body.len() + HEADER).map_err(io::Error::other)?;
        let mut header = [0; HEADER + 4];
        header[..4].copy_from_slice(&length.to_be_bytes());
        header[4] = self.kind as u8;
        header[5..].copy_from_slice(&self.id.to_be_bytes());
        stream.write_all(&header).await?;
        stream.write_all(&self.body).await
    }

    /// Reads a frame of at most `most` bytes.
    pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin), most: u32) -> io::Result<Self> {
        let length = stream.read_u32().await?;
        if length > most || (length as usize) < HEADER {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("frame of {length} bytes; at most {most} are read"),
            ));
        }
        let kind = Kind::read(stream.read_u8().await?)?;
        let id = stream.read_u64().await?;
        let mut body = vec![0; length as usize - HEADER];
        stream.read_exact(&mut body).await?;
        Ok(Self { kind, id, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_read_back_and_large_or_short_ones_are_refused() {
        let frame = Frame::new(Kind::Request, 7, &"hello").unwrap();
        let mut bytes = Vec::new();
        frame.write(&mut bytes).await.unwrap();
        let read = Frame::read(&mut bytes.as_slice(), MAX_FRAME).await.unwrap();
        assert_eq!((read.kind, read.id, read.value::<String>().unwrap()), (Kind::Request, 7, "hello".to_owned()));
        assert!(Frame::read(&mut bytes.as_slice(), 10).await.is_err(), "larger than allowed");
        assert!(Frame::read(&mut &[0, 0, 0, 1, 0][..], MAX_FRAME).await.is_err(), "shorter than a header");
        assert!(
            Frame::read(&mut &[0, 0, 0, 9, 99, 0, 0, 0, 0, 0, 0, 0, 0][..], MAX_FRAME).await.is_err(),
            "unknown kind"
        );
        assert!(Frame::new(Kind::Request, 1, &vec![0u8; MAX_FRAME as usize]).is_err());
    }
}
