//! SFTP version 3 as bytes (draft-ietf-secsh-filexfer-02, with OpenSSH's extensions from its PROTOCOL file).
//!
//! Names are bytes here, since file names are: that is why this is not a library whose names are text. No I/O.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The version that every server speaks.
pub const VERSION: u32 = 3;

/// Packet types.
pub mod kind {
    pub const INIT: u8 = 1;
    pub const VERSION: u8 = 2;
    pub const OPEN: u8 = 3;
    pub const CLOSE: u8 = 4;
    pub const READ: u8 = 5;
    pub const WRITE: u8 = 6;
    pub const LSTAT: u8 = 7;
    pub const FSTAT: u8 = 8;
    pub const SETSTAT: u8 = 9;
    pub const FSETSTAT: u8 = 10;
    pub const OPENDIR: u8 = 11;
    pub const READDIR: u8 = 12;
    pub const REMOVE: u8 = 13;
    pub const MKDIR: u8 = 14;
    pub const REALPATH: u8 = 16;
    pub const STAT: u8 = 17;
    pub const RENAME: u8 = 18;
    pub const READLINK: u8 = 19;
    pub const SYMLINK: u8 = 20;
    pub const STATUS: u8 = 101;
    pub const HANDLE: u8 = 102;
    pub const DATA: u8 = 103;
    pub const NAME: u8 = 104;
    pub const ATTRS: u8 = 105;
    pub const EXTENDED: u8 = 200;
    pub const EXTENDED_REPLY: u8 = 201;
}

/// How a file is opened (6.3).
pub mod flag {
    pub const READ: u32 = 0x01;
    pub const WRITE: u32 = 0x02;
    pub const CREATE: u32 = 0x08;
    pub const TRUNCATE: u32 = 0x10;
}

/// Status codes (7).
pub mod status {
    pub const OK: u32 = 0;
    pub const EOF: u32 = 1;
    pub const NO_SUCH_FILE: u32 = 2;
    pub const PERMISSION_DENIED: u32 = 3;
    pub const OP_UNSUPPORTED: u32 = 8;
}

/// File attributes (5). What is absent is not known, or not to be changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attrs {
    pub size: Option<u64>,
    pub owner: Option<(u32, u32)>,
    /// With the file's type in the upper bits (POSIX `st_mode`).
    pub permissions: Option<u32>,
    /// Of access and modification, in seconds since 1970.
    pub times: Option<(u32, u32)>,
}

const ATTR_SIZE: u32 = 1;
const ATTR_OWNER: u32 = 2;
const ATTR_PERMISSIONS: u32 = 4;
const ATTR_TIMES: u32 = 8;
const ATTR_EXTENDED: u32 = 0x8000_0000;

/// What a server sent does not follow the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a packet ends too early or holds a wrong value")]
pub struct Malformed;

/// A request that is being written: its length is filled in at the end.
pub struct Frame(BytesMut);

impl Frame {
    /// A packet with a request id.
    pub fn request(kind: u8, id: u32) -> Self {
        let mut frame = Frame::bare(kind);
        frame.0.put_u32(id);
        frame
    }

    /// A packet without one: INIT.
    pub fn bare(kind: u8) -> Self {
        let mut bytes = BytesMut::with_capacity(128);
        bytes.put_u32(0);
        bytes.put_u8(kind);
        Frame(bytes)
    }

    pub fn u32(mut self, value: u32) -> Self {
        self.0.put_u32(value);
        self
    }

    pub fn u64(mut self, value: u64) -> Self {
        self.0.put_u64(value);
        self
    }

    /// A string: its length, then its bytes.
    pub fn string(mut self, bytes: &[u8]) -> Self {
        self.0.reserve(bytes.len() + 4);
        self.0.put_u32(bytes.len() as u32);
        self.0.put_slice(bytes);
        self
    }

    pub fn path(self, path: &Path) -> Self {
        self.string(path.as_os_str().as_bytes())
    }

    pub fn attrs(mut self, attrs: &Attrs) -> Self {
        let mut flags = 0;
        flags |= if attrs.size.is_some() { ATTR_SIZE } else { 0 };
        flags |= if attrs.owner.is_some() { ATTR_OWNER } else { 0 };
        flags |= if attrs.permissions.is_some() { ATTR_PERMISSIONS } else { 0 };
        flags |= if attrs.times.is_some() { ATTR_TIMES } else { 0 };
        self.0.put_u32(flags);
        if let Some(size) = attrs.size {
            self.0.put_u64(size);
        }
        if let Some((uid, gid)) = attrs.owner {
            self.0.put_u32(uid);
            self.0.put_u32(gid);
        }
        if let Some(permissions) = attrs.permissions {
            self.0.put_u32(permissions);
        }
        if let Some((access, modification)) = attrs.times {
            self.0.put_u32(access);
            self.0.put_u32(modification);
        }
        self
    }

    /// The packet as it goes on the wire.
    pub fn finish(mut self) -> Bytes {
        let length = (self.0.len() - 4) as u32;
        if let Some(head) = self.0.get_mut(..4) {
            head.copy_from_slice(&length.to_be_bytes());
        }
        self.0.freeze()
    }
}

/// What is left to read of a packet from the server, which may hold anything.
pub struct Body(pub Bytes);

