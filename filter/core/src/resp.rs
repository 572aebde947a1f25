//! From a socket's bytes to complete RESP frames, within stated limits.
//!
//! `redis-protocol` decodes; it recurses into nested aggregates and starts over whenever more bytes arrive. So
//! [`Reader`] first finds the end of a frame with a scanner that keeps its place, does not recurse, and refuses what
//! no Sentinel sends. Only a complete, shallow, bounded frame reaches the decoder.
//!
//! **It reaches it as RESP2**: the decoder's maps of RESP3 have no order, and of a name that comes twice it keeps either value,
//! a different one every time. What else RESP3 adds means nothing here, and its decoder would be a twelfth of the module. A
//! push keeps what sets it apart: [`Message::Push`].
//!
//! ```text
//! frame     = line                 ; + - :    as it is
//!           / line                 ; , ( #    a double, a big number, a boolean: as text, +
//!           / line                 ; _        null: $-1
//!           / length CRLF payload  ; $        length bytes and CRLF, or none for -1
//!           / count CRLF *frame    ; *        none for -1, which is null
//!           / count CRLF *frame    ; ~ > %    as *, and twice as many for %
//! ```

use core::fmt;
use redis_protocol::resp2::{decode, types::OwnedFrame};
use std::borrow::Cow;

/// A decoded frame, as `redis-protocol` represents it.
pub type Frame = OwnedFrame;

/// What a server says at a time.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// The answer to the oldest command that has none yet.
    Reply(Frame),
    /// Answers nothing: an event.
    Push(Vec<Frame>),
}

/// Most bytes of one frame. `SENTINEL SENTINELS` of 100 Sentinels takes about 80 KB.
pub const MAX_FRAME_BYTES: usize = 512 * 1024;
/// Most elements of one frame, all levels counted.
pub const MAX_ELEMENTS: usize = 16_384;
/// Deepest nesting. Sentinel's deepest reply, a list of maps, needs 2.
pub const MAX_DEPTH: usize = 6;
/// Longest line: a type byte and a simple string, an error, or a number.
const MAX_LINE_BYTES: usize = 16 * 1024;

/// Why a byte stream is not RESP that a Sentinel would send. The connection cannot be trusted any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RespError {
    /// More than [`MAX_FRAME_BYTES`] in one frame, or a line of more than 16 KiB.
    TooLong,
    /// More than [`MAX_ELEMENTS`].
    TooManyElements,
    /// Deeper than [`MAX_DEPTH`].
    TooDeep,
    /// Not RESP.
    Malformed,
}

impl fmt::Display for RespError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "a reply is longer than 512 KiB",
            Self::TooManyElements => "a reply has more than 16384 elements",
            Self::TooDeep => "a reply is nested deeper than 6 levels",
            Self::Malformed => "the bytes are not RESP",
        })
    }
}

impl core::error::Error for RespError {}

/// Collects the bytes of one connection and cuts them into frames.
///
/// Memory: at most [`MAX_FRAME_BYTES`] plus the largest slice handed to [`Reader::push`].
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
    /// Where the next frame begins: what lies before was handed out.
    start: usize,
    scan: Scan,
}

impl Reader {
    /// Adds bytes as they come.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete frame, `None` if more bytes are needed.
    ///
    /// # Errors
    /// [`RespError`]; the reader is of no use afterwards.
    pub fn next_message(&mut self) -> Result<Option<Message>, RespError> {
        let rest = self.buffer.get(self.start..).unwrap_or_default();
        let Some(end) = self.scan.find_end(rest)? else {
            if rest.len() > MAX_FRAME_BYTES {
                return Err(RespError::TooLong);
            }
            self.release();
            return Ok(None);
        };
        if end > MAX_FRAME_BYTES {
            return Err(RespError::TooLong);
        }
        let frame = rest.get(..end).ok_or(RespError::Malformed)?;
        let plain = core::mem::take(&mut self.scan).translate(frame);
        let message = match (frame.first(), decode(&plain)?) {
            (Some(b'>'), Frame::Array(data)) => Message::Push(data),
            (_, frame) => Message::Reply(frame),
        };
        self.start = self.start.saturating_add(end);
        Ok(Some(message))
    }

    /// Forgets what was handed out: once per batch of frames, not once per frame.
    fn release(&mut self) {
        if self.start == self.buffer.len() {
            // A conversation is quiet most of its life: give a large reply's memory back.
            self.buffer = Vec::new();
        } else {
            self.buffer.drain(..self.start);
        }
        self.start = 0;
    }
}

fn decode(bytes: &[u8]) -> Result<Frame, RespError> {
    match decode::decode(bytes) {
        Ok(Some((frame, used))) if used == bytes.len() => Ok(frame),
        _ => Err(RespError::Malformed),
    }
}

