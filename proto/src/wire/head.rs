//! Encodes MessagePack: builds the bytes between two strings of a message on the stack, and appends them to a
//! buffer at once.

use bytes::BytesMut;

use crate::KeyKind;

/// Capacity of a [`Head`] in bytes. The longest is that of a CREDIT or a DATA, with at most five integers of
/// 9 bytes.
const MAX: usize = 64;

/// A few MessagePack values, and heads of strings and containers, each in its shortest form.
pub(super) struct Head {
    bytes: [u8; MAX],
    len: usize,
}

impl Head {
    #[inline]
    pub(super) const fn new() -> Self {
        Self { bytes: [0; MAX], len: 0 }
    }

    #[inline]
    fn raw<const N: usize>(&mut self, bytes: [u8; N]) -> &mut Self {
        self.bytes[self.len..self.len + N].copy_from_slice(&bytes);
        self.len += N;
        self
    }

    /// A marker and the number that follows it.
    #[inline]
    fn marked<const N: usize>(&mut self, marker: u8, bytes: [u8; N]) -> &mut Self {
        self.raw([marker]).raw(bytes)
    }

    #[inline]
    pub(super) fn uint(&mut self, value: u64) -> &mut Self {
        match value {
            // The only form that is inlined: types and flags always have it.
            0..=0x7f => self.raw([value as u8]),
            _ => self.wide_uint(value),
        }
    }

    fn wide_uint(&mut self, value: u64) -> &mut Self {
        match value {
            ..=0xff => self.marked(0xcc, [value as u8]),
            0x100..=0xffff => self.marked(0xcd, (value as u16).to_be_bytes()),
            0x1_0000..=0xffff_ffff => self.marked(0xce, (value as u32).to_be_bytes()),
            _ => self.marked(0xcf, value.to_be_bytes()),
        }
    }

    pub(super) fn nil(&mut self) -> &mut Self {
        self.raw([0xc0])
    }

    pub(super) fn bool(&mut self, value: bool) -> &mut Self {
        self.raw([if value { 0xc3 } else { 0xc2 }])
    }

    /// The head of an array of `len` elements.
    #[inline]
    pub(super) fn array(&mut self, len: usize) -> &mut Self {
        self.container(0x90, 0xdc, len)
    }

    /// The head of a map of `len` entries.
    #[inline]
    pub(super) fn map(&mut self, len: usize) -> &mut Self {
        self.container(0x80, 0xde, len)
    }

    #[inline]
    fn container(&mut self, short: u8, long: u8, len: usize) -> &mut Self {
        match len {
            0..=15 => self.raw([short | len as u8]),
            // Can't fail: hellos have at most 32 dialects, metadata 64 entries, and the rest is constant.
            _ => self.marked(long, u16::try_from(len).expect("nothing here has 64 Ki values").to_be_bytes()),
        }
    }

    /// The head of a `str` of `len` bytes.
    ///
    /// # Panics
    /// If it has 4 GiB or more.
    #[inline]
    pub(super) fn str(&mut self, len: usize) -> &mut Self {
        match len {
            0..=31 => self.raw([0xa0 | len as u8]),
            _ => self.long(0xd9, len),
        }
    }

    /// The head of a `bin` of `len` bytes.
    ///
    /// # Panics
    /// If it has 4 GiB or more.
    #[inline]
    pub(super) fn bin(&mut self, len: usize) -> &mut Self {
        // MessagePack has no form of `bin` with the length in the marker.
        self.long(0xc4, len)
    }

    /// The head of an ordering key of `len` bytes.
    #[inline]
    pub(super) fn key(&mut self, kind: KeyKind, len: usize) -> &mut Self {
        match kind {
            KeyKind::Str => self.str(len),
            KeyKind::Bin => self.bin(len),
        }
    }

    /// A whole `str`.
    #[inline]
    pub(super) fn text<const N: usize>(&mut self, text: &[u8; N]) -> &mut Self {
        self.str(N).raw(*text)
    }

    /// A marker and a length of one, two or four bytes. `marker` is that of one byte; the others follow it.
    #[inline]
    fn long(&mut self, marker: u8, len: usize) -> &mut Self {
        match len {
            0..=0xff => self.marked(marker, [len as u8]),
            0x100..=0xffff => self.marked(marker + 1, (len as u16).to_be_bytes()),
            _ => {
                let len = u32::try_from(len).expect("strings are limited to less than 4 GiB");
                self.marked(marker + 2, len.to_be_bytes())
            }
        }
    }

    /// Appends the bytes to `buffer`, and empties the head.
    #[inline]
    pub(super) fn append_to(&mut self, buffer: &mut BytesMut) {
        // One append for all values between two strings: each append checks the capacity of the buffer.
        buffer.extend_from_slice(&self.bytes[..self.len]);
        self.len = 0;
    }
}

/// Appends a `str`.
pub(super) fn string(buffer: &mut BytesMut, text: &[u8]) {
    Head::new().str(text.len()).append_to(buffer);
    buffer.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;

    use super::*;

    fn ours(head: &mut Head) -> BytesMut {
        let mut bytes = BytesMut::new();
        head.append_to(&mut bytes);
        bytes
    }

    fn rmp<E: std::fmt::Debug>(
        write: impl Fn(&mut bytes::buf::Writer<&mut BytesMut>) -> Result<(), E>,
    ) -> BytesMut {
        let mut bytes = BytesMut::new();
        write(&mut (&mut bytes).writer()).unwrap();
        bytes
    }

    #[test]
    fn writes_what_rmp_writes() {
        use rmp::encode;
        let edges = [7, 8, 16, 32].map(|bits| 1_u64 << bits);
        let around = edges.into_iter().flat_map(|edge| [edge - 1, edge, edge + 1]);
        for value in around.chain([0, 15, 16, 31, 32, u64::MAX]) {
            assert_eq!(ours(Head::new().uint(value)), rmp(|out| encode::write_uint(out, value).map(drop)));
            let Ok(len) = u32::try_from(value) else { continue };
            assert_eq!(
                ours(Head::new().str(len as usize)),
                rmp(|out| encode::write_str_len(out, len).map(drop))
            );
            assert_eq!(
                ours(Head::new().bin(len as usize)),
                rmp(|out| encode::write_bin_len(out, len).map(drop))
            );
            if len <= u32::from(u16::MAX) {
                let len = len as usize;
                assert_eq!(
                    ours(Head::new().map(len)),
                    rmp(|out| encode::write_map_len(out, len as u32).map(drop))
                );
                assert_eq!(
                    ours(Head::new().array(len)),
                    rmp(|out| encode::write_array_len(out, len as u32).map(drop))
                );
            }
        }
        assert_eq!(
            ours(Head::new().text(b"meth").bool(true).bool(false).nil())[..],
            *b"\xa4meth\xc3\xc2\xc0"
        );
    }
}
