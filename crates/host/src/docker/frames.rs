//! Docker's stream format: frames of eight bytes of header and a payload; or plain bytes from a terminal.
//!
//! Payload is passed on as it comes: a frame is never held whole.

use bytes::{Buf, Bytes};

/// Which of a process's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    Stdout,
    Stderr,
}

/// Cuts a byte stream into pieces of output.
#[derive(Debug)]
pub(crate) struct Frames {
    plain: bool,
    header: [u8; 8],
    filled: usize,
    left: usize,
}

/// Bytes that are no frame.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("Docker's stream is not framed as expected (stream type {0})")]
pub(crate) struct BadFrame(u8);

impl Frames {
    /// `plain` for a terminal.
    pub(crate) const fn new(plain: bool) -> Self {
        Self { plain, header: [0; 8], filled: 0, left: 0 }
    }

    /// Takes the next piece off the input, or `None` when all of it is used.
    pub(crate) fn next(&mut self, input: &mut Bytes) -> Result<Option<(Channel, Bytes)>, BadFrame> {
        if self.plain {
            return Ok((!input.is_empty()).then(|| (Channel::Stdout, std::mem::take(input))));
        }
        loop {
            if self.left > 0 {
                if input.is_empty() {
                    return Ok(None);
                }
                let piece = input.split_to(self.left.min(input.len()));
                self.left -= piece.len();
                let channel = if self.header[0] == 2 { Channel::Stderr } else { Channel::Stdout };
                return Ok(Some((channel, piece)));
            }
            let take = (8 - self.filled).min(input.len());
            self.header[self.filled..self.filled + take].copy_from_slice(&input[..take]);
            input.advance(take);
            self.filled += take;
            if self.filled < 8 {
                return Ok(None);
            }
            self.filled = 0;
            let [kind, _, _, _, a, b, c, d] = self.header;
            if kind > 2 {
                return Err(BadFrame(kind));
            }
            self.left = u32::from_be_bytes([a, b, c, d]) as usize;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(frames: &mut Frames, pieces: &[&[u8]]) -> Vec<(Channel, Vec<u8>)> {
        let mut seen: Vec<(Channel, Vec<u8>)> = Vec::new();
        for piece in pieces {
            let mut input = Bytes::copy_from_slice(piece);
            while let Some((channel, data)) = frames.next(&mut input).expect("frames") {
                match seen.last_mut() {
                    Some((last, bytes)) if *last == channel => bytes.extend_from_slice(&data),
                    _ => seen.push((channel, data.to_vec())),
                }
            }
        }
        seen
    }

    #[test]
    fn frames_are_read_however_they_are_cut() {
        let whole =
            [b"\x01\0\0\0\0\0\0\x05he\0lo".as_slice(), b"\x02\0\0\0\0\0\0\x00", b"\x02\0\0\0\0\0\0\x02!\xff"].concat();
        let expected = vec![(Channel::Stdout, b"he\0lo".to_vec()), (Channel::Stderr, b"!\xff".to_vec())];
        assert_eq!(read(&mut Frames::new(false), &[&whole]), expected);
        for cut in 1..whole.len() {
            assert_eq!(read(&mut Frames::new(false), &[&whole[..cut], &whole[cut..]]), expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_terminal_may_say_anything() {
        assert_eq!(read(&mut Frames::new(true), &[b"\x01\x02"]), [(Channel::Stdout, b"\x01\x02".to_vec())]);
        let mut bad = Bytes::from_static(b"\x09\0\0\0\0\0\0\x01x");
        assert_eq!(Frames::new(false).next(&mut bad), Err(BadFrame(9)));
    }
}