/// Where the scanner stands inside an unfinished frame.
#[derive(Debug, Default)]
struct Scan {
    position: usize,
    /// Elements still expected on each open level.
    open: Vec<usize>,
    elements: usize,
    /// What RESP2 writes otherwise: from where to where, and how.
    unlike: Vec<(usize, usize, Plain)>,
}

/// What RESP2 has in the place of a type of RESP3.
#[derive(Debug)]
enum Plain {
    /// In the place of the type's byte.
    Text,
    /// In the place of the line.
    Null,
    /// In the place of the header: of so many elements.
    Array(usize),
}

impl Scan {
    fn find_end(&mut self, bytes: &[u8]) -> Result<Option<usize>, RespError> {
        loop {
            let Some(rest) = bytes.get(self.position..) else {
                return Ok(None);
            };
            let Some(line_len) = line_length(rest)? else {
                return Ok(None);
            };
            let kind = rest.first().copied().ok_or(RespError::Malformed)?;
            let text = rest.get(1..line_len).ok_or(RespError::Malformed)?;
            let mut next = self.position.saturating_add(line_len).saturating_add(2);
            let mut children = 0;
            match kind {
                b'+' | b'-' | b':' => {}
                b',' | b'(' | b'#' => {
                    let after = self.position.saturating_add(1);
                    self.unlike.push((self.position, after, Plain::Text));
                }
                b'_' if text.is_empty() => {
                    self.unlike.push((self.position, next, Plain::Null));
                }
                b'$' => {
                    if let Some(length) = length(text, MAX_FRAME_BYTES, RespError::TooLong)? {
                        next = next.saturating_add(length).saturating_add(2);
                        if next > bytes.len() {
                            return if next > MAX_FRAME_BYTES {
                                Err(RespError::TooLong)
                            } else {
                                Ok(None)
                            };
                        }
                    }
                }
                b'*' => {
                    children = length(text, MAX_ELEMENTS, RespError::TooManyElements)?.unwrap_or(0)
                }
                b'%' | b'~' | b'>' => {
                    let count = length(text, MAX_ELEMENTS, RespError::TooManyElements)?
                        .ok_or(RespError::Malformed)?;
                    children = count.saturating_mul(if kind == b'%' { 2 } else { 1 });
                    self.unlike
                        .push((self.position, next, Plain::Array(children)));
                }
                // Attributes (|), streamed types (?), errors and texts of a form (! =) never come from a Sentinel.
                _ => return Err(RespError::Malformed),
            }
            self.elements = self.elements.saturating_add(1).saturating_add(children);
            if self.elements > MAX_ELEMENTS {
                return Err(RespError::TooManyElements);
            }
            self.position = next;
            if children > 0 {
                if self.open.len() >= MAX_DEPTH {
                    return Err(RespError::TooDeep);
                }
                self.open.push(children);
                continue;
            }
            if self.close_element() {
                return Ok(Some(self.position));
            }
        }
    }

    /// The frame as RESP2 has it.
    fn translate(self, frame: &[u8]) -> Cow<'_, [u8]> {
        if self.unlike.is_empty() {
            return Cow::Borrowed(frame);
        }
        let (mut plain, mut from) = (Vec::with_capacity(frame.len()), 0);
        for (start, end, instead) in self.unlike {
            plain.extend_from_slice(frame.get(from..start).unwrap_or_default());
            match instead {
                Plain::Text => plain.push(b'+'),
                Plain::Null => plain.extend_from_slice(b"$-1\r\n"),
                Plain::Array(count) => plain.extend_from_slice(format!("*{count}\r\n").as_bytes()),
            }
            from = end;
        }
        plain.extend_from_slice(frame.get(from..).unwrap_or_default());
        Cow::Owned(plain)
    }

    /// Counts one finished element off the open levels; true when the outermost is complete.
    fn close_element(&mut self) -> bool {
        while let Some(remaining) = self.open.last_mut() {
            *remaining = remaining.saturating_sub(1);
            if *remaining > 0 {
                return false;
            }
            self.open.pop();
        }
        true
    }
}

/// Bytes before the next CRLF; `None` while it has not arrived.
fn line_length(bytes: &[u8]) -> Result<Option<usize>, RespError> {
    let window = bytes
        .get(..bytes.len().min(MAX_LINE_BYTES))
        .unwrap_or(bytes);
    match window.windows(2).position(|pair| pair == b"\r\n") {
        Some(0) => Err(RespError::Malformed),
        Some(length) => Ok(Some(length)),
        None if bytes.len() >= MAX_LINE_BYTES => Err(RespError::TooLong),
        None => Ok(None),
    }
}

/// A length or count; `None` for RESP2's -1.
fn length(text: &[u8], limit: usize, beyond: RespError) -> Result<Option<usize>, RespError> {
    let text = core::str::from_utf8(text).map_err(|_| RespError::Malformed)?;
    match text.parse::<i64>().map_err(|_| RespError::Malformed)? {
        -1 => Ok(None),
        number => {
            let number = usize::try_from(number).map_err(|_| RespError::Malformed)?;
            if number > limit {
                Err(beyond)
            } else {
                Ok(Some(number))
            }
        }
    }
}

