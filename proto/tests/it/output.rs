//! What a link has to send.

use std::io::IoSlice;

use callosum_proto::zmtp::Link;

fn joined(slices: &[IoSlice<'_>]) -> Vec<u8> {
    slices.iter().flat_map(|slice| slice.iter().copied()).collect()
}

pub(crate) fn written(link: &mut Link, most: usize) -> Vec<u8> {
    let mut slices = [IoSlice::new(&[]); 4];
    let filled = link.output(&mut slices);
    let mut bytes = joined(&slices[..filled]);
    bytes.truncate(most);
    link.advance_output(bytes.len());
    bytes
}

pub(crate) fn all_written(link: &mut Link) -> Vec<u8> {
    let mut bytes = Vec::new();
    while link.pending_output() > 0 {
        bytes.extend(written(link, usize::MAX));
    }
    bytes
}