impl Body {
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.0.try_get_u8().map_err(|_| Malformed)
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.0.try_get_u32().map_err(|_| Malformed)
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.0.try_get_u64().map_err(|_| Malformed)
    }

    /// A string, without a copy.
    pub fn string(&mut self) -> Result<Bytes, Malformed> {
        let length = self.u32()? as usize;
        if length > self.0.len() {
            return Err(Malformed);
        }
        Ok(self.0.split_to(length))
    }

    pub fn path(&mut self) -> Result<PathBuf, Malformed> {
        Ok(PathBuf::from(OsStr::from_bytes(&self.string()?)))
    }

    pub fn attrs(&mut self) -> Result<Attrs, Malformed> {
        let flags = self.u32()?;
        let has = |flag| flags & flag != 0;
        let mut attrs = Attrs::default();
        if has(ATTR_SIZE) {
            attrs.size = Some(self.u64()?);
        }
        if has(ATTR_OWNER) {
            attrs.owner = Some((self.u32()?, self.u32()?));
        }
        if has(ATTR_PERMISSIONS) {
            attrs.permissions = Some(self.u32()?);
        }
        if has(ATTR_TIMES) {
            attrs.times = Some((self.u32()?, self.u32()?));
        }
        if has(ATTR_EXTENDED) {
            for _ in 0..self.u32()? {
                self.string()?;
                self.string()?;
            }
        }
        Ok(attrs)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Cuts what arrives into packets. A packet that arrived in one piece is not copied.
#[derive(Default)]
pub struct Frames {
    /// The beginning of the next packet, with its length.
    begun: BytesMut,
    /// What follows it.
    rest: Bytes,
}

/// No server sends longer ones: OpenSSH's limit.
const MAX_PACKET: usize = 256 << 10;

impl Frames {
    /// Adds what arrived. Only to be called when [`Frames::next`] has nothing more.
    pub fn push(&mut self, data: Bytes) {
        self.rest = data;
    }

    /// The next whole packet, without its length.
    pub fn next(&mut self) -> Result<Option<Bytes>, Malformed> {
        if self.begun.is_empty()
            && let Some(length) = length_of(&self.rest)?
        {
            if self.rest.len() >= 4 + length {
                self.rest.advance(4);
                return Ok(Some(self.rest.split_to(length)));
            }
            self.begun.reserve(4 + length);
        }
        while !self.rest.is_empty() {
            let wanted = match length_of(&self.begun)? {
                Some(length) => 4 + length,
                None => 4,
            };
            let missing = wanted.saturating_sub(self.begun.len());
            self.begun.extend_from_slice(&self.rest.split_to(missing.min(self.rest.len())));
            if let Some(length) = length_of(&self.begun)?
                && self.begun.len() == 4 + length
            {
                let mut packet = self.begun.split().freeze();
                packet.advance(4);
                return Ok(Some(packet));
            }
        }
        Ok(None)
    }
}

/// The length that a packet announces, once that is there.
fn length_of(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let Some(head) = bytes.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*head) as usize;
    if (1..=MAX_PACKET).contains(&length) { Ok(Some(length)) } else { Err(Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attrs() -> Attrs {
        Attrs { size: Some(1 << 40), owner: Some((1, 2)), permissions: Some(0o100644), times: Some((3, 4)) }
    }

    #[test]
    fn a_packet_is_read_as_it_was_written() {
        for attrs in [attrs(), Attrs::default(), Attrs { permissions: Some(0o755), ..Attrs::default() }] {
            let path = Path::new(OsStr::from_bytes(b"/tmp/\xff\n'x"));
            let bytes = Frame::request(kind::OPEN, 7).path(path).u32(flag::READ).attrs(&attrs).u64(9).finish();
            let mut frames = Frames::default();
            frames.push(bytes);
            let mut body = Body(frames.next().unwrap().unwrap());
            assert_eq!((body.u8(), body.u32()), (Ok(kind::OPEN), Ok(7)));
            assert_eq!(body.path().unwrap(), path);
            assert_eq!((body.u32(), body.attrs(), body.u64()), (Ok(flag::READ), Ok(attrs), Ok(9)));
            assert!(body.is_empty());
            assert_eq!(body.u8(), Err(Malformed));
        }
    }

    #[test]
    fn packets_come_out_whole_however_they_arrive() {
        let packets: Vec<Bytes> =
            (0..5u32).map(|id| Frame::request(kind::DATA, id).string(&vec![7; id as usize * 700]).finish()).collect();
        let all = packets.concat();
        for size in [1, 3, 4, 5, 1000, all.len()] {
            let mut frames = Frames::default();
            let mut seen = Vec::new();
            for piece in all.chunks(size) {
                frames.push(Bytes::copy_from_slice(piece));
                while let Some(packet) = frames.next().unwrap() {
                    seen.push(packet);
                }
            }
            let expected: Vec<Bytes> = packets.iter().map(|packet| packet.slice(4..)).collect();
            assert_eq!(seen, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn a_length_that_no_server_sends_is_refused() {
        // What a chatty start-up file of a shell prints is no packet either.
        for bytes in [&b"\0\0\0\0x"[..], b"\xff\xff\xff\xffx", b"Welcome to this server"] {
            let mut frames = Frames::default();
            frames.push(Bytes::copy_from_slice(bytes));
            assert_eq!(frames.next(), Err(Malformed), "{bytes:?}");
        }
        let mut string = Body(Bytes::from_static(b"\0\0\0\x09short"));
        assert_eq!(string.string(), Err(Malformed));
    }
}