/// Appends one command as an array of bulk strings: how every Redis client speaks.
pub fn write_command(out: &mut Vec<u8>, words: &[&str]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_all(chunks: &[&[u8]]) -> Result<Vec<Message>, RespError> {
        let mut reader = Reader::default();
        let mut frames = Vec::new();
        for chunk in chunks {
            reader.push(chunk);
            while let Some(frame) = reader.next_message()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    #[test]
    fn frames_of_both_protocols() {
        let wire = b"+OK\r\n*2\r\n$9\r\n127.0.0.1\r\n$4\r\n7001\r\n*-1\r\n$-1\r\n_\r\n-ERR no\r\n:5\r\n%1\r\n+a\r\n:1\r\n>3\r\n+message\r\n$1\r\nc\r\n$0\r\n\r\n*0\r\n";
        let frames = read_all(&[wire]).unwrap();
        assert_eq!(frames.len(), 10);
        assert!((2..5).all(|at| frames[at] == Message::Reply(Frame::Null)));
        assert!(matches!(&frames[8], Message::Push(data) if data.len() == 3));
    }

    #[test]
    fn what_only_resp3_has_is_read_as_resp2() {
        let alike = |resp3: &str, resp2: &str| {
            let (resp3, resp2) = (read_all(&[resp3.as_bytes()]), read_all(&[resp2.as_bytes()]));
            assert_eq!(resp3, resp2);
            assert!(resp3.is_ok_and(|messages| messages.len() == 1));
        };
        alike(
            "*3\r\n,1.5\r\n(123\r\n#t\r\n",
            "*3\r\n+1.5\r\n+123\r\n+t\r\n",
        );
        alike("%1\r\n_\r\n~1\r\n,nan\r\n", "*2\r\n$-1\r\n*1\r\n+nan\r\n");
        alike("*2\r\n>1\r\n+a\r\n_\r\n", "*2\r\n*1\r\n+a\r\n*-1\r\n");
        for strange in [
            "=5\r\ntxt:a\r\n",
            "!1\r\na\r\n",
            "|0\r\n",
            "$?\r\n",
            "_x\r\n",
            ">-1\r\n",
            ":x\r\n",
        ] {
            assert_eq!(
                read_all(&[strange.as_bytes()]),
                Err(RespError::Malformed),
                "{strange}"
            );
        }
    }

    /// In the order in which they came, also what came twice and what is nested.
    #[test]
    fn maps_and_sets_keep_their_order() {
        let pairs = ":1\r\n:2\r\n".repeat(6);
        let map = format!("*2\r\n%6\r\n{pairs}~3\r\n+b\r\n+a\r\n+b\r\n");
        let array = format!("*2\r\n*12\r\n{pairs}*3\r\n+b\r\n+a\r\n+b\r\n");
        assert_eq!(read_all(&[map.as_bytes()]), read_all(&[array.as_bytes()]));
        assert_eq!(read_all(&[b"%-1\r\n"]), Err(RespError::Malformed));
    }

    #[test]
    fn hostile_shapes_end_early() {
        assert_eq!(
            read_all(&[&b"*1\r\n".repeat(4000)]),
            Err(RespError::TooDeep)
        );
        assert_eq!(
            read_all(&[b"*99999999\r\n"]),
            Err(RespError::TooManyElements)
        );
        assert_eq!(read_all(&[b"$999999999\r\n"]), Err(RespError::TooLong));
        assert_eq!(read_all(&[b"$-2\r\n"]), Err(RespError::Malformed));
        assert_eq!(
            read_all(&[&[b'+'; MAX_LINE_BYTES]]),
            Err(RespError::TooLong)
        );
        assert_eq!(
            read_all(&[b"HTTP/1.1 400 Bad Request\r\n"]),
            Err(RespError::Malformed)
        );
        assert_eq!(read_all(&[b"\r\n"]), Err(RespError::Malformed));
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_frames(cuts in prop::collection::vec(0usize..200, 0..20)) {
            let wire: &[u8] = b"*3\r\n%1\r\n$2\r\nip\r\n$9\r\n127.0.0.1\r\n:7\r\n_\r\n>2\r\n+x\r\n$3\r\na\r\n\r\n-ERR x\r\n";
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % wire.len()).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for cut in cuts { chunks.push(&wire[from..cut]); from = cut; }
            chunks.push(&wire[from..]);
            prop_assert_eq!(read_all(&chunks), read_all(&[wire]));
        }

        #[test]
        fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = read_all(&[&bytes]);
        }

        #[test]
        fn no_resp_like_input_panics(text in "([*$+:%>~_,#(-][0-9-]{0,3}\r\n){0,40}") {
            let _ = read_all(&[text.as_bytes()]);
        }
    }
}
